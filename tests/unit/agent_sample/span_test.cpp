// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/span.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

#include "agent/sample/span_reader.h"

namespace ballast::sample {
namespace {

const std::string kTrace = "0af7651916cd43dd8448eb211c80319c";
const std::string kParent = "b7ad6b7169203331";

TEST(TraceParent, ReadsWhatTheStandardShows) {
  const auto parsed = parse_traceparent("00-" + kTrace + "-" + kParent + "-01");
  ASSERT_TRUE(parsed.has_value());
  EXPECT_EQ(hex(parsed->trace), kTrace);
  EXPECT_EQ(hex(parsed->parent), kParent);
  EXPECT_TRUE(parsed->sampled);
  EXPECT_FALSE(parse_traceparent("00-" + kTrace + "-" + kParent + "-00")->sampled);
  EXPECT_TRUE(parse_traceparent("01-" + kTrace + "-" + kParent + "-01-more").has_value());
}

TEST(TraceParent, RefusesWhatTheStandardForbids) {
  const std::string zeros(32, '0');
  for (const std::string& value :
       {std::string(), std::string("00"), "00-" + kTrace + "-" + kParent,
        "ff-" + kTrace + "-" + kParent + "-01", "00-" + zeros + "-" + kParent + "-01",
        "00-" + kTrace + "-" + zeros.substr(16) + "-01", "00-" + kTrace + "-" + kParent + "-01-more",
        "00-" + std::string(32, 'A') + "-" + kParent + "-01", "00_" + kTrace + "-" + kParent + "-01"}) {
    EXPECT_FALSE(parse_traceparent(value).has_value()) << value;
  }
}

TEST(RequestHeadTest, MethodTargetAndTraceParentAtAnyCut) {
  const std::string head = "GET /a/17?q=1 HTTP/1.1\r\nHost: x\r\nTraceParent:  00-" + kTrace + "-" + kParent +
                           "-01 \r\nAccept: */*\r\n\r\n";
  const RequestHead parsed = parse_request_head(head);
  EXPECT_EQ(parsed.method, "GET");
  EXPECT_EQ(parsed.target, "/a/17?q=1");
  ASSERT_TRUE(parsed.traceparent.has_value());
  const std::size_t whole = head.find("-01 \r\n") + 6;
  for (std::size_t size = 0; size < head.size(); ++size) {
    const RequestHead cut = parse_request_head(head.substr(0, size));
    EXPECT_EQ(cut.traceparent.has_value(), size >= whole) << size;
  }
  EXPECT_EQ(parse_request_head(std::string("\x16\x03\x01 \xff")).method, "");
}

TEST(PathTemplate, TakesOutWhatIdentifies) {
  EXPECT_EQ(path_template("/"), "/");
  EXPECT_EQ(path_template("/api/v1/items/17?x=9"), "/api/v1/items/{id}");
  EXPECT_EQ(path_template("/u/550e8400-e29b-41d4-a716-446655440000/pets"), "/u/{id}/pets");
  EXPECT_EQ(path_template("/deadbeef01/face"), "/{id}/face");
  EXPECT_EQ(path_template("*"), "*");
}

/// Three services: a calls b, b calls c; each is a cgroup of its own.
Span span(CgroupId cgroup, std::uint8_t role, std::uint64_t message, MonotonicNs start, MonotonicNs end) {
  Span one;
  one.cgroup = cgroup;
  one.role = role;
  one.message = message;
  one.start = start;
  one.end = end;
  one.id = {cgroup == 0 ? std::uint8_t{1} : static_cast<std::uint8_t>(cgroup), role,
            static_cast<std::uint8_t>(message), static_cast<std::uint8_t>(start % 251)};
  return one;
}

std::vector<Span> three_services() {
  return {span(3, BALLAST_ROLE_SERVER, 12, 32, 38), span(2, BALLAST_ROLE_CLIENT, 12, 30, 40),
          span(2, BALLAST_ROLE_SERVER, 11, 22, 48), span(1, BALLAST_ROLE_CLIENT, 11, 20, 50),
          span(1, BALLAST_ROLE_SERVER, 10, 10, 60)};
}

TEST(JoinSpans, ThreeUntouchedServicesAreOneTree) {
  std::vector<Span> spans = three_services();
  join_spans(spans);
  for (std::size_t i = 0; i + 1 < spans.size(); ++i) {
    EXPECT_EQ(spans[i].parent, spans[i + 1].id) << i;
    EXPECT_EQ(spans[i].trace, spans[i + 1].trace) << i;
  }
  EXPECT_FALSE(spans.back().parent.has_value());
}

TEST(JoinSpans, AHeaderThatIsHandedOnNamesTheTraceAndTheRootsParent) {
  std::vector<Span> spans = three_services();
  const auto carried = parse_traceparent("00-" + kTrace + "-" + kParent + "-01");
  for (Span& one : spans) {
    one.head.traceparent = carried;
  }
  // A second request in service 1, of another trace, does not confuse.
  spans.push_back(span(1, BALLAST_ROLE_SERVER, 99, 5, 70));
  spans.back().head.traceparent = parse_traceparent("00-" + std::string(32, '1') + "-" + kParent + "-01");
  join_spans(spans);
  EXPECT_EQ(spans[3].parent, spans[4].id);
  EXPECT_EQ(hex(*spans[4].parent), kParent);
  EXPECT_EQ(hex(spans[0].trace), kTrace);
}

TEST(JoinSpans, ASpanOfTheApplicationsOwnIsTheParent) {
  std::vector<Span> spans = three_services();
  spans[4].head.traceparent = parse_traceparent("00-" + kTrace + "-" + kParent + "-01");
  spans[3].head.traceparent = parse_traceparent("00-" + kTrace + "-" + std::string(16, 'c') + "-01");
  join_spans(spans);
  EXPECT_EQ(hex(*spans[3].parent), std::string(16, 'c'));
}

TEST(JoinSpans, TwoCandidatesWithoutAHeaderAreNotGuessed) {
  std::vector<Span> spans = three_services();
  spans.push_back(span(1, BALLAST_ROLE_SERVER, 99, 5, 70));
  join_spans(spans);
  EXPECT_FALSE(spans[3].parent.has_value());
  EXPECT_EQ(spans[2].parent, spans[3].id) << "the connection still tells";
}

ballast_span_value row(std::uint64_t sequence, std::uint8_t role, MonotonicNs end) {
  ballast_span_value value{};
  value.sequence = sequence;
  value.role = role;
  value.start_ns = 1;
  value.end_ns = end;
  value.seq = 77;
  (role == BALLAST_ROLE_CLIENT ? value.local_port : value.peer_port) = 40000;
  (role == BALLAST_ROLE_CLIENT ? value.peer_port : value.local_port) = 80;
  const std::string head = "GET /x HTTP/1.1\r\n\r\n";
  value.head_len = static_cast<std::uint16_t>(head.size());
  std::memcpy(value.head, head.data(), head.size());
  return value;
}

TEST(ReadSpan, BothEndsAgreeOnTheMessage) {
  Http2Heads heads;
  const Span client = read_span(row(1, BALLAST_ROLE_CLIENT, 5), heads);
  const Span server = read_span(row(1, BALLAST_ROLE_SERVER, 5), heads);
  EXPECT_EQ(client.message, server.message);
  EXPECT_NE(client.id, server.id);
  EXPECT_EQ(client.head.method, "GET");
  EXPECT_EQ(client.peer, "[::]:80");
}

TEST(SpanReaderTest, EachSpanOnceAndTheOverwrittenCounted) {
  std::vector<SpanRow> slots = {{0, row(5, BALLAST_ROLE_SERVER, 10)}};
  SpanReader reader([&] { return Result<std::vector<SpanRow>>(slots); });
  const MonotonicNs later = 100 + SpanReader::kHoldNs;
  EXPECT_TRUE(reader.take(later)->empty()) << "from before us";
  slots = {{0, row(8, BALLAST_ROLE_SERVER, 10)},
           {0, row(9, BALLAST_ROLE_SERVER, later)},
           {1, row(1, BALLAST_ROLE_CLIENT, 10)}};
  EXPECT_EQ(reader.take(later)->size(), 2U) << "one ended a moment ago";
  EXPECT_EQ(reader.lost(), 2U) << "6 and 7 of the first CPU";
  EXPECT_TRUE(reader.take(later)->empty());
  EXPECT_EQ(reader.take(later + SpanReader::kHoldNs)->size(), 1U);
  EXPECT_EQ(reader.lost(), 2U);
}

}  // namespace
}  // namespace ballast::sample
