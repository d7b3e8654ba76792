// SPDX-License-Identifier: Apache-2.0
#include "core/base/listen_address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "core/base/unique_fd.h"

namespace ballast {

namespace {

bool is_loopback(const in_addr& address) {
  return (ntohl(address.s_addr) >> 24) == 127;
}

bool parse_port(const std::string& digits, std::uint16_t& port) {
  const char* const end = digits.data() + digits.size();
  const auto [stop, error] = std::from_chars(digits.data(), end, port);
  return error == std::errc() && stop == end;
}

Error cannot_listen(const ListenAddress& address, int reason) {
  return Error::failed("cannot listen on " + address.text() + ": " + std::strerror(reason) +
                       (reason == EADDRINUSE ? "; stop the other listener or choose another address" : ""));
}

Status check_unix(const ListenAddress& address) {
  struct stat existing {};
  if (::lstat(address.unix_path.c_str(), &existing) != 0) {
    return ok();
  }
  if (!S_ISSOCK(existing.st_mode)) {
    return Error::failed("cannot listen on " + address.text() + ": the path exists and is no socket");
  }
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  address.unix_path.copy(name.sun_path, sizeof name.sun_path - 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) == 0 || errno == EAGAIN) {
    return cannot_listen(address, EADDRINUSE);
  }
  return ok();
}

}  // namespace

std::string ListenAddress::text() const {
  if (!unix_path.empty()) {
    return "unix:" + unix_path;
  }
  return (ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<ListenAddress> parse_listen_address(const std::string& text, bool allow_remote) {
  ListenAddress address;
  if (text.starts_with("unix:")) {
    address.unix_path = text.substr(5);
    if (address.unix_path.empty() || address.unix_path.size() >= sizeof(sockaddr_un::sun_path)) {
      return Error::usage("address '" + text + "': the path of a unix socket has 1 to " +
                          std::to_string(sizeof(sockaddr_un::sun_path) - 1) + " bytes");
    }
    return address;
  }
  const std::size_t colon = text.rfind(':');
  if (colon == std::string::npos || !parse_port(text.substr(colon + 1), address.port)) {
    return Error::usage("address '" + text + "': write IP:PORT, [IPv6]:PORT or unix:PATH");
  }
  address.host = text.substr(0, colon);
  if (address.host == "localhost") {
    address.host = "127.0.0.1";
  }
  if (address.host.size() > 2 && address.host.front() == '[' && address.host.back() == ']') {
    address.ipv6 = true;
    address.host = address.host.substr(1, address.host.size() - 2);
  }
  in_addr v4{};
  in6_addr v6{};
  bool loopback = false;
  if (address.ipv6 && ::inet_pton(AF_INET6, address.host.c_str(), &v6) == 1) {
    loopback = IN6_IS_ADDR_LOOPBACK(&v6);
  } else if (!address.ipv6 && ::inet_pton(AF_INET, address.host.c_str(), &v4) == 1) {
    loopback = is_loopback(v4);
  } else {
    return Error::usage("address '" + text + "': '" + address.host + "' is not a numeric IP address");
  }
  if (!loopback && !allow_remote) {
    return Error::usage("address '" + text + "' is reachable from other machines: use a loopback address");
  }
  return address;
}

Status check_listen_address(const ListenAddress& address) {
  if (!address.unix_path.empty()) {
    return check_unix(address);
  }
  sockaddr_storage storage{};
  socklen_t size = 0;
  if (address.ipv6) {
    auto* name = reinterpret_cast<sockaddr_in6*>(&storage);
    name->sin6_family = AF_INET6;
    name->sin6_port = htons(address.port);
    ::inet_pton(AF_INET6, address.host.c_str(), &name->sin6_addr);
    size = sizeof *name;
  } else {
    auto* name = reinterpret_cast<sockaddr_in*>(&storage);
    name->sin_family = AF_INET;
    name->sin_port = htons(address.port);
    ::inet_pton(AF_INET, address.host.c_str(), &name->sin_addr);
    size = sizeof *name;
  }
  UniqueFd fd(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  // Without it connections that linger in TIME_WAIT would count as a listener.
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (!fd || ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&storage), size) != 0) {
    return cannot_listen(address, errno);
  }
  return ok();
}

}  // namespace ballast
