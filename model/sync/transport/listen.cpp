// SPDX-License-Identifier: Apache-2.0
#include "model/sync/transport/listen.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include "core/base/unique_fd.h"

namespace ballast::sync {

namespace {

constexpr std::string_view kUnix = "unix:";

struct SocketAddress {
  sockaddr_storage storage{};
  socklen_t length = 0;
  bool loopback = false;
  bool unix_path = false;

  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage); }
};

std::optional<SocketAddress> parse_unix(const std::string& path) {
  SocketAddress out;
  auto* address = reinterpret_cast<sockaddr_un*>(&out.storage);
  if (path.empty() || path.size() >= sizeof address->sun_path) {
    return std::nullopt;
  }
  address->sun_family = AF_UNIX;
  std::memcpy(address->sun_path, path.c_str(), path.size() + 1);
  out.length = sizeof(sockaddr_un);
  out.loopback = true;
  out.unix_path = true;
  return out;
}

std::optional<SocketAddress> parse(const std::string& text) {
  if (text.starts_with(kUnix)) {
    return parse_unix(text.substr(kUnix.size()));
  }
  const auto colon = text.rfind(':');
  std::uint16_t port = 0;
  if (colon == std::string::npos) {
    return std::nullopt;
  }
  const char* end = text.data() + text.size();
  const auto number = std::from_chars(text.data() + colon + 1, end, port);
  if (number.ec != std::errc{} || number.ptr != end) {
    return std::nullopt;
  }
  std::string host = text.substr(0, colon);
  if (host == "localhost") {
    host = "127.0.0.1";
  }
  SocketAddress out;
  auto* v4 = reinterpret_cast<sockaddr_in*>(&out.storage);
  auto* v6 = reinterpret_cast<sockaddr_in6*>(&out.storage);
  if (::inet_pton(AF_INET, host.c_str(), &v4->sin_addr) == 1) {
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    out.length = sizeof(sockaddr_in);
    out.loopback = (ntohl(v4->sin_addr.s_addr) >> 24) == 127;
    return out;
  }
  if (host.size() > 2 && host.front() == '[' && host.back() == ']' &&
      ::inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &v6->sin6_addr) == 1) {
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    out.length = sizeof(sockaddr_in6);
    out.loopback = IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
    return out;
  }
  return std::nullopt;
}

Error malformed(const std::string& address) {
  return Error::usage(
      "address '" + address +
      "' is none of IPV4:PORT, [IPV6]:PORT, localhost:PORT and unix:PATH (at most 107 characters)");
}

Error cannot_listen(const std::string& address, int error) {
  return Error::failed("cannot listen on " + address + ": " + std::strerror(error));
}

Status probe_unix(const std::string& address, const SocketAddress& to, int socket) {
  struct stat file {};
  const std::string path = address.substr(kUnix.size());
  if (::lstat(path.c_str(), &file) != 0) {
    return errno == ENOENT ? ok() : Status(cannot_listen(address, errno));
  }
  if (!S_ISSOCK(file.st_mode)) {
    return Error::failed("cannot listen on " + address + ": the path is not a socket");
  }
  if (::connect(socket, to.get(), to.length) == 0) {
    return cannot_listen(address, EADDRINUSE);
  }
  return errno == ECONNREFUSED ? ok() : Status(cannot_listen(address, errno));
}

}  // namespace

Status check_address(const std::string& address, bool beyond_loopback) {
  const auto parsed = parse(address);
  if (!parsed) {
    return malformed(address);
  }
  if (!parsed->loopback && !beyond_loopback) {
    return Error::usage(
        "address " + address +
        " reaches beyond this host and the connection is not encrypted: use 127.0.0.1 or unix:PATH");
  }
  return ok();
}

Status probe_address(const std::string& address) {
  const auto parsed = parse(address);
  if (!parsed) {
    return malformed(address);
  }
  const UniqueFd socket(::socket(parsed->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) {
    return cannot_listen(address, errno);
  }
  if (parsed->unix_path) {
    return probe_unix(address, *parsed, socket.get());
  }
  const int on = 1;  // as gRPC: connections that linger from before a restart do not count
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(socket.get(), parsed->get(), parsed->length) != 0 || ::listen(socket.get(), 1) != 0) {
    return cannot_listen(address, errno);
  }
  return ok();
}

}  // namespace ballast::sync
