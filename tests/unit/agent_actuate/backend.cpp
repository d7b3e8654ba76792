// SPDX-License-Identifier: Apache-2.0
#include "backend.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <cstdlib>
#include <map>
#include <vector>

namespace ballast::actuate {

namespace {

sockaddr_in name_of(const std::string& address, std::uint16_t port) {
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(port);
  ::inet_pton(AF_INET, address.c_str(), &name.sin_addr);
  return name;
}

std::string without_chunks(const std::string& body) {
  std::string text;
  for (std::size_t at = 0, line = body.find("\r\n"); line != std::string::npos;
       line = body.find("\r\n", at)) {
    const std::size_t size = std::strtoul(body.c_str() + at, nullptr, 16);
    if (size == 0) {
      break;
    }
    text += body.substr(line + 2, size);
    at = line + 2 + size + 2;
  }
  return text;
}

}  // namespace

Backend::Backend(const std::string& address)
    : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
  sockaddr_in name = name_of(address, 0);
  socklen_t size = sizeof name;
  auto* generic = reinterpret_cast<sockaddr*>(&name);
  if (::bind(listener_.get(), generic, size) == 0 && ::listen(listener_.get(), 128) == 0 &&
      ::getsockname(listener_.get(), generic, &size) == 0) {
    port_ = ntohs(name.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
}

Backend::~Backend() {
  stop_ = true;
  if (thread_.joinable()) {
    thread_.join();
  }
}

void Backend::serve() {
  static constexpr char kAnswer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
  std::map<int, std::pair<UniqueFd, std::string>> connections;
  while (!stop_) {
    std::vector<pollfd> polled = {{listener_.get(), POLLIN, 0}};
    for (const auto& [fd, connection] : connections) {
      polled.push_back({fd, POLLIN, 0});
    }
    ::poll(polled.data(), polled.size(), 20);
    if ((polled[0].revents & POLLIN) != 0) {
      UniqueFd accepted(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
      if (accepted) {
        const int fd = accepted.get();
        connections[fd] = {std::move(accepted), ""};
      }
    }
    for (std::size_t i = 1; i < polled.size(); ++i) {
      if (polled[i].revents == 0) {
        continue;
      }
      auto& [fd, text] = connections.at(polled[i].fd);
      char buffer[4096];
      const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
      if (n <= 0) {
        connections.erase(polled[i].fd);
        continue;
      }
      text.append(buffer, static_cast<std::size_t>(n));
      for (std::size_t end = text.find("\r\n\r\n"); end != std::string::npos; end = text.find("\r\n\r\n")) {
        text.erase(0, end + 4);
        ++requests_;
        ::send(fd.get(), kAnswer, sizeof kAnswer - 1, MSG_NOSIGNAL);
      }
    }
  }
}

std::optional<std::string> http_get(std::uint16_t port, const std::string& path) {
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{5, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  const sockaddr_in name = name_of("127.0.0.1", port);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) {
    return std::nullopt;
  }
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n";
  ::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL);
  std::string answer;
  char buffer[16384];
  for (ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0); n > 0;
       n = ::recv(fd.get(), buffer, sizeof buffer, 0)) {
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  const std::size_t body = answer.find("\r\n\r\n");
  if (!answer.starts_with("HTTP/1.1 200") || body == std::string::npos) {
    return std::nullopt;
  }
  const bool chunked = answer.substr(0, body).find("transfer-encoding: chunked") != std::string::npos;
  return chunked ? without_chunks(answer.substr(body + 4)) : answer.substr(body + 4);
}

}  // namespace ballast::actuate
