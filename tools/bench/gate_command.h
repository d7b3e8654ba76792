// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "model/sim/technique.h"

namespace ballast::bench {

/// `ballast-bench gate`: whether parameters may be shipped.
struct GateOptions {
  std::string candidate;
  std::string incumbent;               ///< parameters in force; empty: the prior is the incumbent
  std::vector<std::string> scenarios;  ///< held out; empty: held_out_scenarios()
  std::string seeds = "1001..1010";    ///< of the traces, none of which was trained on
  std::string output;                  ///< JSON with every run and the table; empty: none
  double tolerance = 1.02;             ///< a scenario's p99 and p50 may not be worse than the prior's by more
  sim::LoopOptions loop;
  unsigned jobs = 1;
};

/// Built-in scenarios whose controllers have something to decide. The queue environment trains on worlds
/// of its own making, so none of them was seen.
const std::vector<std::string>& held_out_scenarios();

/// A mean with its 95 % interval.
struct Interval {
  double mean = 0;
  double low = 0;
  double high = 0;
};

/// Bootstrap of the mean of strata (Efron, Tibshirani 1993; stratified as in Agarwal et al. 2021):
/// each stratum is resampled by itself, the strata's means are averaged. Deterministic. REQUIRES no
/// empty stratum.
Interval bootstrap_mean(std::span<const std::vector<double>> strata, std::size_t resamples = 2000);

/// Of one scenario: the candidate's ratio to the prior and to the incumbent, paired by trace,
/// geometric means.
struct GateRow {
  std::string scenario;
  Interval p99_prior, p99_incumbent, p50_prior;
  double goodput_prior = 1;
  double changes_prior = 1;  ///< weight pushes a minute, ratio of sums
};

struct Verdict {
  bool passed = false;
  std::string why;
  Interval gain_prior;      ///< mean over scenarios of log(prior's p99 / candidate's)
  Interval gain_incumbent;  ///< the same against the incumbent
};

/// Passed when the lower bound of both gains is above zero and no scenario's p99 or p50 is worse than
/// the prior's by more than `tolerance`.
Verdict judge(const std::vector<GateRow>& rows, const Interval& gain_prior, const Interval& gain_incumbent,
              double tolerance);

/// Prints the table; ok() when the candidate passed, else an error that says why.
Status run_gate(const GateOptions& options);

}  // namespace ballast::bench
