// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <fmt/format.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>

#include <atomic>
#include <cstdlib>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/base/unique_fd.h"

namespace ballast::kube {

/// What the server was asked.
struct Asked {
  std::string method;
  std::string target;
  std::string head;  ///< request line and headers
  std::string body;
};

/// A whole answer with its length.
inline std::string answer(int status, const std::string& body, const std::string& headers = "") {
  return fmt::format("HTTP/1.1 {} Said\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{}\r\n{}",
                     status, body.size(), headers, body);
}

/// An answer that ends when the connection does: a watch.
inline std::string stream(const std::string& body) {
  return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n" + body;
}

/// An HTTP/1.1 server on loopback that says what the test wrote. One connection at a time, closed after
/// each answer, so that scripts run in order.
class ScriptedServer {
 public:
  using Script = std::function<std::string(const Asked&)>;  ///< empty: hang up without a word

  explicit ScriptedServer(Script script) : script_(std::move(script)) {
    listener_.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener_.get(), generic, size) != 0 || ::listen(listener_.get(), 64) != 0 ||
        ::getsockname(listener_.get(), generic, &size) != 0) {
      std::abort();
    }
    port_ = ntohs(address.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~ScriptedServer() {
    stopped_ = true;
    thread_.join();
    for (std::thread& one : answers_) {
      one.join();
    }
  }
  ScriptedServer(const ScriptedServer&) = delete;
  ScriptedServer& operator=(const ScriptedServer&) = delete;

  std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }
  std::vector<Asked> asked() const {
    const std::lock_guard lock(mutex_);
    return asked_;
  }
  std::size_t count() const { return asked().size(); }

 private:
  void serve() {
    while (!stopped_) {
      pollfd waiting{listener_.get(), POLLIN, 0};
      if (::poll(&waiting, 1, 20) == 1) {
        answers_.emplace_back([this, fd = ::accept(listener_.get(), nullptr, nullptr)] {
          const UniqueFd connection(fd);
          one(connection.get());
        });
      }
    }
  }
  void one(int fd) {
    std::string text;
    std::size_t end = std::string::npos;
    std::size_t whole = 0;
    while (end == std::string::npos || text.size() < whole) {
      char bytes[4096];
      const ssize_t got = ::recv(fd, bytes, sizeof bytes, 0);
      if (got <= 0) {
        return;
      }
      text.append(bytes, static_cast<std::size_t>(got));
      end = text.find("\r\n\r\n");
      const std::size_t length = text.find("Content-Length: ");
      whole = end == std::string::npos
                  ? 0
                  : end + 4 +
                        (length == std::string::npos || length > end
                             ? 0
                             : static_cast<std::size_t>(std::atol(text.c_str() + length + 16)));
    }
    Asked asked;
    asked.head = text.substr(0, end);
    asked.body = text.substr(end + 4);
    asked.method = text.substr(0, text.find(' '));
    asked.target = text.substr(asked.method.size() + 1);
    asked.target.resize(asked.target.find(' '));
    {
      const std::lock_guard lock(mutex_);
      asked_.push_back(asked);
    }
    const std::string said = script_(asked);
    static_cast<void>(!said.empty() && ::send(fd, said.data(), said.size(), MSG_NOSIGNAL) < 0);
    ::shutdown(fd, SHUT_RDWR);
  }

  Script script_;
  UniqueFd listener_;
  int port_ = 0;
  std::atomic<bool> stopped_{false};
  mutable std::mutex mutex_;
  std::vector<Asked> asked_;
  std::vector<std::thread> answers_;
  std::thread thread_;
};

}  // namespace ballast::kube
