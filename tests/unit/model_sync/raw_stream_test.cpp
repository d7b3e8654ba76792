// SPDX-License-Identifier: Apache-2.0
//
// Clients that speak HTTP/2 by hand, slowly or beyond all measure, over a real socket.
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <sstream>
#include <thread>

#include "core/base/file.h"
#include "core/base/unique_fd.h"
#include "model/sync/client/worker_client.h"
#include "served.h"

namespace ballast::sync {
namespace {

using namespace std::chrono_literals;

constexpr std::uint8_t kData = 0;
constexpr std::uint8_t kHeaders = 1;
constexpr std::uint8_t kEndHeaders = 4;
constexpr std::uint8_t kEndStream = 1;

double resident_mb() {
  std::istringstream pages(*read_file("/proc/self/statm"));
  double size = 0;
  double resident = 0;
  pages >> size >> resident;
  return resident * 4096 / 1e6;
}

std::string frame(std::uint8_t type, std::uint8_t flags, std::uint32_t stream, const std::string& payload) {
  const auto length = static_cast<std::uint32_t>(payload.size());
  std::string out;
  for (const std::uint32_t byte : {length >> 16, length >> 8, length, std::uint32_t{type},
                                   std::uint32_t{flags}, stream >> 24, stream >> 16, stream >> 8, stream}) {
    out.push_back(static_cast<char>(byte & 0xFF));
  }
  return out + payload;
}

// HPACK, literal and without indexing.
std::string header(const std::string& name, const std::string& value) {
  return std::string(1, '\0') + static_cast<char>(name.size()) + name + static_cast<char>(value.size()) +
         value;
}

std::string call() {
  return "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0, "") +
         frame(kHeaders, kEndHeaders, 1,
               header(":method", "POST") + header(":scheme", "http") +
                   header(":path", "/ballast.sync.v1.GlobalNetwork/Sync") + header(":authority", "global") +
                   header("te", "trailers") + header("content-type", "application/grpc"));
}

// A gRPC message's prefix: so many bytes will come.
std::string prefix(std::uint32_t length) {
  std::string out(1, '\0');
  for (const int shift : {24, 16, 8, 0}) {
    out.push_back(static_cast<char>(length >> shift & 0xFF));
  }
  return out;
}

class RawStream : public Served {
 protected:
  UniqueFd connect() const {
    UniqueFd out(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    std::strncpy(to.sun_path, socket().c_str(), sizeof to.sun_path - 1);
    EXPECT_EQ(::connect(out.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
    return out;
  }
  static bool say(const UniqueFd& to, const std::string& bytes) {
    return ::send(to.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }
  // Whether the server ended stream 1 (or the connection), looking for `patience`.
  bool over(const UniqueFd& from, std::chrono::milliseconds patience) {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (std::chrono::steady_clock::now() < deadline) {
      pollfd waits{from.get(), POLLIN, 0};
      char bytes[4096];
      if (::poll(&waits, 1, 5) <= 0) {
        continue;
      }
      const ssize_t n = ::recv(from.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (n <= 0) {
        return true;
      }
      heard_.append(bytes, static_cast<std::size_t>(n));
      while (heard_.size() >= 9) {
        const auto byte = [&](std::size_t i) {
          return static_cast<std::uint32_t>(static_cast<std::uint8_t>(heard_[i]));
        };
        const std::size_t length = byte(0) << 16 | byte(1) << 8 | byte(2);
        if (heard_.size() < 9 + length) {
          break;
        }
        const bool ended =
            byte(8) == 1 && ((byte(3) == kHeaders && (byte(4) & kEndStream) != 0) || byte(3) == 3);
        heard_.erase(0, 9 + length);
        if (ended) {
          return true;
        }
      }
    }
    return false;
  }
  void expect_others_go_on() const {
    const auto honest = WorkerClient::start({.address = address_, .worker_id = "honest", .first_wait = 5ms});
    EXPECT_TRUE(eventually([&] { return honest->take_parameters() != nullptr; }));
  }

  std::string heard_;
};

TEST_F(RawStream, NothingIsSetAsideForAFrameOfAGigabyte) {
  serve({.hello = 500ms});
  const double before = resident_mb();
  std::vector<UniqueFd> many;
  for (int i = 0; i < 20; ++i) {
    many.push_back(connect());
    ASSERT_TRUE(say(many.back(), call() + frame(kData, 0, 1, prefix(1U << 30) + std::string(1000, 'x'))));
  }
  for (const UniqueFd& one : many) {
    heard_.clear();
    EXPECT_TRUE(over(one, 10s));
  }
  EXPECT_LT(resident_mb() - before, 64);
  EXPECT_TRUE(eventually([&] { return ended(Ended::kSilent) == many.size(); }));
  expect_others_go_on();
}

TEST_F(RawStream, AMessageThatComesByteByByteEndsInTime) {
  serve({.hello = 300ms});
  const UniqueFd slow = connect();
  ASSERT_TRUE(say(slow, call() + frame(kData, 0, 1, prefix(1000))));
  bool ended_by_server = false;
  for (int i = 0; i < 900 && !ended_by_server; ++i) {
    ended_by_server = !say(slow, frame(kData, 0, 1, "x")) || over(slow, 10ms);
  }
  EXPECT_TRUE(ended_by_server) << "a whole message would have taken nine seconds";
  EXPECT_TRUE(eventually([&] { return ended(Ended::kSilent) == 1; }));
  expect_others_go_on();
}

TEST_F(RawStream, AConnectionThatSaysNothingIsClosed) {
  serve({.hello = 300ms});
  const UniqueFd mute = connect();
  EXPECT_TRUE(over(mute, 10s));
  const UniqueFd half = connect();
  ASSERT_TRUE(say(half, "PRI * HTTP/2.0\r\n"));
  heard_.clear();
  EXPECT_TRUE(over(half, 10s));
  expect_others_go_on();
}

TEST_F(RawStream, WhatIsNoHttp2IsClosed) {
  serve({});
  const UniqueFd other = connect();
  ASSERT_TRUE(say(other, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
  EXPECT_TRUE(over(other, 10s));
  expect_others_go_on();
}

}  // namespace
}  // namespace ballast::sync
