// SPDX-License-Identifier: Apache-2.0
#include "model/env/acrobot.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "model/env/random.h"

namespace ballast::env {
namespace {

// Both links: 1 m long, 1 kg, centre of mass in the middle, moment of inertia 1.
constexpr double kLength = 1.0;
constexpr double kMass = 1.0;
constexpr double kCentre = 0.5;
constexpr double kInertia = 1.0;
constexpr double kGravity = 9.8;
constexpr double kStepS = 0.2;
constexpr double kMaxVelocity1 = 4 * std::numbers::pi;
constexpr double kMaxVelocity2 = 9 * std::numbers::pi;
constexpr double kStart = 0.1;

double wrap(double angle) {
  while (angle > std::numbers::pi) {
    angle -= 2 * std::numbers::pi;
  }
  while (angle < -std::numbers::pi) {
    angle += 2 * std::numbers::pi;
  }
  return angle;
}

Acrobot::State along(const Acrobot::State& from, const Acrobot::State& slope, double by) {
  Acrobot::State to{};
  for (std::size_t i = 0; i < to.size(); ++i) {
    to[i] = from[i] + by * slope[i];
  }
  return to;
}

}  // namespace

Acrobot::Acrobot() {
  spec_.name = "acrobot";
  spec_.observation = 6;
  spec_.context = 6;
  spec_.actions = 3;
  spec_.max_steps = 500;
  spec_.solved = -100;
  spec_.reward_scale = 0.1;
  spec_.table = {{0, -1, 1, 6}, {1, -1, 1, 6}, {2, -1, 1, 6}, {3, -1, 1, 6}, {4, -6, 6, 6}, {5, -12, 12, 6}};
}

void Acrobot::reset(std::uint64_t seed) {
  Random random(seed);
  State state{};
  for (double& value : state) {
    value = random.uniform(-kStart, kStart);
  }
  steps_ = 0;
  set_state(state);
}

void Acrobot::set_state(const State& state) {
  state_ = state;
  const std::array<double, 6> seen = {std::cos(state[0]), std::sin(state[0]), std::cos(state[1]),
                                      std::sin(state[1]), state[2],           state[3]};
  std::transform(seen.begin(), seen.end(), observation_.begin(),
                 [](double value) { return static_cast<float>(value); });
}

Acrobot::State Acrobot::derivative(const State& state, double torque) {
  const auto [theta1, theta2, velocity1, velocity2] = state;
  constexpr double kHalfPi = std::numbers::pi / 2;
  const double d1 =
      kMass * kCentre * kCentre +
      kMass * (kLength * kLength + kCentre * kCentre + 2 * kLength * kCentre * std::cos(theta2)) +
      2 * kInertia;
  const double d2 = kMass * (kCentre * kCentre + kLength * kCentre * std::cos(theta2)) + kInertia;
  const double phi2 = kMass * kCentre * kGravity * std::cos(theta1 + theta2 - kHalfPi);
  const double phi1 = -kMass * kLength * kCentre * velocity2 * velocity2 * std::sin(theta2) -
                      2 * kMass * kLength * kCentre * velocity2 * velocity1 * std::sin(theta2) +
                      (kMass * kCentre + kMass * kLength) * kGravity * std::cos(theta1 - kHalfPi) + phi2;
  const double acceleration2 = (torque + d2 / d1 * phi1 -
                                kMass * kLength * kCentre * velocity1 * velocity1 * std::sin(theta2) - phi2) /
                               (kMass * kCentre * kCentre + kInertia - d2 * d2 / d1);
  const double acceleration1 = -(d2 * acceleration2 + phi1) / d1;
  return {velocity1, velocity2, acceleration1, acceleration2};
}

Acrobot::State Acrobot::advance(const State& state, double torque) {
  const State k1 = derivative(state, torque);
  const State k2 = derivative(along(state, k1, kStepS / 2), torque);
  const State k3 = derivative(along(state, k2, kStepS / 2), torque);
  const State k4 = derivative(along(state, k3, kStepS), torque);
  State next{};
  for (std::size_t i = 0; i < next.size(); ++i) {
    next[i] = state[i] + kStepS / 6 * (k1[i] + 2 * k2[i] + 2 * k3[i] + k4[i]);
  }
  return {wrap(next[0]), wrap(next[1]), std::clamp(next[2], -kMaxVelocity1, kMaxVelocity1),
          std::clamp(next[3], -kMaxVelocity2, kMaxVelocity2)};
}

Outcome Acrobot::step(std::span<const std::size_t> actions) {
  set_state(advance(state_, static_cast<double>(actions[0]) - 1.0));
  ++steps_;
  Outcome outcome;
  outcome.terminated = -std::cos(state_[0]) - std::cos(state_[0] + state_[1]) > 1.0;
  outcome.reward = outcome.terminated ? 0 : -1;
  outcome.truncated = !outcome.terminated && steps_ >= spec_.max_steps;
  return outcome;
}

}  // namespace ballast::env
