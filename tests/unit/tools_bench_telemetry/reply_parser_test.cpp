// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/telemetry/reply_parser.h"

#include <gtest/gtest.h>

#include <string>

namespace ballast::bench {
namespace {

const std::string kPlain = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
const std::string kChunked =
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    "5\r\nhello\r\n10;a=b\r\nHTTP/1.1 200 OK\n\r\n0\r\nX-T: 1\r\n\r\n";
const std::string kNone = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";

TEST(ReplyParser, CountsWholeResponses) {
  ReplyParser parser;
  EXPECT_EQ(parser.feed(kPlain + kChunked + kNone + kPlain), 4U);
  EXPECT_FALSE(parser.broken());
  EXPECT_EQ(parser.failures(), 0U);
}

TEST(ReplyParser, CountsTheSameHoweverTheBytesAreCut) {
  const std::string all = kPlain + kChunked + kNone + kChunked + kPlain;
  for (std::size_t cut = 1; cut < all.size(); ++cut) {
    ReplyParser parser;
    std::size_t ended = 0;
    for (std::size_t at = 0; at < all.size(); at += cut) {
      ended += parser.feed(std::string_view(all).substr(at, cut));
    }
    ASSERT_EQ(ended, 5U) << "cut every " << cut;
    ASSERT_FALSE(parser.broken());
  }
}

TEST(ReplyParser, ABodyWithoutALengthEndsWithTheConnection) {
  ReplyParser parser;
  EXPECT_EQ(parser.feed("HTTP/1.1 503 Busy\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"), 0U);
  EXPECT_EQ(parser.finish(), 1U);
  EXPECT_EQ(parser.finish(), 0U);
  EXPECT_EQ(parser.failures(), 1U);
}

TEST(ReplyParser, NonsenseIsNotCounted) {
  for (const std::string& bytes : {std::string("220 ready\r\n"), std::string("\r\n"), std::string(20000, 'x'),
                                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n" + kPlain}) {
    ReplyParser parser;
    EXPECT_EQ(parser.feed(bytes), 0U);
    EXPECT_TRUE(parser.broken());
    EXPECT_EQ(parser.feed(kPlain), 0U);
  }
}

}  // namespace
}  // namespace ballast::bench
