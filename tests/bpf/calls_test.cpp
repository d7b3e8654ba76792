// SPDX-License-Identifier: Apache-2.0
// Edges of the call graph and sampled spans, from real sockets.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "agent/sample/span.h"
#include "live.h"

namespace ballast::testing {
namespace {

class Calls : public LiveTest {
 protected:
  /// Edges to our server, by the peer's address.
  std::vector<sample::CallRow> edges() const {
    const auto rows = maps_->calls();
    EXPECT_TRUE(rows.ok());
    std::vector<sample::CallRow> ours;
    for (const auto& row : rows ? *rows : std::vector<sample::CallRow>{}) {
      if (row.key.port == port_) {
        ours.push_back(row);
      }
    }
    return ours;
  }
  static void ask(const Client& client, const std::string& path, const std::string& more = "") {
    client.send("GET " + path + " HTTP/1.1\r\n" + more + "\r\n");
    client.receive_until(path == "/fail" ? "busy" : "hello");
  }
};

TEST_F(Calls, AnswersAndErrorsByPeer) {
  start_server();
  {
    const Client v4(port_);
    ask(v4, "/plain");
    ask(v4, "/fail");
    const Client second(port_);
    ask(second, "/plain");
  }
  ASSERT_TRUE(eventually([&] { return edges().size() == 1 && edges()[0].value.responses == 3; }));
  const sample::CallRow edge = edges()[0];
  EXPECT_EQ(sample::address_text(edge.key.peer, edge.key.port), "127.0.0.1:" + std::to_string(port_));
  EXPECT_EQ(edge.value.errors, 1U);
  EXPECT_EQ(edge.value.first_byte.count, 3U);
  EXPECT_GT(edge.value.first_byte.sum_ns, 0U);
  const Client v6(port_, Client::Address::kV6);
  if (!v6.connected()) {
    GTEST_SKIP() << "no IPv6 here";
  }
  ask(v6, "/plain");
  ASSERT_TRUE(eventually([&] { return edges().size() == 2; }));
  EXPECT_TRUE(std::ranges::any_of(edges(), [&](const sample::CallRow& row) {
    return sample::address_text(row.key.peer, row.key.port) == "[::1]:" + std::to_string(port_) &&
           row.value.responses == 1;
  }));
}

TEST_F(Calls, NoSpansUnlessAskedFor) {
  start_server();
  const Client client(port_);
  ask(client, "/plain");
  ASSERT_TRUE(eventually([&] { return row().responses == 1; }));
  const auto spans = maps_->spans();
  ASSERT_TRUE(spans.ok());
  EXPECT_TRUE(spans->empty());
}

class Spans : public Calls {
 protected:
  Spans() { span_every_ = 1; }
  /// Both ends' spans of one request, the caller's first; empty when a slot was overwritten by other
  /// traffic of this machine, all of which is sampled here.
  std::vector<sample::Span> pair() const {
    const auto rows = maps_->spans();
    EXPECT_TRUE(rows.ok());
    const std::string end = ":" + std::to_string(port_);
    std::vector<sample::Span> found;
    sample::Http2Heads heads;
    for (const auto& row : rows ? *rows : std::vector<sample::SpanRow>{}) {
      sample::Span span = sample::read_span(row.value, heads);
      if (span.peer.ends_with(end) || span.local.ends_with(end)) {
        found.push_back(std::move(span));
      }
    }
    for (const sample::Span& caller : found) {
      for (const sample::Span& callee : found) {
        if (caller.role == BALLAST_ROLE_CLIENT && callee.role == BALLAST_ROLE_SERVER &&
            caller.message == callee.message) {
          return {caller, callee};
        }
      }
    }
    return {};
  }
};

TEST_F(Spans, BothEndsOfARequestAreJoined) {
  start_server();
  const Client client(port_);
  std::vector<sample::Span> spans;
  for (int attempt = 0; attempt < 40 && spans.empty(); ++attempt) {
    ask(client, "/slow", "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n");
    spans = pair();
  }
  ASSERT_EQ(spans.size(), 2U);
  EXPECT_EQ(spans[1].cgroup, cgroup_->id());
  for (const sample::Span& span : spans) {
    EXPECT_EQ(span.head.method, "GET");
    EXPECT_EQ(span.head.target, "/slow");
    EXPECT_EQ(span.status, 200);
    EXPECT_TRUE(span.head.traceparent.has_value());
    EXPECT_GE(span.first_byte - span.start, 50'000'000U) << "the server sleeps that long";
    EXPECT_GE(span.end, span.first_byte);
  }
  EXPECT_LE(spans[0].start, spans[1].start);
  EXPECT_GE(spans[0].end, spans[1].end);
  sample::join_spans(spans);
  EXPECT_EQ(spans[1].parent, spans[0].id);
  EXPECT_EQ(sample::hex(spans[1].trace), "0af7651916cd43dd8448eb211c80319c");
}

}  // namespace
}  // namespace ballast::testing
