// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace ballast::bench {

/// Simulated workers in bulk: each has a stream and a connection of its own to a global network and
/// pushes a gradient and pulls the parameters once an interval, whether the last answer was quick or
/// not. A few threads drive all of them.
struct SwarmOptions {
  std::string address;
  std::size_t workers = 100;
  std::size_t parameters = 20'000;
  double interval_s = 5;  ///< between the syncs of one worker; the first ones are spread over it
  double warm_up_s = 5;   ///< not measured, at least one interval
  double seconds = 10;    ///< measured
  unsigned threads = 1;
};

struct SwarmResult {
  std::uint64_t syncs = 0;   ///< pushes answered, of those that were due in the measured time
  std::uint64_t lost = 0;    ///< pushes that were never answered
  std::uint64_t broken = 0;  ///< streams that ended
  std::string broken_why;    ///< of one of them
  std::map<std::string, std::uint64_t> verdicts;
  std::vector<float> latency_ms;  ///< from when the sync was due to its answer; sorted
  std::uint64_t first_version = 0, last_version = 0;
  std::uint64_t parameter_bytes = 0;  ///< pulled
};

/// `measuring(true)` is called when the measured time begins, `measuring(false)` when it ends.
SwarmResult run_swarm(const SwarmOptions& options, void (*measuring)(bool begins, void* context),
                      void* context);

}  // namespace ballast::bench
