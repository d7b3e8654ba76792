// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <string>

#include "http1_driver.h"

namespace ballast::bpf {
namespace {

const std::string kGet = "GET /a?b=c HTTP/1.1\r\nHost: example\r\nUser-Agent: t\r\n\r\n";
const std::string kPost =
    "POST /form HTTP/1.1\r\nHost: example\r\ncOnTeNt-lEnGtH:  34 \r\nContent-Type: text/plain\r\n\r\n"
    "GET /body HTTP/1.1\r\nHost: body\r\n\r\n";
const std::string kChunkedPost =
    "PUT /up HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\nTE: trailers\r\n\r\n"
    "5\r\nGET /\r\n1a;ext=\"x\"\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\nTrailer: Content-Length: 5\r\n\r\n";
const std::string kOk =
    "HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 6\r\nConnection: keep-alive\r\n\r\nhello\n";
const std::string kChunkedOk = "HTTP/1.1 200 OK\r\ntransfer-encoding:chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
const std::string kNoContent = "HTTP/1.1 204 No Content\r\nDate: today\r\n\r\n";

TEST(Http1, ARequestWithoutABody) {
  Http1Driver driver;
  driver.packet(kGet);
  ASSERT_EQ(driver.messages().size(), 1U);
  EXPECT_EQ(driver.messages()[0], (Http1Driver::Message{HTTP1_REQUEST, 0, 0, true}));
  EXPECT_EQ(driver.bad(), 0);
}

TEST(Http1, BodiesThatLookLikeMessagesAreSkipped) {
  Http1Driver driver;
  driver.packet(kPost + kChunkedPost + kGet);
  EXPECT_EQ(driver.messages().size(), 3U);
  EXPECT_EQ(driver.complete(), 3U);
  EXPECT_EQ(driver.bad(), 0);
}

TEST(Http1, StatusAndBodyOfResponses) {
  Http1Driver driver;
  driver.packet(kOk + kChunkedOk + kNoContent + "HTTP/1.0 503 Oh\r\nContent-Length: 0\r\n\r\n");
  ASSERT_EQ(driver.complete(), 4U);
  EXPECT_EQ(driver.messages()[0].status, 200);
  EXPECT_EQ(driver.messages()[2].status, 204);
  EXPECT_EQ(driver.messages()[3].status, 503);
  EXPECT_EQ(driver.messages()[3].kind, HTTP1_RESPONSE);
}

TEST(Http1, CutAtEveryByte) {
  for (const auto& stream : {kGet + kPost + kChunkedPost + kGet, kOk + kChunkedOk + kNoContent + kOk}) {
    Http1Driver whole;
    whole.packet(stream);
    for (std::size_t cut = 1; cut < stream.size(); ++cut) {
      Http1Driver driver;
      driver.packet(stream.substr(0, cut));
      driver.packet(stream.substr(cut));
      EXPECT_EQ(driver.messages(), whole.messages()) << "cut at " << cut;
      EXPECT_EQ(driver.bad(), 0) << "cut at " << cut;
    }
    for (const std::size_t size : {1U, 2U, 3U, 7U, 8U, 9U, 64U, 255U, 256U, 257U}) {
      Http1Driver driver;
      driver.packets(stream, size);
      EXPECT_EQ(driver.messages(), whole.messages()) << "packets of " << size;
    }
  }
}

TEST(Http1, HeadAnswersHaveNoBody) {
  Http1Driver driver;
  driver.packet("HEAD / HTTP/1.1\r\n\r\n");
  ASSERT_EQ(driver.messages().size(), 1U);
  EXPECT_EQ(driver.messages()[0].flags, HTTP1_HEAD_METHOD);
  Http1Driver answers;
  answers.packet("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n" + kOk, HTTP1_HEAD_METHOD);
  EXPECT_EQ(answers.messages().size(), 1U + 1U);
}

TEST(Http1, InterimResponsesArePassedOver) {
  Http1Driver driver;
  driver.packet("HTTP/1.1 100 Continue\r\n\r\n");
  EXPECT_TRUE(http1_interim(&driver.stream()));
  EXPECT_EQ(driver.state(), HTTP1_START);
  driver.packet(kOk);
  EXPECT_FALSE(http1_interim(&driver.stream()));
}

TEST(Http1, TunnelsAndBodiesToTheEnd) {
  Http1Driver upgrade;
  upgrade.packet("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n" + kOk);
  EXPECT_EQ(upgrade.messages().size(), 1U);
  EXPECT_EQ(upgrade.state(), HTTP1_TUNNEL);
  Http1Driver connect;
  connect.packet("HTTP/1.1 200 OK\r\n\r\n" + kOk, HTTP1_CONNECT_METHOD);
  EXPECT_EQ(connect.state(), HTTP1_TUNNEL);
  Http1Driver refused;
  refused.packet("HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno" + kOk, HTTP1_CONNECT_METHOD);
  EXPECT_EQ(refused.complete(), 2U);
  Http1Driver endless;
  endless.packet("HTTP/1.1 200 OK\r\n\r\n" + kOk + kOk);
  EXPECT_EQ(endless.messages().size(), 1U);
  EXPECT_EQ(endless.complete(), 0U);
  EXPECT_EQ(endless.state(), HTTP1_UNTIL_CLOSE);
}

TEST(Http1, TransferEncodingBeatsLengthAndOnlyTheLastCodingCounts) {
  Http1Driver both;
  both.packet(
      "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n\r\n" + kOk);
  EXPECT_EQ(both.complete(), 2U);
  Http1Driver other;
  other.packet("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n");
  EXPECT_EQ(other.state(), HTTP1_UNTIL_CLOSE);
  Http1Driver similar;
  similar.packet("HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\nContent-Length: 0\r\n\r\n");
  EXPECT_EQ(similar.complete(), 1U);
}

TEST(Http1, NamesThatOnlyBeginLikeOurs) {
  Http1Driver driver;
  driver.packet(
      "POST / HTTP/1.1\r\nContent-Lengthy: 9\r\nX-Content-Length: 9\r\nContent: 1\r\nT: 1\r\nc\r\n"
      "Transfer-Encodings: chunked\r\n\r\n" +
      kGet);
  EXPECT_EQ(driver.complete(), 2U);
}

TEST(Http1, BareLineFeedsAndEmptyLinesBefore) {
  Http1Driver driver;
  driver.packet("\r\n\nGET / HTTP/1.0\nHost: x\n\n\r\n" + kGet);
  EXPECT_EQ(driver.complete(), 2U);
}

TEST(Http1, WhatIsNotHttpIsSaidSo) {
  for (const std::string& bytes :
       {std::string("\x16\x03\x01\x02\x00\x01\x00\x01", 8), std::string("PRI * HTTP/1.1\r\n\r\n"),
        std::string("get key\r\n"), std::string("get key\r\nvalue x HTTP/1.1\r\n\r\n"),
        std::string("*1\r\n$4\r\nPING\r\n"), std::string("EHLO mail example x\r\n"),
        std::string("HTTP/2 200\r\n"), std::string("GE(T / HTTP/1.1\r\n"), std::string(" / HTTP/1.1\r\n"),
        std::string("G\x80T / HTTP/1.1\r\n"), std::string(HTTP1_METHOD_MAX + 1, 'G') + " / HTTP/1.1\r\n",
        std::string("HTTP/1.1 2x0 OK\r\n"), std::string("220 smtp ready\r\n")}) {
    Http1Driver driver;
    driver.packet(bytes);
    EXPECT_EQ(driver.messages().size(), 0U) << bytes;
    EXPECT_EQ(driver.bad(), 1) << bytes;
    driver.packet(kGet);
    EXPECT_EQ(driver.complete(), 1U) << "the next packet may begin a message";
  }
}

// RFC 9110, 9.1 and 5.6.2.
TEST(Http1, AMethodIsAnyToken) {
  for (const std::string method : {"A", "PROPFIND", "M-SEARCH", "VERSION-CONTROL", "GET_SETTINGS", "get",
                                   "UPDATEREDIRECTREF", "!#$%&'*+-.^_`|~09azAZ", "HEADS", "XHEAD", "PRIX"}) {
    Http1Driver driver;
    const std::string stream = method + " /x HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc" + kGet;
    driver.packet(stream);
    EXPECT_EQ(driver.complete(), 2U) << method;
    EXPECT_EQ(driver.messages()[0].flags, 0) << method;
    Http1Driver cut;
    cut.packets(stream, 1);
    EXPECT_EQ(cut.messages(), driver.messages()) << method;
  }
  Http1Driver head;
  head.packet("HEAD / HTTP/1.1\r\n\r\nCONNECT a:1 HTTP/1.1\r\n\r\n");
  ASSERT_EQ(head.messages().size(), 2U);
  EXPECT_EQ(head.messages()[0].flags, HTTP1_HEAD_METHOD);
  EXPECT_EQ(head.messages()[1].flags, HTTP1_CONNECT_METHOD);
}

// What load balancers put before the first request (the PROXY protocol's specification, 2.1 and 2.2).
TEST(Http1, AProxyHeaderBeforeTheFirstRequest) {
  const std::string magic("\r\n\r\n\0\r\nQUIT\n", 12);
  const std::string first = "PROXY TCP4 192.0.2.1 192.0.2.2 56324 8080\r\n";
  const std::string unknown = "PROXY UNKNOWN\r\n";
  const std::string second = magic + std::string("\x21\x11\0\x0c", 4) + std::string(12, '\x01');
  const std::string local = magic + std::string("\x20\0\0\0", 4);
  const std::string extras = magic + std::string("\x20\x11\x01\x54", 4) + std::string(0x154, '\n');
  for (const std::string& header : {first, unknown, second, local, extras}) {
    for (const std::size_t size : {1U, 7U, 100U, 1500U}) {
      Http1Driver driver;
      driver.packets(header + kGet + kPost, size);
      EXPECT_EQ(driver.complete(), 2U) << size;
      EXPECT_EQ(driver.bad(), 0) << size;
    }
    Http1Driver apart;
    apart.packet(header);
    EXPECT_EQ(apart.messages().size(), 0U);
    apart.packet(kGet);
    EXPECT_EQ(apart.complete(), 1U);
    EXPECT_GT(apart.stream().first_ns, 1U) << "a request's time is not its connection's";
  }
}

// RFC 9110, 10.1.1: a final answer to an expectation, and the client keeps the body.
TEST(Http1, ABodyThatWasRefusedIsNotWaitedFor) {
  for (const std::string framing : {"Content-Length: 2000", "Transfer-Encoding: chunked"}) {
    for (const std::string name : {"Expect", "expect", "EXPECT"}) {
      const std::string post = "POST / HTTP/1.1\r\n" + name + ": 100-continue\r\n" + framing + "\r\n\r\n";
      Http1Driver kept;
      kept.packet(post);
      kept.packet(kGet, 0, true);
      EXPECT_EQ(kept.messages().size(), 2U) << post;
      EXPECT_EQ(kept.bad(), 0);

      Http1Driver went_on;  // no answer yet, or an interim one: this is the body, whatever it looks like
      went_on.packet(post);
      went_on.packet("5\r\nGET /" + kGet);
      EXPECT_EQ(went_on.messages().size(), 1U) << post;
    }
  }
  const std::string post = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2000\r\n\r\n";
  for (const std::string& body :
       {std::string(2000, 'x'), "{" + std::string(1999, 'y'), "GET /" + std::string(1995, ' ')}) {
    Http1Driver all_the_same;
    all_the_same.packet(post);
    all_the_same.packet(body, 0, true);
    all_the_same.packet(kGet);
    EXPECT_EQ(all_the_same.complete(), 2U) << body.substr(0, 9);
    EXPECT_EQ(all_the_same.bad(), 0) << body.substr(0, 9);
  }
  Http1Driver begun;  // its first byte settles it
  begun.packet(post + "x");
  begun.packet(kGet, 0, true);
  EXPECT_EQ(begun.messages().size(), 1U);
}

// One step a chunk, whatever its neighbours: thousands of them come in one packet.
TEST(Http1, SmallChunksTakeAStepEach) {
  std::string body;
  for (int i = 0; i < 5000; ++i) {
    const int size = i % 23 + 1;
    char line[16];
    std::snprintf(line, sizeof line, i % 2 == 0 ? "%x\r\n" : "%X\r\n", static_cast<unsigned>(size));
    body += line + std::string(static_cast<std::size_t>(size), i % 3 == 0 ? '\n' : 'd') + "\r\n";
  }
  const std::string stream =
      "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body + "0\r\n\r\n" + kOk;
  Http1Driver whole;
  whole.packet(stream);
  EXPECT_EQ(whole.complete(), 2U);
  EXPECT_EQ(whole.bad(), 0);
  std::string smallest = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
  while (smallest.size() < (1U << 16)) {
    smallest += "1\r\nd\r\n";
  }
  Http1Driver driver;
  driver.packet(smallest);
  EXPECT_LE(driver.windows(), 1024) << "HTTP1_MAX_WINDOWS of bpf/lib/http1.bpf.h";
  for (const std::size_t size : {1U, 3U, 100U, 255U, 1448U}) {
    Http1Driver cut;
    cut.packets(stream, size);
    EXPECT_EQ(cut.complete(), 2U) << size;
    EXPECT_EQ(cut.bad(), 0) << size;
  }
}

TEST(Http1, BrokenFramingIsLossNotGarbage) {
  for (const std::string& head :
       {std::string("Content-Length: 12a"), std::string("Content-Length: -1"),
        std::string("Content-Length: 99999999999999999999999"), std::string("Transfer-Encoding: chunked")}) {
    Http1Driver driver;
    driver.packet("POST / HTTP/1.1\r\n" + head + "\r\n\r\nzz\r\n");
    EXPECT_EQ(driver.bad(), 1) << head;
    EXPECT_EQ(driver.state(), HTTP1_LOST);
  }
}

TEST(Http1, LongHeadsAndLargeBodies) {
  Http1Driver driver;
  std::string head = "GET /" + std::string(5000, 'x') + " HTTP/1.1\r\n";
  for (int i = 0; i < 200; ++i) {
    head += "X-Header-" + std::to_string(i) + ": " + std::string(40, 'v') + "\r\n";
  }
  driver.packets(head + "\r\n", 1448);
  EXPECT_EQ(driver.complete(), 1U);
  Http1Driver large;
  large.packet("HTTP/1.1 200 OK\r\nContent-Length: 5000000000\r\n\r\n");
  EXPECT_TRUE(http1_skips(&large.stream(), 4'999'999'999U));
  EXPECT_FALSE(http1_skips(&large.stream(), 5'000'000'000U));
  large.stream().remaining -= 4'999'999'990U;
  large.packet("0123456789" + kOk);
  EXPECT_EQ(large.complete(), 2U);
}

// Any cutting of any mixture gives the same messages as the whole.
TEST(Http1, RandomMixturesInRandomPackets) {
  std::mt19937 random(11);
  const std::string parts[] = {kGet, kPost, kChunkedPost, kGet};
  for (int round = 0; round < 300; ++round) {
    std::string stream;
    const int count = static_cast<int>(random() % 12) + 1;
    for (int i = 0; i < count; ++i) {
      stream += parts[random() % 4];
    }
    Http1Driver driver;
    for (std::size_t at = 0; at < stream.size();) {
      const std::size_t n = random() % 300 + 1;
      driver.packet(std::string_view(stream).substr(at, n));
      at += n;
    }
    EXPECT_EQ(driver.complete(), static_cast<std::size_t>(count));
    EXPECT_EQ(driver.bad(), 0);
  }
}

TEST(Http1, FindIsExact) {
  std::mt19937_64 random(3);
  for (int i = 0; i < 200'000; ++i) {
    u64 word = random();
    if (i % 2 == 0) {  // many equal bytes, and neighbours of the one that is looked for
      word = (word & 0x0101010101010101ULL) + 0x0909090909090909ULL;
    }
    u8 bytes[8];
    std::memcpy(bytes, &word, sizeof word);
    u32 expected = 0;
    while (expected < 8 && bytes[expected] != '\n') {
      ++expected;
    }
    ASSERT_EQ(http1_find(word, HTTP1_ONES * '\n', HTTP1_ONES), expected);
    expected = 0;
    while (expected < 8 && bytes[expected] > ' ') {
      ++expected;
    }
    ASSERT_EQ(http1_find(word, 0, HTTP1_ONES * (' ' + 1)), expected);
  }
}

}  // namespace
}  // namespace ballast::bpf
