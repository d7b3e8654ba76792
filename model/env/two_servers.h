// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>

#include "model/env/environment.h"
#include "model/env/random.h"

namespace ballast::env {

/// Two exponential servers of unequal speed behind one dispatcher: small enough to be solved by value
/// iteration, so that what a tabular learner finds can be judged.
///
/// Uniformised: each step is one event, a Poisson arrival with probability lambda or a service of one
/// server with mu1 or mu2 (lambda + mu1 + mu2 = 1; a service of an empty server is no event). The
/// action says which server the next arrival joins; a full one turns it away at a price. Reward:
/// -(requests in the system) - price of what was turned away. Observation: both queue lengths.
class TwoServers final : public Environment {
 public:
  static constexpr std::size_t kCapacity = 4;  ///< requests that one server holds
  static constexpr std::size_t kStates = (kCapacity + 1) * (kCapacity + 1);
  static constexpr double kArrival = 0.4;
  static constexpr std::array<double, 2> kService = {0.42, 0.18};
  static constexpr double kTurnedAway = 10;

  /// What may follow a state and an action.
  struct Branch {
    double probability = 0;
    std::size_t next = 0;
    double reward = 0;
  };

  TwoServers();
  const Spec& spec() const override { return spec_; }
  void reset(std::uint64_t seed) override;
  std::size_t agents() const override { return 1; }
  std::span<const float> observation(std::size_t) const override { return observation_; }
  std::span<const float> context() const override { return observation_; }
  Outcome step(std::span<const std::size_t> actions) override;

  static std::size_t state_of(std::size_t first, std::size_t second) {
    return first * (kCapacity + 1) + second;
  }
  /// The law of the environment: arrival, service of the first, service of the second.
  static std::array<Branch, 3> branches(std::size_t state, std::size_t action);

 private:
  void set(std::size_t state);

  Spec spec_;
  Random random_{0};
  std::size_t state_ = 0;
  std::size_t steps_ = 0;
  std::array<float, 2> observation_{};
};

}  // namespace ballast::env
