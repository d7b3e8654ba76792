// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/result.h"

namespace ballast::bench {

struct LoadOptions {
  std::string address = "127.0.0.1";
  std::uint16_t port = 8080;
  std::string path = "/";
  unsigned connections = 16;
  double seconds = 5;
  double rate = 0;             ///< requests a second over all connections; 0: as fast as answers come
  unsigned pipeline = 1;       ///< requests written together
  std::uint64_t body = 0;      ///< bytes of each request's body; more than 0 makes it a POST
  bool chunked = false;        ///< that body in chunks, and an answer in chunks is asked for
  std::uint64_t chunk = 4000;  ///< bytes of each of them
  bool close = false;          ///< a connection a request
  unsigned proxy = 0;  ///< version of a PROXY protocol header before a connection's first request; 0: none
  bool fast_open = false;  ///< the first request comes with the SYN, where the kernel has a cookie
  bool mptcp = false;
};

/// The client's own count. It stops asking after `seconds` and then waits for what is outstanding.
struct LoadReport {
  std::uint64_t sent = 0;      ///< requests whose last byte was written
  std::uint64_t answered = 0;  ///< responses that came whole
  std::uint64_t failed = 0;    ///< of those, status other than 2xx
  std::uint64_t broken = 0;    ///< connections that failed or spoke nonsense
  double longest_s = 0;        ///< that an answer took, from before its request was written
  double seconds = 0;          ///< from the first request to the last answer
};

/// One thread, epoll, HTTP/1.1 over TCP. Fails when no connection can be made.
Result<LoadReport> run_load(const LoadOptions& options);

}  // namespace ballast::bench
