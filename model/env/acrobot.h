// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>

#include "model/env/environment.h"

namespace ballast::env {

/// Acrobot-v1 of Gymnasium: the two-link pendulum of Sutton and Barto 2018 ("book" dynamics), a
/// torque of -1, 0 or +1 on the middle joint, one Runge-Kutta step of 0.2 s, -1 a step (0 in the
/// last) until the tip is one link above the base or 500 steps are over.
/// Observation: cos and sin of theta1, cos and sin of theta2, theta1', theta2'.
class Acrobot final : public Environment {
 public:
  using State = std::array<double, 4>;  ///< theta1, theta2, theta1', theta2'

  Acrobot();
  const Spec& spec() const override { return spec_; }
  void reset(std::uint64_t seed) override;
  std::size_t agents() const override { return 1; }
  std::span<const float> observation(std::size_t) const override { return observation_; }
  std::span<const float> context() const override { return observation_; }
  Outcome step(std::span<const std::size_t> actions) override;

  /// Time derivative of the state under a torque.
  static State derivative(const State& state, double torque);
  /// One step of 0.2 s, angles wrapped to [-pi, pi], velocities within +-4 pi and +-9 pi.
  static State advance(const State& state, double torque);
  void set_state(const State& state);
  const State& state() const { return state_; }

 private:
  Spec spec_;
  State state_{};
  std::array<float, 6> observation_{};
  std::size_t steps_ = 0;
};

}  // namespace ballast::env
