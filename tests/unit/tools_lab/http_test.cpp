// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/http.h"

#include <gtest/gtest.h>

namespace ballast::lab {
namespace {

using State = ResponseParser::State;

State feed_bytewise(ResponseParser& parser, const std::string& text) {
  State state = State::kMore;
  for (const char c : text) {
    EXPECT_EQ(state, State::kMore);
    state = parser.feed({&c, 1});
  }
  return state;
}

TEST(ResponseParser, ReadsASizedBodyAtAnySplit) {
  const std::string text = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nX: y\r\n\r\nok\n";
  ResponseParser whole(true);
  EXPECT_EQ(whole.feed(text), State::kDone);
  ResponseParser bytes(true);
  EXPECT_EQ(feed_bytewise(bytes, text), State::kDone);
  EXPECT_EQ(whole.body(), "ok\n");
  EXPECT_EQ(bytes.body(), "ok\n");
  EXPECT_EQ(bytes.status(), 200);
  EXPECT_TRUE(bytes.keep_alive());
}

TEST(ResponseParser, ReadsAChunkedBodyAtAnySplit) {
  const std::string text =
      "HTTP/1.1 503 No\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n"
      "3\r\nabc\r\nA;x=y\r\n0123456789\r\n0\r\n\r\n";
  ResponseParser whole(true);
  EXPECT_EQ(whole.feed(text), State::kDone);
  ResponseParser bytes(true);
  EXPECT_EQ(feed_bytewise(bytes, text), State::kDone);
  EXPECT_EQ(whole.body(), "abc0123456789");
  EXPECT_EQ(bytes.body(), "abc0123456789");
  EXPECT_EQ(bytes.status(), 503);
  EXPECT_FALSE(bytes.keep_alive());
}

TEST(ResponseParser, AnEmptyBodyIsWhole) {
  ResponseParser parser;
  EXPECT_EQ(parser.feed("HTTP/1.1 204 No\r\ncontent-length: 0\r\n\r\n"), State::kDone);
}

TEST(ResponseParser, ABodyWithoutLengthEndsWithTheConnection) {
  ResponseParser parser(true);
  EXPECT_EQ(parser.feed("HTTP/1.1 200 OK\r\n\r\nabc"), State::kMore);
  EXPECT_EQ(parser.close(), State::kDone);
  EXPECT_EQ(parser.body(), "abc");
}

TEST(ResponseParser, RefusesWhatIsBrokenOrTooMuch) {
  for (const char* text : {"SSH-2.0-x\r\n\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
                           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"}) {
    ResponseParser parser;
    EXPECT_EQ(parser.feed(text), State::kBad) << text;
  }
  ResponseParser cut;
  EXPECT_EQ(cut.feed("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"), State::kMore);
  EXPECT_EQ(cut.close(), State::kBad);
}

TEST(HttpGet, NamesWhatDoesNotAnswer) {
  const auto answer = http_get({"127.0.0.1", 1}, "/x", 300);
  ASSERT_FALSE(answer.ok());
  EXPECT_NE(answer.error().message.find("http://127.0.0.1:1/x"), std::string::npos);
}

}  // namespace
}  // namespace ballast::lab
