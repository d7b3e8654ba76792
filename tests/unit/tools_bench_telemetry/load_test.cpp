// SPDX-License-Identifier: Apache-2.0
// The load generator against a server that counts what it is asked.
#include "tools/bench/telemetry/load.h"

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "core/base/unique_fd.h"

namespace ballast::bench {
namespace {

/// Answers each request that ends in "\n\r\n" (a head, or a chunked body's end) with five bytes.
class CountingServer {
 public:
  CountingServer() : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
        ::listen(listener_.get(), 64) == 0 &&
        ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0) {
      port_ = ntohs(address.sin_port);
      thread_ = std::thread([this] { serve(); });
    }
  }
  ~CountingServer() {
    stop_ = true;
    if (thread_.joinable()) {
      thread_.join();
    }
  }
  std::uint16_t port() const { return port_; }
  std::uint64_t asked() const { return asked_; }
  std::uint64_t connections() const { return connections_; }

 private:
  void serve() {
    std::vector<UniqueFd> open;
    while (!stop_) {
      std::vector<pollfd> fds{{listener_.get(), POLLIN, 0}};
      for (const UniqueFd& fd : open) {
        fds.push_back({fd.get(), POLLIN, 0});
      }
      if (::poll(fds.data(), fds.size(), 10) <= 0) {
        continue;
      }
      for (std::size_t i = fds.size() - 1; i > 0; --i) {
        if (fds[i].revents != 0 && !answer(fds[i].fd)) {
          open.erase(open.begin() + static_cast<std::ptrdiff_t>(i) - 1);
        }
      }
      if (fds[0].revents != 0) {
        open.emplace_back(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC));
        ++connections_;
      }
    }
  }
  bool answer(int fd) {
    char bytes[65536];
    const ssize_t n = ::recv(fd, bytes, sizeof bytes, 0);
    if (n <= 0) {
      return false;
    }
    const std::string text(bytes, static_cast<std::size_t>(n));
    bool keep = true;
    for (std::size_t at = 0; (at = text.find("\r\nHost:", at)) != std::string::npos; ++at) {
      ++asked_;
      const std::string reply = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
      ::send(fd, reply.data(), reply.size(), MSG_NOSIGNAL);
      keep = text.find("Connection: close") == std::string::npos;
    }
    return keep;
  }

  UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint64_t> asked_ = 0;
  std::atomic<std::uint64_t> connections_ = 0;
  std::thread thread_;
};

LoadReport run(const CountingServer& server, LoadOptions options) {
  options.port = server.port();
  options.seconds = 0.2;
  const auto report = run_load(options);
  EXPECT_TRUE(report.ok()) << (report ? "" : report.error().message);
  return report ? *report : LoadReport{};
}

TEST(Load, EveryRequestIsCountedOnce) {
  for (const unsigned pipeline : {1U, 16U}) {
    const CountingServer server;
    LoadOptions options;
    options.pipeline = pipeline;
    const LoadReport report = run(server, options);
    EXPECT_GT(report.answered, 0U);
    EXPECT_EQ(report.sent, server.asked());
    EXPECT_EQ(report.answered, server.asked());
    EXPECT_EQ(report.failed + report.broken, 0U);
    EXPECT_LE(server.connections(), options.connections);
  }
}

TEST(Load, AConnectionARequest) {
  const CountingServer server;
  LoadOptions options;
  options.connections = 4;
  options.close = true;
  const LoadReport report = run(server, options);
  EXPECT_GT(report.answered, 4U);
  EXPECT_EQ(report.answered, server.asked());
  EXPECT_GE(server.connections(), report.answered);
}

TEST(Load, ARateIsNotExceeded) {
  const CountingServer server;
  LoadOptions options;
  options.rate = 100;
  const LoadReport report = run(server, options);
  EXPECT_GT(report.answered, 0U);
  EXPECT_LE(static_cast<double>(report.sent), options.rate * report.seconds + 1);
}

TEST(Load, NobodyListens) {
  LoadOptions options;
  options.port = 1;
  const auto report = run_load(options);
  ASSERT_FALSE(report.ok());
  EXPECT_NE(report.error().message.find("127.0.0.1:1"), std::string::npos);
}

}  // namespace
}  // namespace ballast::bench
