// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "model/env/environment.h"

namespace ballast::env {

/// CartPole-v1 of Gymnasium: the cart and pole of Barto, Sutton and Anderson 1983 by Florian's
/// corrected equations, Euler steps of 0.02 s, +1 a step until the pole is 12 degrees off, the
/// cart 2.4 off the middle, or 500 steps are over. Observation: x, x', theta, theta'.
class CartPole final : public Environment {
 public:
  using State = std::array<double, 4>;

  CartPole();
  const Spec& spec() const override { return spec_; }
  void reset(std::uint64_t seed) override;
  std::size_t agents() const override { return 1; }
  std::span<const float> observation(std::size_t) const override { return observation_; }
  std::span<const float> context() const override { return observation_; }
  Outcome step(std::span<const std::size_t> actions) override;

  /// One Euler step; action 1 pushes to the right.
  static State advance(const State& state, std::size_t action);
  void set_state(const State& state);
  const State& state() const { return state_; }

 private:
  Spec spec_;
  State state_{};
  std::array<float, 4> observation_{};
  std::size_t steps_ = 0;
};

}  // namespace ballast::env
