// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/spec/verdict.h"
#include "model/sim/technique.h"

namespace ballast::bench {

/// `ballast-bench gate`: whether parameters may be shipped.
struct GateOptions {
  std::string candidate;               ///< of the actor-critic or of the forecast: the file says
  std::string incumbent;               ///< file in force; empty: queue_rule, which acts without parameters
  std::vector<std::string> scenarios;  ///< held out; empty: held_out_scenarios()
  std::string seeds = "1001..1010";    ///< of the traces, none of which was trained on
  std::string output;                  ///< JSON with the table; empty: none
  /// The upper bounds of a scenario's p99 and p50 over those of strong rule and incumbent may not be above.
  double tolerance = 1.02;
  sim::LoopOptions loop;
  std::string loop_name;  ///< a profile (sim::find_loop) in the place of it
  unsigned jobs = 1;
};

/// Built-in scenarios whose controllers have something to decide. No learner trains on one.
const std::vector<std::string>& held_out_scenarios();

using spec::Interval;

/// Bootstrap of the mean of strata (Efron, Tibshirani 1993; stratified as in Agarwal et al. 2021):
/// each stratum is resampled by itself, the strata's means are averaged. Deterministic, 95 %. REQUIRES no
/// empty stratum.
Interval bootstrap_mean(std::span<const std::vector<double>> strata, std::size_t resamples = 2000);

/// What the candidate is judged beside.
enum Arm : std::size_t { kIncumbent = 0, kPrior, kPriorSquareRoot, kStrongRule, kJudges };
/// Their names as keys of the report.
extern const std::array<std::string, kJudges> kArmNames;

/// Of one scenario: the candidate's ratio to each arm, paired by trace, geometric means.
struct GateRow {
  std::string scenario;
  std::array<Interval, kJudges> p99, p50;
  double goodput_prior = 1;
  double changes_prior = 1;  ///< weight pushes a minute, ratio of sums
};

/// Mean over scenarios of log(the arm's p99 / the candidate's).
using Gains = std::array<Interval, kJudges>;

struct Verdict {
  bool passed = false;
  std::string why;
};

/// Below, a bootstrap has no bounds worth the name.
inline constexpr std::size_t kLeastSeeds = 5;

/// Safe improvement by bounds: the gain over every arm is above zero at its lower bound, and in no scenario
/// are the upper bounds of p99 and p50 beyond `tolerance` of strong rule and incumbent. A tie is refused, and
/// so is what fewer than kLeastSeeds traces show.
Verdict judge(const std::vector<GateRow>& rows, const Gains& gains, std::size_t seeds, double tolerance);

/// Prints the table; ok() when the candidate passed, else an error that says why.
Status run_gate(const GateOptions& options);

}  // namespace ballast::bench
