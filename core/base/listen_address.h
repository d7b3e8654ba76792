// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/result.h"

namespace ballast {

/// Where a server of ours listens: a unix socket, or a numeric IP address and a port.
struct ListenAddress {
  std::string unix_path;   ///< not empty: a unix socket, and the rest is unused
  std::string host;        ///< numeric, without brackets
  std::uint16_t port = 0;  ///< 0: the kernel chooses
  bool ipv6 = false;

  /// As sockets name it: `unix:PATH`, `127.0.0.1:80`, `[::1]:80`.
  std::string text() const;
};

/// Parses `unix:PATH`, `IP:PORT`, `[IPv6]:PORT` or `localhost:PORT`. Errors are kUsage and name the
/// text. An address beyond loopback is refused unless `allow_remote`.
Result<ListenAddress> parse_listen_address(const std::string& text, bool allow_remote);

/// Tries to bind, and lets go again. The error (kFailed) names the address and the reason: in use,
/// not of this machine, not permitted. A unix socket that nobody serves is not in use.
Status check_listen_address(const ListenAddress& address);

}  // namespace ballast
