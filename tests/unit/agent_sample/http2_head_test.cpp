// SPDX-License-Identifier: Apache-2.0
// nghttp2's encoder keeps the table; what is read back without having seen every head is held
// against what was sent.
#include "agent/sample/http2_head.h"

#include <gtest/gtest.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

namespace ballast::sample {
namespace {

using Fields = std::vector<std::pair<std::string, std::string>>;
const std::string kTraceParent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

class Peer {
 public:
  Peer() { nghttp2_hd_deflate_new(&deflater_, 4096); }
  ~Peer() { nghttp2_hd_deflate_del(deflater_); }
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  /// A sampled request as the kernel leaves it.
  ballast_span_value request(Fields fields, std::uint8_t flags = 0x4) {
    std::vector<nghttp2_nv> nv;
    for (auto& [name, value] : fields) {
      nv.push_back({reinterpret_cast<std::uint8_t*>(name.data()),
                    reinterpret_cast<std::uint8_t*>(value.data()), name.size(), value.size(),
                    NGHTTP2_NV_FLAG_NONE});
    }
    std::vector<std::uint8_t> block(nghttp2_hd_deflate_bound(deflater_, nv.data(), nv.size()));
    const auto size = nghttp2_hd_deflate_hd(deflater_, block.data(), block.size(), nv.data(), nv.size());
    EXPECT_GT(size, 0);
    block.resize(static_cast<std::size_t>(size));
    ballast_span_value row{};
    row.protocol = BALLAST_PROTOCOL_HTTP2;
    row.local_port = 80;
    row.peer_port = 40000;
    row.start_ns = ++now_;
    row.inserted = inserted_;
    inserted_ = entries_after();
    std::string lead;
    lead += (flags & 0x8) != 0 ? std::string(1, '\3') : "";
    lead += (flags & 0x20) != 0 ? std::string(5, '\1') : "";
    std::string frame = lead + std::string(block.begin(), block.end()) + ((flags & 0x8) != 0 ? "pad" : "");
    const std::string header = {0,
                                static_cast<char>(frame.size() >> 8),
                                static_cast<char>(frame.size()),
                                1,
                                static_cast<char>(flags),
                                0,
                                0,
                                0,
                                1};
    frame = header + frame;
    row.head_len = static_cast<std::uint16_t>(std::min<std::size_t>(frame.size(), sizeof row.head));
    std::memcpy(row.head, frame.data(), row.head_len);
    return row;
  }

 private:
  // Nothing is evicted from a table this large, so what was taken in is what is there.
  std::uint32_t entries_after() const {
    return static_cast<std::uint32_t>(nghttp2_hd_deflate_get_num_table_entries(deflater_)) - 61;
  }
  nghttp2_hd_deflater* deflater_ = nullptr;
  std::uint32_t inserted_ = 0;
  MonotonicNs now_ = 0;
};

Fields get(const std::string& path, const std::string& traceparent = "") {
  Fields fields = {{":method", "GET"},
                   {":scheme", "http"},
                   {":path", path},
                   {":authority", "shop"},
                   {"user-agent", "test"}};
  if (!traceparent.empty()) {
    fields.emplace_back("traceparent", traceparent);
  }
  return fields;
}

TEST(Http2Heads, MethodPathAndTraceParent) {
  Peer peer;
  Http2Heads heads;
  const RequestHead head = heads.read(peer.request(get("/cart/17", kTraceParent)));
  EXPECT_EQ(head.method, "GET");
  EXPECT_EQ(head.target, "/cart/17");
  ASSERT_TRUE(head.traceparent.has_value());
  EXPECT_TRUE(head.traceparent->sampled);
}

/// A head by hand: nghttp2 takes no :path into its table.
ballast_span_value by_hand(std::uint32_t inserted, const std::string& block) {
  ballast_span_value row{};
  row.protocol = BALLAST_PROTOCOL_HTTP2;
  row.start_ns = 1 + inserted;
  row.inserted = inserted;
  const std::string frame = std::string{0, 0, static_cast<char>(block.size()), 1, 0x4, 0, 0, 0, 1} + block;
  row.head_len = static_cast<std::uint16_t>(frame.size());
  std::memcpy(row.head, frame.data(), frame.size());
  return row;
}
const std::string kIntoTable = std::string("\x82\x86\x44\x05/cart", 9);
const std::string kTrace = std::string("\0\x0btraceparent\x37", 14) + kTraceParent;

TEST(Http2Heads, WhatAnEarlierHeadTookInIsKnown) {
  Http2Heads heads;
  EXPECT_EQ(heads.read(by_hand(0, kIntoTable)).target, "/cart");
  EXPECT_EQ(heads.read(by_hand(1, "\x82\x86\xbe")).target, "/cart") << "the newest";
  EXPECT_EQ(heads.read(by_hand(4, "\x82\x86\xc1")).target, "/cart") << "three that nobody saw came after it";
}

TEST(Http2Heads, WhatAHeadThatWasNotSampledTookInIsUnknown) {
  Http2Heads heads;
  heads.read(by_hand(0, kIntoTable));
  const RequestHead head = heads.read(by_hand(4, "\x82\x86\xbe" + kTrace));
  EXPECT_EQ(head.method, "GET");
  EXPECT_EQ(head.target, "") << "nothing, and not another request's";
  EXPECT_TRUE(head.traceparent.has_value()) << "after what could not be read";
}

TEST(Http2Heads, PaddingAndPriorityAreNotTheBlock) {
  Peer peer;
  Http2Heads heads;
  EXPECT_EQ(heads.read(peer.request(get("/a"), 0x4 | 0x8)).target, "/a");
  EXPECT_EQ(heads.read(peer.request(get("/b"), 0x4 | 0x20)).target, "/b");
  EXPECT_EQ(heads.read(peer.request(get("/c"), 0x4 | 0x8 | 0x20)).target, "/c");
}

TEST(Http2Heads, AnotherConnectionBetweenTheSamePortsBeginsAnew) {
  Http2Heads heads;
  Peer first;
  heads.read(first.request(get("/old")));
  heads.read(first.request(get("/older")));
  Peer second;
  EXPECT_EQ(heads.read(second.request(get("/new"))).target, "/new");
  EXPECT_EQ(heads.read(second.request(get("/new"))).target, "/new");
}

TEST(Http2Heads, CutsAndNonsenseGiveWhatIsThere) {
  Peer peer;
  const ballast_span_value whole = peer.request(get("/cart/17", kTraceParent));
  for (std::uint16_t size = 0; size <= whole.head_len; ++size) {
    ballast_span_value cut = whole;
    cut.head_len = size;
    Http2Heads heads;
    const RequestHead head = heads.read(cut);
    EXPECT_TRUE(head.target.empty() || head.target == "/cart/17") << size;
    EXPECT_EQ(head.traceparent.has_value(), size == whole.head_len) << size;
  }
  ballast_span_value nonsense = whole;
  std::memset(nonsense.head + 9, 0xff, sizeof nonsense.head - 9);
  Http2Heads heads;
  EXPECT_EQ(heads.read(nonsense).target, "");
  nonsense.head[4] = 0x8;
  EXPECT_EQ(heads.read(nonsense).target, "");
}

}  // namespace
}  // namespace ballast::sample
