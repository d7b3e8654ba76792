// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <vector>

#include "core/spec/rollout.h"
#include "model/net/actor_critic.h"
#include "model/policy/parameters.h"
#include "model/sync/network/global_network.h"

/// Asynchronous advantage actor-critic (Mnih et al. 2016), the worker's half: rollouts in,
/// gradients out. The other half is sync::GlobalNetwork.
namespace ballast::learn {

/// Since the worker began.
struct Counters {
  std::uint64_t rollouts = 0;       ///< learned from
  std::uint64_t unknown_theta = 0;  ///< acted with parameters that are not (or no longer) held
  std::uint64_t invalid = 0;        ///< refused by net::check()
};

/// What was learned since the last look, averaged over the steps.
struct Progress {
  std::size_t gradients = 0;
  net::Statistics mean;  ///< rollouts and steps are sums
};

/// One worker; not thread-safe.
class A3cWorker {
 public:
  /// Parameters that are kept for rollouts that acted with older ones; at 250 ms a tick and 20
  /// steps a rollout even a worker that is given new parameters every tick needs no more.
  static constexpr std::size_t kKept = 64;

  explicit A3cWorker(const net::Hyperparameters& hyper) : hyper_(hyper) {}

  /// Keeps new parameters, known by (epoch, version) from now on. Those of another epoch are
  /// forgotten: the global network would refuse their gradients.
  void hold(policy::Parameters parameters);

  /// One gradient for each version that acted, taken at that version's theta, oldest first.
  /// Rollouts that cannot be learned from are dropped and counted.
  std::vector<sync::Gradient> learn(std::vector<spec::Rollout> rollouts);

  const Counters& counters() const { return counters_; }
  /// nullopt when nothing was learned since the last call.
  std::optional<Progress> take_progress();

 private:
  const policy::Parameters* find(const sync::Version& version) const;
  void note(const net::Statistics& statistics);

  net::Hyperparameters hyper_;
  net::ActorCritic network_;
  std::deque<policy::Parameters> held_;  // oldest first
  Counters counters_;
  Progress progress_;
};

}  // namespace ballast::learn
