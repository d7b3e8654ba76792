// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "tools/bench/matrix.h"
#include "tools/bench/page.h"

namespace ballast::bench {

struct FiguresOptions {
  std::filesystem::path out;
  bool quick = false;       ///< a look within two minutes: few scenarios, seeds and steps
  MatrixOptions matrix;     ///< what is set here beats the defaults
  std::string seeds;        ///< A..B; empty: 1..10, quick 1..3
  std::uint64_t steps = 0;  ///< of a learner; 0: 20,000, quick 4,000
  /// That figure 3's learners learn in: unequal pods, whose best split the prior does not know, and pods
  /// whose CPU limit is not what they can do.
  std::vector<std::string> worlds = {"static", "io_limits"};
  std::vector<std::string> learners = {"q_learning", "dqn", "pg", "a2c", "ppo", "a3c"};
  std::filesystem::path trials;   ///< of tools/bench/trials.py: settings of each learner; empty: as tuned
  std::filesystem::path live;     ///< reports of tools/jmeter/run; empty: no figure 4 live
  std::filesystem::path program;  ///< that trains (`PROGRAM train`); empty: no figure 3
};

/// `ballast-bench matrix`: OUT/matrix.csv, comparisons.csv, verdicts.csv, and a summary on stdout.
Status run_matrix(FiguresOptions options);

/// `ballast-bench figures`: these, and figure3.csv, figure4.csv and index.html. A run that was stopped
/// goes on: cells and trainings that are done are kept in OUT. What could not be made is said on the
/// page, never drawn.
Status run_figures(FiguresOptions options);

/// Figure 3's curves: six learners from nothing, by running `program train` once a learner, world and seed,
/// into OUT/train/; and as lines what the strong rule, the prior and foresight return in the same episodes.
/// `note` says what is missing and why.
std::vector<LearningCurve> learning_curves(const FiguresOptions& options, std::string& note);

/// Figure 4's: the paper's techniques, in bins of 5 s.
Result<std::vector<ThroughputCurve>> throughput_curves(const FiguresOptions& options,
                                                       const Progress& progress);

}  // namespace ballast::bench
