// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace ballast::bench {

/// What a simulated request costs, by the number of servers.
struct SpeedRow {
  std::string policy;
  std::uint32_t servers = 0;
  std::uint64_t requests = 0;  ///< a run
  double requests_per_s = 0;   ///< median of the runs, of CPU time
};

struct SpeedOptions {
  std::vector<std::string> policies = {"round_robin", "least_request"};
  std::vector<std::uint32_t> servers = {10, 100, 1000};
  std::uint64_t requests = 2'000'000;
  int runs = 3;
};

Result<std::vector<SpeedRow>> measure_speed(const SpeedOptions& options);

/// `ballast-bench speed`: measures and prints a line a row, with the cost beside that of the
/// fewest servers and beside what a logarithm would allow.
Status run_speed(const SpeedOptions& options);

}  // namespace ballast::bench
