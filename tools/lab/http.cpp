// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/http.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>

namespace ballast::lab {

namespace {

Result<sockaddr_in> to_sockaddr(const Endpoint& endpoint) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(endpoint.port);
  if (::inet_pton(AF_INET, endpoint.address.c_str(), &out.sin_addr) != 1) {
    return Error::failed(endpoint.address + " is not an IPv4 address");
  }
  return out;
}

Error os_error(const std::string& what, const Endpoint& endpoint) {
  return Error::failed(what + " " + endpoint.text() + ": " + std::strerror(errno));
}

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

}  // namespace

Result<UniqueFd> listen_on(const Endpoint& endpoint, bool nonblocking) {
  const auto address = to_sockaddr(endpoint);
  if (!address) {
    return address.error();
  }
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | (nonblocking ? SOCK_NONBLOCK : 0), 0));
  const int on = 1;
  if (!fd || ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0 ||
      ::listen(fd.get(), 4096) != 0) {
    return os_error("listening on", endpoint);
  }
  return fd;
}

Result<UniqueFd> connect_nonblocking(const Endpoint& endpoint) {
  const auto address = to_sockaddr(endpoint);
  if (!address) {
    return address.error();
  }
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) {
    return os_error("making a socket for", endpoint);
  }
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&*address), sizeof *address) != 0 &&
      errno != EINPROGRESS) {
    return os_error("connecting to", endpoint);
  }
  return fd;
}

ResponseParser::State ResponseParser::feed(std::string_view bytes) {
  buffer_.append(bytes);
  Phase before;
  do {
    before = phase_;
    step();
  } while (phase_ != before && phase_ != Phase::kDone && phase_ != Phase::kBad);
  if (phase_ == Phase::kDone && !buffer_.empty()) {
    phase_ = Phase::kBad;
  }
  return phase_ == Phase::kDone ? State::kDone : phase_ == Phase::kBad ? State::kBad : State::kMore;
}

ResponseParser::State ResponseParser::close() {
  keep_alive_ = false;
  if (phase_ == Phase::kUntilClose) {
    phase_ = Phase::kDone;
  }
  return phase_ == Phase::kDone ? State::kDone : State::kBad;
}

bool ResponseParser::line(std::string& out) {
  const auto end = buffer_.find("\r\n");
  if (end == std::string::npos) {
    return false;
  }
  out = buffer_.substr(0, end);
  buffer_.erase(0, end + 2);
  return true;
}

void ResponseParser::step() {
  std::string text;
  switch (phase_) {
    case Phase::kHead: {
      const auto end = buffer_.find("\r\n\r\n");
      if (end != std::string::npos) {
        text = buffer_.substr(0, end + 2);
        buffer_.erase(0, end + 4);
        head(text);
      } else if (buffer_.size() > 65536) {
        phase_ = Phase::kBad;
      }
      return;
    }
    case Phase::kSized:
    case Phase::kChunk: {
      const std::size_t n = std::min(left_, buffer_.size());
      if (keep_body_) {
        body_.append(buffer_, 0, n);
      }
      buffer_.erase(0, n);
      left_ -= n;
      if (left_ == 0 && phase_ == Phase::kSized) {
        phase_ = Phase::kDone;
      } else if (left_ == 0 && buffer_.size() >= 2) {
        buffer_.erase(0, 2);
        phase_ = Phase::kChunkSize;
      }
      return;
    }
    case Phase::kChunkSize:
      if (line(text)) {
        const auto parsed = std::from_chars(text.data(), text.data() + text.size(), left_, 16);
        phase_ = parsed.ec != std::errc{} ? Phase::kBad : left_ == 0 ? Phase::kTrailer : Phase::kChunk;
      }
      return;
    case Phase::kTrailer:
      while (phase_ == Phase::kTrailer && line(text)) {
        phase_ = text.empty() ? Phase::kDone : Phase::kTrailer;
      }
      return;
    case Phase::kUntilClose:
      if (keep_body_) {
        body_.append(buffer_);
      }
      buffer_.clear();
      return;
    case Phase::kDone:
    case Phase::kBad:
      return;
  }
}

void ResponseParser::head(std::string_view text) {
  phase_ = Phase::kBad;
  if (!text.starts_with("HTTP/1.") || text.size() < 12 ||
      std::from_chars(text.data() + 9, text.data() + 12, status_).ec != std::errc{}) {
    return;
  }
  phase_ = Phase::kUntilClose;
  std::size_t at = text.find("\r\n") + 2;
  while (at < text.size()) {
    const auto end = text.find("\r\n", at);
    const auto row = text.substr(at, end - at);
    at = end + 2;
    const auto colon = row.find(':');
    if (colon == std::string_view::npos) {
      continue;
    }
    const auto name = lower(row.substr(0, colon));
    auto value = row.substr(colon + 1);
    value.remove_prefix(std::min(value.find_first_not_of(' '), value.size()));
    if (name == "content-length") {
      const auto parsed = std::from_chars(value.data(), value.data() + value.size(), left_);
      phase_ = parsed.ec != std::errc{} ? Phase::kBad : Phase::kSized;
    } else if (name == "transfer-encoding" && lower(value) == "chunked") {
      phase_ = Phase::kChunkSize;
    } else if (name == "connection" && lower(value) == "close") {
      keep_alive_ = false;
    }
  }
}

Result<std::string> http_get(const Endpoint& endpoint, const std::string& path, int timeout_ms) {
  const auto where = "GET http://" + endpoint.text() + path;
  auto fd = connect_nonblocking(endpoint);
  if (!fd) {
    return fd.error().in(where);
  }
  std::string request =
      "GET " + path + " HTTP/1.1\r\nHost: " + endpoint.text() + "\r\nConnection: close\r\n\r\n";
  ResponseParser parser(true);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  while (true) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(deadline - std::chrono::steady_clock::now());
    pollfd waiting{fd->get(), static_cast<short>(request.empty() ? POLLIN : POLLOUT), 0};
    if (left.count() <= 0 || ::poll(&waiting, 1, static_cast<int>(left.count())) == 0) {
      return Error::failed(where + ": no answer in " + std::to_string(timeout_ms) + " ms");
    }
    if (!request.empty()) {
      const ssize_t n = ::send(fd->get(), request.data(), request.size(), MSG_NOSIGNAL);
      if (n < 0 && errno != EAGAIN && errno != EINTR) {
        return Error::failed(where + ": " + std::strerror(errno));
      }
      request.erase(0, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
      continue;
    }
    char buffer[65536];
    const ssize_t n = ::recv(fd->get(), buffer, sizeof buffer, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
      continue;
    }
    const auto state = n > 0 ? parser.feed({buffer, static_cast<std::size_t>(n)}) : parser.close();
    if (state == ResponseParser::State::kDone) {
      if (parser.status() != 200) {
        return Error::failed(where + ": status " + std::to_string(parser.status()));
      }
      return parser.body();
    }
    if (state == ResponseParser::State::kBad) {
      return Error::failed(where + ": not a whole HTTP response");
    }
  }
}

}  // namespace ballast::lab
