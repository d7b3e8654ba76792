// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/result.h"

namespace ballast::bench {

struct CaptureOptions {
  std::string interface;
  std::uint16_t port = 8080;  ///< the server's
};

/// First-byte latency as packets show it: from a connection's request to the first packet of its
/// answer. For one request at a time on a connection, IPv4, no loss: what the benchmark sends.
struct CaptureReport {
  std::uint64_t pairs = 0;
  std::uint64_t dropped = 0;  ///< packets that the capture missed: the figures are then worthless
  double p50_ns = 0;          ///< exact, from all pairs
  double p90_ns = 0;
  double p99_ns = 0;
  double p999_ns = 0;
};

/// Captures through libpcap until standard input ends. Says "ready" on standard output when it
/// listens. kPrivilege when the interface may not be opened.
Result<CaptureReport> run_capture(const CaptureOptions& options);

}  // namespace ballast::bench
