// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/arrivals.h"

#include <algorithm>
#include <cmath>
#include <numbers>
#include <random>

namespace ballast::lab {

namespace {

// The distributions of <random> may differ between libraries; these may not.
class Stream {
 public:
  Stream(std::uint64_t seed, std::uint64_t stream) {
    std::seed_seq sequence{seed & 0xffffffffU, seed >> 32U, stream};
    engine_.seed(sequence);
  }
  /// In (0, 1].
  double uniform() { return (static_cast<double>(engine_() >> 11U) + 1) * 0x1p-53; }
  double exponential(double rate) { return -std::log(uniform()) / rate; }
  double normal() {  // Box-Muller
    const double radius = std::sqrt(-2 * std::log(uniform()));
    return radius * std::cos(2 * std::numbers::pi * uniform());
  }
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(engine_() % n); }

 private:
  std::mt19937_64 engine_;
};

}  // namespace

std::vector<Arrival> make_arrivals(const ArrivalPlan& plan) {
  Stream times(plan.seed, 1);
  Stream demands(plan.seed, 2);
  Stream sessions(plan.seed, 3);
  Stream waits(plan.seed, 4);
  const double wait_mu = std::log(plan.wait_mean_ms * 1e3) - plan.wait_sigma * plan.wait_sigma / 2;
  const double mu = std::log(plan.demand_mean_ms * 1e3) - plan.demand_sigma * plan.demand_sigma / 2;
  std::vector<Arrival> arrivals;
  double t = times.exponential(plan.rate);
  while (t < plan.seconds) {
    const double demand = std::exp(mu + plan.demand_sigma * demands.normal());
    arrivals.push_back({static_cast<std::uint64_t>(t * 1e9),
                        static_cast<std::uint32_t>(std::clamp(std::round(demand), 1.0, 1e7)),
                        sessions.below(static_cast<std::uint32_t>(std::max(plan.sessions, 1)))});
    if (plan.wait_mean_ms > 0) {
      const double wait = std::exp(wait_mu + plan.wait_sigma * waits.normal());
      arrivals.back().wait_us = static_cast<std::uint32_t>(std::clamp(std::round(wait), 1.0, 1e8));
    }
    t += times.exponential(plan.rate);
  }
  return arrivals;
}

}  // namespace ballast::lab
