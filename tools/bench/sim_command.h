// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "model/sim/metrics.h"
#include "model/sim/technique.h"

namespace ballast::bench {

/// `ballast-bench sim`: policies x seeds in one scenario.
struct SimOptions {
  std::string scenario;  ///< NAME[:VARIANT] or FILE[:VARIANT]
  std::vector<std::string> policies;
  std::string seeds = "1..1";  ///< A..B, both included, or one number
  std::string parameters;      ///< file that `ballast` acts with; empty: the shipped one
  std::string gains;           ///< file of learned gains for `queue_rule` and `forecast_rule`; empty: none
  std::string output;          ///< JSON; "-" is stdout
  sim::LoopOptions loop;       ///< of the weight controllers
  std::string loop_name;       ///< a profile (sim::find_loop) in place of it; a tick that is given beats it
  bool tick_given = false;     ///< the flag beats the scenario's own tick
  unsigned jobs = 1;           ///< runs at the same time
  bool timeline = false;       ///< adds goodput by second to each row
};

struct SeedRange {
  std::uint64_t first = 1;
  std::uint64_t last = 1;
};
/// Refuses anything but A..B with A <= B, or A.
Result<SeedRange> parse_seeds(const std::string& text);

/// A policy by name; `ballast` (`forecast_rule`) acts with the parameters of that file, if one is named, and
/// the rules with those gains.
Result<sim::Technique> technique_named(const std::string& name, const std::string& parameters,
                                       const std::string& gains = "");

/// Runs all and writes a JSON list, a row a policy and seed, policies in the order given, seeds
/// rising. The same options give the same bytes, whatever `jobs` is.
Status run_sim(const SimOptions& options);

/// The rows alone, as text.
Result<std::string> sim_rows(const SimOptions& options);

}  // namespace ballast::bench
