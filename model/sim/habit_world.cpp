// SPDX-License-Identifier: Apache-2.0
#include <array>
#include <cmath>

#include "model/sim/random.h"
#include "model/sim/scenario.h"

namespace ballast::sim {
namespace {

/// Of the built-in scenarios: no world to train in has one within kApart of any, or of its half or double.
constexpr std::array<double, 6> kJudged = {5.3, 6.1, 7.3, 20.3, 30.7, 61.7};
constexpr double kApart = 1.06;

bool judged(double period) {
  for (const double each : kJudged) {
    for (const double times : {0.5, 1.0, 2.0}) {
      if (std::abs(std::log(period / (each * times))) < std::log(kApart)) {
        return true;
      }
    }
  }
  return false;
}

double draw_period(Rng& rng) {
  double period = 0;
  do {
    period = std::exp(std::log(4.0) + rng.uniform() * std::log(25.0));
  } while (judged(period));
  return period;
}

Slowness habit(Rng& rng, std::size_t pods) {
  Slowness slow;
  slow.factor = 0.2 + 0.5 * rng.uniform();
  slow.every_s = draw_period(rng);
  slow.duration_s = slow.every_s * (0.08 + 0.3 * rng.uniform());
  const double dice = rng.uniform();
  if (dice < 0.25) {
    slow.kind = Slowness::Kind::kPause;
    return slow;
  }
  if (dice < 0.4) {
    slow.kind = Slowness::Kind::kRotate;
    slow.count = 1 + rng.below(static_cast<std::uint32_t>(std::max<std::size_t>(1, pods / 3)));
    return slow;
  }
  slow.kind = Slowness::Kind::kPeriodic;
  slow.phase_s = rng.uniform() * slow.every_s;
  const double part = 0.3 + 0.7 * rng.uniform();
  for (std::uint32_t i = 0; i < pods; ++i) {
    if (rng.uniform() < part) {
      slow.servers.push_back(i);
    }
  }
  if (slow.servers.empty()) {
    slow.servers.push_back(0);
  }
  if (dice < 0.8) {
    slow.stagger_s = slow.every_s * (0.2 + 0.8 * rng.uniform()) / static_cast<double>(pods);
  }
  if (rng.uniform() < 0.4) {
    slow.jitter_s = (slow.every_s - slow.duration_s) * rng.uniform() * (rng.uniform() < 0.5 ? 0.1 : 1);
  }
  return slow;
}

}  // namespace

Scenario habit_world(std::uint64_t seed) {
  Rng rng(seed, Cause::kSlowness, 0x4AB1);
  Scenario world;
  world.name = "habit:" + std::to_string(seed);
  world.title = "a world to learn in, with habits or none";
  world.clients = 5 + rng.below(30);
  world.service = {.mean_s = 0.01 + 0.02 * rng.uniform(), .cv = 0.5 + rng.uniform()};
  const std::size_t pods = 3 + rng.below(10);
  for (std::size_t i = 0; i < pods; ++i) {
    world.servers.push_back({.speed = rng.uniform() < 0.5 ? 1 : 0.4 + 0.6 * rng.uniform()});
  }
  world.arrivals.rho = 0.3 + 0.45 * rng.uniform();
  double longest = 20;
  const double dice = rng.uniform();
  for (int habits = dice < 0.1 ? 0 : dice < 0.85 ? 1 : 2; habits > 0; --habits) {
    world.slowness.push_back(habit(rng, pods));
    longest = std::max(longest, world.slowness.back().every_s);
  }
  world.duration_s = 60 + std::min(6 * longest, 240.0);
  world.overload = true;
  world.deadline_s = 5;
  return world;
}

}  // namespace ballast::sim
