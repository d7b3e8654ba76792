// SPDX-License-Identifier: Apache-2.0
//
// What the server of operators answers, and what peers that mean no good cannot do to it.
#include "core/http/http_server.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <stdexcept>
#include <vector>

#include "core/base/unique_fd.h"

namespace ballast::http {
namespace {

using namespace std::chrono_literals;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr std::size_t kLarge = 32U << 20U;  ///< more than the kernel holds between two

std::unique_ptr<Server> serve(const Limits& limits = {}) {
  auto made = Server::start(
      {.host = "127.0.0.1"}, {},
      [](const Request& in) {
        if (in.path == "/throws") {
          throw std::runtime_error("of the handler");
        }
        if (in.path == "/large") {
          return Response{200, "text/plain", std::string(kLarge, 'x')};
        }
        return Response{200, "text/plain", in.path + "|" + in.query + "|" + in.host + "|" + in.accept};
      },
      limits);
  EXPECT_TRUE(made) << made.error().message;
  return made ? std::move(*made) : nullptr;
}

UniqueFd connect(const Server& server) {
  UniqueFd socket(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(server.address().port);
  const timeval patience{60, 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  return socket;
}

bool send(const UniqueFd& to, const std::string& text) {
  return ::send(to.get(), text.data(), text.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(text.size());
}

/// All that comes until the peer ends the connection, in whatever way.
std::string rest(const UniqueFd& from) {
  std::string out;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::recv(from.get(), buffer, sizeof buffer, 0)) > 0;) {
    out.append(buffer, static_cast<std::size_t>(n));
  }
  return out;
}

std::string ask(const Server& server, const std::string& head) {
  const UniqueFd socket = connect(server);
  EXPECT_TRUE(send(socket, head + "\r\n\r\n"));
  return rest(socket);
}

TEST(HttpServer, HandsOverWhatWasAskedDecodedAndEndsTheConnection) {
  const auto server = serve();
  const std::string said =
      ask(*server, "GET /a%20b%2?of=x%2Fy+z&more=1 HTTP/1.1\r\nHost: me\r\nAccept: text/*");
  EXPECT_THAT(said, StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_THAT(said, HasSubstr("Connection: close\r\n"));
  EXPECT_THAT(said, HasSubstr("Cache-Control: no-store\r\n"));
  EXPECT_THAT(said, EndsWith("\r\n\r\n/a b%2|of=x/y z|me|text/*"));
}

TEST(HttpServer, AnswersAHeadWithoutABodyAndOtherMethodsWithWhatIsAllowed) {
  const auto server = serve();
  const std::string head = ask(*server, "HEAD /a HTTP/1.1\r\nHost: me");
  EXPECT_THAT(head, HasSubstr("Content-Length: 7\r\n"));
  EXPECT_THAT(head, EndsWith("\r\n\r\n"));
  const std::string post = ask(*server, "POST /a HTTP/1.1\r\nHost: me\r\nContent-Length: 0");
  EXPECT_THAT(post, StartsWith("HTTP/1.1 405 "));
  EXPECT_THAT(post, HasSubstr("Allow: GET, HEAD\r\n"));
}

TEST(HttpServer, SurvivesAHandlerThatThrowsAndWhatIsNoHttp) {
  const auto server = serve();
  EXPECT_THAT(ask(*server, "GET /throws HTTP/1.1\r\nHost: me"), StartsWith("HTTP/1.1 500 "));
  EXPECT_EQ(ask(*server, std::string("\x16\x03\x01\0\0", 5)), "");
  EXPECT_THAT(ask(*server, "GET /b HTTP/1.0"), StartsWith("HTTP/1.1 200 OK\r\n"));
}

TEST(HttpServer, AHeadWithoutEndIsRefusedNotKept) {
  const auto server = serve({.time = 1h});
  const UniqueFd socket = connect(*server);
  bool refused = !send(socket, "GET / HTTP/1.1\r\n");
  // The kernel holds some megabytes between the two; what comes beyond, the server must have read.
  const std::string line = "X-More: " + std::string(1000, 'x') + "\r\n";
  for (int i = 0; i < 64 * 1024 && !refused; ++i) {
    refused = !send(socket, line);
  }
  EXPECT_TRUE(refused) << "64 MB of a head were taken";
}

TEST(HttpServer, WhoSendsSlowlyKeepsNobodyOut) {
  const auto server = serve({.connections = 8, .time = 1h});
  std::vector<UniqueFd> slow;
  for (int i = 0; i < 40; ++i) {
    slow.push_back(connect(*server));
    EXPECT_TRUE(send(slow.back(), "GET / HT"));
  }
  EXPECT_THAT(ask(*server, "GET /b HTTP/1.1\r\nHost: me"), StartsWith("HTTP/1.1 200 OK\r\n"));
  EXPECT_EQ(rest(slow.front()), "") << "the oldest was closed";
}

TEST(HttpServer, WhoDoesNotReadAnswersHoldsNoMoreThanTheirBound) {
  const auto server = serve({.time = 1h, .bytes = 3 * kLarge});
  std::vector<UniqueFd> lazy;
  for (int i = 0; i < 8; ++i) {
    lazy.push_back(connect(*server));
    EXPECT_TRUE(send(lazy.back(), "GET /large HTTP/1.1\r\nHost: me\r\n\r\n"));
    char first = 0;
    EXPECT_EQ(::recv(lazy.back().get(), &first, 1, 0), 1) << "its answer is under way";
  }
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_LT(rest(lazy[i]).size(), kLarge) << i << " was not closed for those after it";
  }
  for (std::size_t i = 5; i < lazy.size(); ++i) {
    EXPECT_GT(rest(lazy[i]).size(), kLarge) << i;
  }
}

TEST(HttpServer, AnAnswerBeyondTheBoundIsGivenAllTheSame) {
  const auto server = serve({.bytes = kLarge / 2});
  EXPECT_GT(ask(*server, "GET /large HTTP/1.1\r\nHost: me").size(), kLarge);
}

TEST(HttpServer, AConnectionHasItsTimeAndNoMore) {
  const auto server = serve({.time = 50ms});
  const UniqueFd socket = connect(*server);
  EXPECT_TRUE(send(socket, "GET / HT"));
  EXPECT_EQ(rest(socket), "");
}

TEST(HttpServer, EndsWhileConnectionsAreOpen) {
  auto server = serve({.time = 1h});
  const UniqueFd half = connect(*server);
  EXPECT_TRUE(send(half, "GET / HT"));
  const UniqueFd idle = connect(*server);
  EXPECT_THAT(ask(*server, "GET /b HTTP/1.1\r\nHost: me"), StartsWith("HTTP/1.1 200 OK\r\n"));
  server.reset();
  EXPECT_EQ(rest(half), "");
  EXPECT_EQ(rest(idle), "");
}

}  // namespace
}  // namespace ballast::http
