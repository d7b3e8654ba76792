// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "frames.h"
#include "http2_driver.h"

namespace ballast::bpf {
namespace {

using Event = Http2Driver::Event;

// :method GET, :scheme http, :path /, all from the static table.
const std::string kGet = "\x82\x86\x84";
const std::string kOk = "\x88";

std::string client_stream() {
  return frame::kPreface + frame::settings() + frame::headers(1, kGet, true) +
         frame::headers(3, kGet, false) + frame::data(3, std::string(700, 'x'), false) +
         frame::make(HTTP2_PING, 0, 0, std::string(8, 'p')) + frame::data(3, "", true) +
         frame::make(HTTP2_WINDOW_UPDATE, 0, 0, std::string(4, '\1')) +
         frame::make(HTTP2_RST_STREAM, 0, 3, std::string(4, '\0'));
}

std::string server_stream() {
  return frame::settings() + frame::make(HTTP2_SETTINGS, HTTP2_ACK, 0, "") + frame::headers(1, kOk, false) +
         frame::headers(3, "\x8d", true) + frame::data(1, "hello", false) +
         frame::data(1, std::string(1000, '\0'), true) +
         frame::make(HTTP2_GOAWAY, 0, 0, frame::number(3, 4) + frame::number(0, 4));
}

TEST(Http2, BothDirections) {
  Http2Driver client;
  client.packet(client_stream());
  ASSERT_EQ(client.events().size(), 5U);
  EXPECT_EQ(client.events()[0].kind, HTTP2_STARTED);
  EXPECT_EQ(client.events()[1], (Event{HTTP2_HEAD, 1, true, HPACK_REQUEST, 0, HPACK_GRPC_UNKNOWN, false, 0}));
  EXPECT_EQ(client.events()[2].stream, 3U);
  EXPECT_EQ(client.events()[3], (Event{HTTP2_DATA_END, 3}));
  EXPECT_EQ(client.events()[4], (Event{HTTP2_RESET, 3}));
  EXPECT_EQ(client.bad(), 0);

  Http2Driver server;
  server.packet(server_stream());
  ASSERT_EQ(server.events().size(), 4U);
  EXPECT_EQ(server.events()[0],
            (Event{HTTP2_HEAD, 1, false, HPACK_RESPONSE, 200, HPACK_GRPC_UNKNOWN, false, 0}));
  EXPECT_EQ(server.events()[1].status, 404);
  EXPECT_TRUE(server.events()[1].end_stream);
  EXPECT_EQ(server.events()[2], (Event{HTTP2_DATA_END, 1}));
  EXPECT_EQ(server.events()[3].last_id, 3U);
}

TEST(Http2, CutAtEveryByte) {
  for (const auto& stream : {client_stream(), server_stream()}) {
    Http2Driver whole;
    whole.packet(stream);
    for (std::size_t cut = 1; cut < stream.size(); ++cut) {
      Http2Driver driver;
      driver.packet(stream.substr(0, cut));
      driver.packet(stream.substr(cut));
      EXPECT_EQ(driver.events(), whole.events()) << "cut at " << cut;
      EXPECT_EQ(driver.bad(), 0) << "cut at " << cut;
    }
    for (const std::size_t size : {1U, 2U, 3U, 8U, 9U, 10U, 255U, 256U, 257U}) {
      Http2Driver driver;
      driver.packets(stream, size);
      EXPECT_EQ(driver.events(), whole.events()) << "packets of " << size;
    }
  }
}

TEST(Http2, PaddingPriorityAndContinuation) {
  const std::string padded =
      std::string(1, '\5') + std::string(5, '\7') + kGet.substr(0, 1) + std::string(5, '\0');
  const std::string stream =
      frame::make(HTTP2_HEADERS, HTTP2_PADDED | HTTP2_HAS_PRIORITY | HTTP2_END_STREAM, 5, padded) +
      frame::make(HTTP2_CONTINUATION, 0, 5, kGet.substr(1, 1)) + frame::make(HTTP2_CONTINUATION, 0, 5, "") +
      frame::make(HTTP2_CONTINUATION, HTTP2_END_HEADERS, 5, kGet.substr(2)) +
      frame::make(HTTP2_DATA, HTTP2_PADDED | HTTP2_END_STREAM, 7, std::string(1, '\3') + "ab" + "\0\0\0");
  for (std::size_t size = 1; size < 100; ++size) {
    Http2Driver driver;
    driver.packets(frame::kPreface + frame::settings() + stream, size);
    ASSERT_EQ(driver.events().size(), 3U) << size;
    EXPECT_EQ(driver.events()[1].stream, 5U);
    EXPECT_TRUE(driver.events()[1].end_stream);
    EXPECT_EQ(driver.events()[1].side, HPACK_REQUEST);
    EXPECT_EQ(driver.events()[2], (Event{HTTP2_DATA_END, 7}));
  }
}

TEST(Http2, PushPromisesAreNoAnswers) {
  Http2Driver driver;
  driver.packet(frame::settings() +
                frame::make(HTTP2_PUSH_PROMISE, HTTP2_END_HEADERS, 1, frame::number(2, 4) + kGet) +
                frame::headers(1, kOk, true));
  ASSERT_EQ(driver.events().size(), 1U);
  EXPECT_EQ(driver.events()[0].status, 200);
}

TEST(Http2, WhatIsNoFrameIsBad) {
  const std::string start = frame::kPreface + frame::settings();
  for (const auto& frame :
       {frame::make(HTTP2_PING, 0, 0, "short"), frame::make(HTTP2_DATA, 0, 0, "x"),
        frame::make(HTTP2_RST_STREAM, 0, 1, "12345"), frame::make(HTTP2_SETTINGS, 0, 1, ""),
        frame::make(HTTP2_SETTINGS, HTTP2_ACK, 0, "123456"), frame::make(HTTP2_CONTINUATION, 0, 1, "x"),
        frame::make(HTTP2_HEADERS, HTTP2_PADDED, 1, std::string(1, '\x10') + "x"),
        frame::make(HTTP2_HEADERS, HTTP2_HAS_PRIORITY, 1, "1234"),
        frame::make(HTTP2_HEADERS, 0, 1, kGet) + frame::data(1, "x", true)}) {
    Http2Driver driver;
    driver.packet(start + frame);
    EXPECT_EQ(driver.bad(), 1);
    driver.packet(frame::headers(9, kGet, true));
    EXPECT_EQ(driver.events().back().stream, 9U) << "it goes on with the next packet";
  }
}

TEST(Http2, UnknownFramesArePassedOver) {
  Http2Driver driver;
  driver.packet(frame::kPreface + frame::settings() + frame::make(0x10, 0xff, 0, "priority update") +
                frame::headers(1, kGet, true));
  EXPECT_EQ(driver.count(HTTP2_HEAD), 1U);
  EXPECT_EQ(driver.bad(), 0);
}

TEST(Http2, AGapInsideABodyIsHarmless) {
  Http2Driver driver;
  driver.packet(frame::settings());
  const std::string body = frame::data(1, std::string(5000, 'b'), true);
  driver.packet(body.substr(0, 1000));
  driver.gap(3000);
  driver.packet(body.substr(4000));
  EXPECT_EQ(driver.count(HTTP2_DATA_END), 1U);
}

TEST(Http2, AGapOverAHeadIsMadeGoodWithTheNextPacket) {
  Http2Driver driver;
  driver.packet(frame::settings());
  driver.gap(100);
  driver.packet(std::string(50, 'z'));
  EXPECT_EQ(driver.bad(), 1);
  driver.packet(frame::headers(5, kOk, true));
  EXPECT_EQ(driver.count(HTTP2_HEAD), 1U);
}

TEST(Http2, AdoptedInMidLife) {
  Http2Driver adopted(true);
  adopted.packet("the rest of a body");
  EXPECT_FALSE(adopted.speaks_http2());
  adopted.packet(frame::headers(77, kGet, true));
  ASSERT_TRUE(adopted.speaks_http2());
  ASSERT_EQ(adopted.events().size(), 1U);
  EXPECT_EQ(adopted.events()[0].side, HPACK_REQUEST);

  Http2Driver fresh;
  fresh.packet(frame::headers(77, kGet, true));
  EXPECT_FALSE(fresh.speaks_http2()) << "a new connection begins with its preface or SETTINGS";
}

TEST(Http2, OtherProtocolsThatBeginWithAZero) {
  Http2Driver postgres;
  postgres.packet(std::string("\0\0\0\x54\0\3\0\0user\0app\0", 17));
  EXPECT_FALSE(postgres.speaks_http2());
  EXPECT_EQ(postgres.bad(), 1);
}

TEST(Http2, NoiseNeverStopsIt) {
  std::mt19937 random(1);
  for (int round = 0; round < 300; ++round) {
    std::string noise = round % 2 == 0 ? frame::kPreface + frame::settings() : client_stream();
    const std::size_t keep = noise.size() / 2;
    for (int i = 0; i < 400; ++i) {
      noise += static_cast<char>(random() % (i % 3 == 0 ? 10 : 256));
    }
    noise[keep + random() % (noise.size() - keep)] ^= static_cast<char>(1 << random() % 8);
    Http2Driver driver(round % 3 == 0);
    driver.packets(noise, 1 + random() % 300);
    EXPECT_LE(driver.events().size(), noise.size());
  }
}

TEST(Http2, SlotsByStream) {
  http2_slot slots[HTTP2_STREAMS] = {};
  u32 kept = 0;
  for (u32 id = 1; id < 2 * HTTP2_STREAMS; id += 2) {
    http2_slot* slot = http2_find(slots, id, 0);
    ASSERT_NE(slot, nullptr) << id;
    slot->id = id;
    slot->start_ns = id;
    ++kept;
  }
  EXPECT_EQ(kept, HTTP2_STREAMS);
  EXPECT_EQ(http2_find(slots, 2 * HTTP2_STREAMS + 1, 0), nullptr) << "full";
  for (u32 id = 1; id < 2 * HTTP2_STREAMS; id += 2) {
    EXPECT_EQ(http2_find(slots, id, id)->start_ns, id);
  }
  // A stream that lasts is not in the way of those that come and go.
  for (u32 id = 3; id < 2 * HTTP2_STREAMS; id += 2) {
    http2_find(slots, id, id)->id = 0;
  }
  for (u32 id = 2 * HTTP2_STREAMS + 1; id < 20 * HTTP2_STREAMS; id += 2) {
    http2_slot* slot = http2_find(slots, id, 0);
    ASSERT_NE(slot, nullptr) << id;
    slot->id = id;
    http2_find(slots, id, id)->id = 0;
  }
  EXPECT_EQ(http2_find(slots, 1, 1)->start_ns, 1U);
}

}  // namespace
}  // namespace ballast::bpf
