// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace ballast::bench {

/// One run of A3C through the real global network (model/sync) without sockets. What it costs a worker to
/// be far from the network, and the network to have bad workers.
struct DistanceRun {
  std::size_t staleness = 1;
  std::size_t workers = 1;
  std::string poison = "none";  ///< none, nan, scaled, flipped, replayed: of every tenth worker
  bool rules = true;            ///< the server's, beyond Mnih et al.'s
  std::uint64_t seed = 1;
  std::string environment = "cartpole";  ///< of env::environment_names()
  /// A thread a worker, none of which waits for another, until the task is solved: for its time. Then
  /// `staleness` is not read: a gradient lags as far behind as it happens to.
  bool threads = false;
  double learning_rate = 0;  ///< 0: as tuned for A3C here, which then adapts it; here it stays
};

struct DistanceResult {
  static constexpr std::size_t kPoints = 20;
  std::uint64_t solved_at = 0;  ///< steps until 20 episodes in a row returned what solves the task in the
                                ///< mean; 0: never
  double seconds = 0;           ///< until then, where threads ran
  double final_return = 0;      ///< mean of the honest workers' episodes that ended in the last fifth
  std::uint64_t versions = 0, accepted = 0, rejected = 0, quarantines = 0;
  /// Mean return of the honest workers' episodes that ended in each twentieth of the steps; NaN where
  /// none did.
  std::array<double, kPoints> curve{};
};

/// REQUIRES a known environment. `steps` are those of all workers together.
DistanceResult learn_at_distance(const DistanceRun& run, std::uint64_t steps);

}  // namespace ballast::bench
