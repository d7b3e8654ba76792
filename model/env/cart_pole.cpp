// SPDX-License-Identifier: Apache-2.0
#include "model/env/cart_pole.h"

#include <cmath>
#include <numbers>

#include "model/env/random.h"

namespace ballast::env {
namespace {

constexpr double kGravity = 9.8;
constexpr double kPoleMass = 0.1;
constexpr double kTotalMass = 1.0 + kPoleMass;
constexpr double kHalfLength = 0.5;
constexpr double kForce = 10.0;
constexpr double kStepS = 0.02;
constexpr double kMaxAngle = 12 * 2 * std::numbers::pi / 360;
constexpr double kMaxPosition = 2.4;
constexpr double kStart = 0.05;  // the episode begins uniform within +- this

}  // namespace

CartPole::CartPole() {
  spec_.name = "cartpole";
  spec_.observation = 4;
  spec_.context = 4;
  spec_.actions = 2;
  spec_.max_steps = 500;
  spec_.solved = 475;
  spec_.reward_scale = 0.1;
  spec_.table = {{0, -2.4, 2.4, 3}, {1, -2, 2, 4}, {2, -kMaxAngle, kMaxAngle, 12}, {3, -2.5, 2.5, 12}};
}

void CartPole::reset(std::uint64_t seed) {
  Random random(seed);
  State state{};
  for (double& value : state) {
    value = random.uniform(-kStart, kStart);
  }
  steps_ = 0;
  set_state(state);
}

void CartPole::set_state(const State& state) {
  state_ = state;
  for (std::size_t i = 0; i < state.size(); ++i) {
    observation_[i] = static_cast<float>(state[i]);
  }
}

CartPole::State CartPole::advance(const State& state, std::size_t action) {
  const auto [x, x_dot, theta, theta_dot] = state;
  const double force = action == 1 ? kForce : -kForce;
  const double cosine = std::cos(theta);
  const double sine = std::sin(theta);
  const double temp = (force + kPoleMass * kHalfLength * theta_dot * theta_dot * sine) / kTotalMass;
  const double angular = (kGravity * sine - cosine * temp) /
                         (kHalfLength * (4.0 / 3.0 - kPoleMass * cosine * cosine / kTotalMass));
  const double linear = temp - kPoleMass * kHalfLength * angular * cosine / kTotalMass;
  return {x + kStepS * x_dot, x_dot + kStepS * linear, theta + kStepS * theta_dot,
          theta_dot + kStepS * angular};
}

Outcome CartPole::step(std::span<const std::size_t> actions) {
  set_state(advance(state_, actions[0]));
  ++steps_;
  Outcome outcome;
  outcome.reward = 1;
  outcome.terminated = std::abs(state_[0]) > kMaxPosition || std::abs(state_[2]) > kMaxAngle;
  outcome.truncated = !outcome.terminated && steps_ >= spec_.max_steps;
  return outcome;
}

}  // namespace ballast::env
