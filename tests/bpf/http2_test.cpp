// SPDX-License-Identifier: Apache-2.0
// HTTP/2 over loopback: nghttp2's programs, and frames by hand against its server.
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "agent/sample/span.h"
#include "frames.h"
#include "live.h"

namespace ballast::testing {
namespace {

namespace frame = bpf::frame;

// :method GET or POST, :scheme http, :path /index.html from the static table, :authority "test".
const std::string kGet = "\x82\x86\x85\x41\x04test";
const std::string kPost = "\x83\x86\x85\x41\x04test";

std::string opening() {
  return frame::kPreface + frame::settings() + frame::make(HTTP2_SETTINGS, HTTP2_ACK, 0, "");
}

class Http2Probe : public LiveTest {
 protected:
  explicit Http2Probe(bool keep = true) : LiveTest(keep) {}

  void SetUp() override {
    if (std::system("command -v nghttpd h2load nghttp >/dev/null 2>&1") != 0) {
      GTEST_SKIP() << "nghttp2-client and nghttp2-server are not installed";
    }
    LiveTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    auto documents = TempDir::create("/tmp", "ballast-h2-");
    ASSERT_TRUE(documents.ok()) << documents.error().message;
    documents_.emplace(std::move(*documents));
    std::ofstream(documents_->path() / "index.html") << "hello";
    std::ofstream(documents_->path() / "big") << std::string(1U << 20, 'b');
    const std::uint16_t port = free_port();
    start_server(
        {"nghttpd", "--no-tls", "-a", "127.0.0.1", "-d", documents_->path().string(), std::to_string(port)},
        port);
    client_cgroup_ =
        std::make_unique<TestCgroup>(probes_->cgroup_root(), "ballast-client-" + std::to_string(::getpid()));
  }

  void TearDown() override {
    LiveTest::TearDown();
    client_cgroup_.reset();
  }

  // Runs a client in a cgroup of its own to its end.
  void run(std::vector<std::string> argv) const {
    ProcessOptions options;
    options.argv = std::move(argv);
    options.output = "/dev/null";
    options.cgroups = {client_cgroup_->path()};
    auto client = ChildProcess::spawn(options);
    ASSERT_TRUE(client.ok()) << client.error().message;
    const auto ended = client->wait(std::chrono::seconds(60));
    ASSERT_TRUE(ended.has_value()) << options.argv[0] << " does not end";
    EXPECT_EQ(ended->code, 0) << options.argv[0];
  }

  std::string url(const std::string& path) const {
    return "http://127.0.0.1:" + std::to_string(port_) + path;
  }

  ballast_request_value server() const { return row(BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_HTTP2); }
  ballast_request_value client() const {
    return row_of(client_cgroup_->id(), BALLAST_ROLE_CLIENT, BALLAST_PROTOCOL_HTTP2);
  }

  static void expect_exchanges(const ballast_request_value& value, std::uint64_t count) {
    EXPECT_EQ(value.requests, count);
    EXPECT_EQ(value.responses, count);
    EXPECT_EQ(value.in_flight, 0);
    EXPECT_EQ(value.status[2], count);
    EXPECT_EQ(value.first_byte.count, count);
    EXPECT_EQ(value.last_byte.count, count);
    EXPECT_LE(value.first_byte.sum_ns, value.last_byte.sum_ns);
  }

  // One answer whose END_STREAM came: nghttpd sends the body in one DATA frame.
  static bool answered(const Client& client) { return client.receive_until("hello") != ""; }

  std::optional<TempDir> documents_;
  std::unique_ptr<TestCgroup> client_cgroup_;
};

TEST_F(Http2Probe, CountsWhatH2loadCounts) {
  std::uint64_t sum = 0;
  for (const int streams : {1, 10, 100}) {
    run({"h2load", "-n", "3000", "-c", "4", "-m", std::to_string(streams), url("/index.html")});
    sum += 3000;
    expect_exchanges(server(), sum);
    expect_exchanges(client(), sum);
  }
  EXPECT_EQ(row(BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_HTTP1).requests, 0U);
}

// Loopback may bring segments out of order between two CPUs. What that hides is said as a gap, so a run
// with one shows that nothing is missing in silence; one without has to be exact.
TEST_F(Http2Probe, LargeBodies) {
  std::uint64_t told = 0;
  for (int i = 0; i < 5; ++i) {
    const auto caller = client();
    const auto called = server();
    run({"h2load", "-n", "20", "-c", "2", "-m", "5", url("/big")});
    const auto gaps = loss(BALLAST_LOSS_GAP).events;
    if (gaps == told) {
      for (const auto& [before, after] : {std::pair(caller, client()), std::pair(called, server())}) {
        EXPECT_EQ(after.requests, before.requests + 20);
        EXPECT_EQ(after.responses, before.responses + 20);
        EXPECT_EQ(after.in_flight, before.in_flight);
        EXPECT_EQ(after.status[2], before.status[2] + 20);
        EXPECT_EQ(after.first_byte.count, before.first_byte.count + 20);
        EXPECT_EQ(after.last_byte.count, before.last_byte.count + 20);
      }
      return;
    }
    told = gaps;
  }
  FAIL() << "a gap in each of five runs";
}

TEST_F(Http2Probe, StatusOfAnswers) {
  run({"nghttp", "-n", url("/none"), url("/index.html"), url("/nothing")});
  EXPECT_EQ(server().status[2], 1U);
  EXPECT_EQ(server().status[4], 2U);
  EXPECT_EQ(client().status[4], 2U);
}

TEST_F(Http2Probe, RequestsCutAtEveryByte) {
  const std::string stream = opening() + frame::headers(1, kGet, false) + frame::data(1, "body", true);
  for (std::size_t cut = 1; cut < stream.size(); ++cut) {
    const Client client(port_);
    client.send(stream.substr(0, cut));
    wait_a_little();
    client.send(stream.substr(cut));
    ASSERT_TRUE(answered(client)) << "cut at " << cut;
  }
  expect_exchanges(server(), stream.size() - 1);
}

TEST_F(Http2Probe, ManyFramesInOnePacket) {
  const Client client(port_);
  std::string burst = opening();
  for (u32 id = 1; id < 100; id += 2) {
    burst += frame::headers(id, kGet, true) + frame::make(HTTP2_PING, 0, 0, std::string(8, 'p'));
  }
  client.send(burst);
  EXPECT_TRUE(eventually([this] { return server().responses == 50; }));
  expect_exchanges(server(), 50);
}

TEST_F(Http2Probe, PaddingPriorityContinuation) {
  const Client client(port_);
  const std::string padded =
      std::string(1, '\3') + std::string(4, '\0') + "\x10" + kGet.substr(0, 2) + std::string(3, '\0');
  client.send(opening() +
              frame::make(HTTP2_HEADERS, HTTP2_PADDED | HTTP2_HAS_PRIORITY | HTTP2_END_STREAM, 1, padded));
  wait_a_little();
  client.send(frame::make(HTTP2_CONTINUATION, HTTP2_END_HEADERS, 1, kGet.substr(2)));
  ASSERT_TRUE(answered(client));
  expect_exchanges(server(), 1);
}

TEST_F(Http2Probe, ResetsGiveTheRequestBack) {
  const Client client(port_);
  client.send(opening() + frame::headers(1, kPost, false) + frame::headers(3, kPost, false));
  ASSERT_TRUE(eventually([this] { return server().in_flight == 2; }));
  client.send(frame::make(HTTP2_RST_STREAM, 0, 1, frame::number(8, 4)));
  EXPECT_TRUE(eventually([this] { return server().in_flight == 1; }));
  EXPECT_GE(loss(BALLAST_LOSS_STREAM_RESET).events, 1U);
  client.send(frame::headers(5, kGet, true));
  ASSERT_TRUE(answered(client));
  EXPECT_TRUE(eventually([this] { return server().responses == 1; }));
  EXPECT_EQ(server().requests, 3U);
}

TEST_F(Http2Probe, ClosingGivesTheRequestsBack) {
  Client client(port_);
  client.send(opening() + frame::headers(1, kPost, false) + frame::headers(3, kPost, false));
  ASSERT_TRUE(eventually([this] { return server().in_flight == 2; }));
  client.reset();
  EXPECT_TRUE(eventually([this] { return server().in_flight == 0; }));
  EXPECT_GE(loss(BALLAST_LOSS_ABANDONED).events, 2U);
}

TEST_F(Http2Probe, GarbageInMidConnectionHarmsNobodyElse) {
  const Client good(port_);
  good.send(opening() + frame::headers(1, kGet, true));
  ASSERT_TRUE(answered(good));
  const Client bad(port_);
  bad.send(opening() + frame::make(HTTP2_PING, 0, 0, std::string(3000, '\xff')));
  EXPECT_TRUE(eventually([this] { return loss(BALLAST_LOSS_PARSE).events >= 1; }));
  good.send(frame::headers(3, kGet, true));
  ASSERT_TRUE(answered(good));
  expect_exchanges(server(), 2);
}

TEST_F(Http2Probe, AdoptedInMidLife) {
  const Client client(port_);
  client.send(opening() + frame::headers(1, kGet, true));
  ASSERT_TRUE(answered(client));
  unload();
  load();
  client.send(frame::headers(3, kGet, true));
  ASSERT_TRUE(answered(client));
  client.send(frame::headers(5, kGet, true));
  ASSERT_TRUE(answered(client));
  expect_exchanges(server(), 2);
}

class Http2Spans : public Http2Probe {
 protected:
  Http2Spans() : Http2Probe(false) { span_every_ = 1; }
  // The server's spans, in the order of their requests.
  std::vector<sample::Span> spans() const {
    std::vector<sample::SpanRow> mine;
    const auto rows = maps_->spans();
    EXPECT_TRUE(rows.ok());
    for (const auto& each : *rows) {
      if (each.value.cgroup_id == cgroup_->id() && each.value.role == BALLAST_ROLE_SERVER) {
        mine.push_back(each);
      }
    }
    std::ranges::sort(mine, {}, [](const auto& each) { return each.value.start_ns; });
    sample::Http2Heads heads;
    std::vector<sample::Span> read;
    for (const auto& each : mine) {
      read.push_back(sample::read_span(each.value, heads));
    }
    return read;
  }
};

TEST_F(Http2Spans, CarryMethodPathAndTraceParent) {
  const std::string trace = "0af7651916cd43dd8448eb211c80319c";
  const std::string carried = frame::field(0, "traceparent", "00-" + trace + "-b7ad6b7169203331-01");
  const Client client(port_);
  // Slots are shared with the machine's other traffic, all of which is sampled here: tried again
  // where one was overwritten. :path is a literal that goes into the table, then its index.
  bool seen = false;
  const std::string first = "\x82\x86\x41\x04test" + frame::field(0x44, "", "/index.html?n=7") + carried;
  const std::string second = "\x82\x86\xbe" + carried;
  client.send(opening() + frame::headers(1, first, true));
  ASSERT_TRUE(answered(client));
  for (u32 id = 3; id < 40 && !seen; id += 2) {
    client.send(frame::headers(id, id % 4 == 1 ? first : second, true));
    ASSERT_TRUE(answered(client));
    for (const sample::Span& span : spans()) {
      EXPECT_EQ(span.head.method, "GET");
      EXPECT_TRUE(span.head.target == "/index.html?n=7" || span.head.target.empty()) << span.head.target;
      EXPECT_EQ(span.status, 200);
      EXPECT_GE(span.first_byte, span.start);
      EXPECT_GE(span.end, span.first_byte);
      seen = seen || (span.head.traceparent && sample::hex(span.head.traceparent->trace) == trace &&
                      span.head.target == "/index.html?n=7");
    }
  }
  EXPECT_TRUE(seen);
}

}  // namespace
}  // namespace ballast::testing
