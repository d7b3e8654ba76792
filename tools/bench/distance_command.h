// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "agent/base/result.h"

namespace ballast::bench {

/// `ballast-bench distance`: A3C on CartPole through the real global network (model/sync), without
/// sockets: workers in turn, each gradient taken at parameters of so many versions before; with our
/// server's rules and without them, and with workers that mean no good.
struct DistanceOptions {
  std::vector<std::size_t> staleness = {1, 16, 64, 255};  ///< versions
  std::vector<std::size_t> workers = {1, 4, 16, 64};
  std::uint64_t steps = 300'000;  ///< of the environment, all workers together
  std::size_t seeds = 5;
  bool poison = true;  ///< the table of poisoned workers too
  std::size_t poison_workers = 20;
  unsigned jobs = 2;
  std::string output;  ///< CSV, a row a run
};

/// One run. What it costs a worker to be far from the network, and the network to have bad workers.
struct DistanceRun {
  std::size_t staleness = 1;
  std::size_t workers = 1;
  std::string poison = "none";  ///< none, nan, scaled, flipped, replayed: of every tenth worker
  bool rules = true;            ///< the server's, beyond Mnih et al.'s
  std::uint64_t seed = 1;
};

struct DistanceResult {
  std::uint64_t solved_at = 0;  ///< steps until 20 episodes in a row returned 475 in the mean; 0: never
  double final_return = 0;      ///< mean of the honest workers' episodes that ended in the last fifth
  std::uint64_t versions = 0, accepted = 0, rejected = 0, quarantines = 0;
};

DistanceResult learn_at_distance(const DistanceRun& run, std::uint64_t steps);
Status run_distance(const DistanceOptions& options);

}  // namespace ballast::bench
