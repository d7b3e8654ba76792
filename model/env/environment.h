// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

/// Worlds to learn in. One interface for one agent (CartPole) and for many that share one policy
/// and one reward (the endpoints of a service).
namespace ballast::env {

/// One feature of the observation cut into equal bins between two bounds, what lies outside going
/// to the outermost, for a learner that keeps a table.
struct Bins {
  std::size_t feature = 0;
  double low = -1;
  double high = 1;
  std::size_t bins = 1;
};

/// Shapes and bounds, fixed for the life of an environment.
struct Spec {
  std::string name;
  std::size_t observation = 0;  ///< floats that one agent sees
  std::size_t context = 0;      ///< floats that the critic sees; one context for all agents of a step
  std::size_t actions = 0;
  std::size_t max_steps = 0;  ///< an episode is truncated after so many
  std::size_t max_agents = 1;
  std::vector<Bins> table;  ///< what a tabular learner may look at
  /// Mean undiscounted return of an episode from which the task counts as solved; 0: none is agreed.
  double solved = 0;
  /// Scales rewards for learners with a critic, so that returns are of order one. Not in returns
  /// that are reported.
  double reward_scale = 1;
};

/// What one step brought, shared by all agents.
struct Outcome {
  double reward = 0;
  bool terminated = false;  ///< the future is worth nothing
  bool truncated = false;   ///< time is up: the future is worth what the critic says
  bool done() const { return terminated || truncated; }
};

/// Not thread-safe. The same seeds and actions give the same bits.
class Environment {
 public:
  virtual ~Environment() = default;
  virtual const Spec& spec() const = 0;

  /// Begins a new episode.
  virtual void reset(std::uint64_t seed) = 0;
  /// Agents that act in the next step, at least one unless the episode is over.
  virtual std::size_t agents() const = 0;
  /// Until the next step() or reset(). REQUIRES agent < agents().
  virtual std::span<const float> observation(std::size_t agent) const = 0;
  /// What a rule made by hand would do here, where there is one; only for imitation.
  virtual std::optional<std::size_t> advice(std::size_t agent) const {
    static_cast<void>(agent);
    return std::nullopt;
  }
  /// Also right after the last step of an episode, where it is the state that ended it.
  virtual std::span<const float> context() const = 0;
  /// One action for each agent. REQUIRES actions.size() == agents(), each below spec().actions,
  /// and an episode that is not over.
  virtual Outcome step(std::span<const std::size_t> actions) = 0;
};

}  // namespace ballast::env
