// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace ballast::lab {

struct Arrival {
  std::uint64_t at_ns = 0;      ///< intended start, from the start of the load
  std::uint32_t demand_us = 0;  ///< CPU time
  std::uint32_t session = 0;
  std::uint32_t wait_us = 0;  ///< off the CPU, after it

  bool operator==(const Arrival&) const = default;
};

struct ArrivalPlan {
  double rate = 0;  ///< a second
  double seconds = 0;
  double demand_mean_ms = 2;
  double demand_sigma = 0.8;  ///< 0: every request the same
  int sessions = 1;
  std::uint64_t seed = 1;
  double wait_mean_ms = 0;  ///< 0: none
  double wait_sigma = 0;
};

/// Poisson arrivals with lognormal demands. Times, demands and sessions are drawn from streams of
/// their own, so that a longer plan begins with the shorter one and equal seeds give equal arms.
std::vector<Arrival> make_arrivals(const ArrivalPlan& plan);

}  // namespace ballast::lab
