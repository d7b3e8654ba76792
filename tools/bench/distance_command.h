// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "core/base/result.h"
#include "tools/bench/distance_run.h"

namespace ballast::bench {

/// `ballast-bench distance`: A3C through the real global network (model/sync), without sockets: workers in
/// turn, each gradient taken at parameters of so many versions before; with our server's rules and without
/// them; with workers that mean no good; and how much sooner more workers are done.
struct DistanceOptions {
  std::string environment = "cartpole";
  std::vector<std::size_t> staleness = {1, 16, 64, 255};  ///< versions
  std::vector<std::size_t> workers = {1, 4, 16, 64};
  /// Of the workers and of the versions: with it, every staleness is run with `workers` of it alone and
  /// every number of workers at a staleness of it alone, not each with each. 0: each with each.
  std::size_t cross = 0;
  std::uint64_t steps = 300'000;  ///< of the environment, all workers together
  std::size_t seeds = 5;
  std::vector<std::string> poison = {"none", "nan", "scaled", "flipped", "replayed"};
  std::size_t poison_workers = 20;
  /// Workers of the runs until the task is solved: in turn, N - 1 versions behind, and in threads.
  std::vector<std::size_t> speed_up = {1, 2, 4, 8, 16};
  bool threads = true;       ///< these too
  double learning_rate = 0;  ///< 0: as tuned
  unsigned jobs = 2;
  double minutes = 0;  ///< after so many no further run begins; 0: all are run
  std::string output;  ///< CSV, a row a run; the runs that it holds already are not run again
  std::string page;    ///< HTML with the learning curves; empty: none
};

Status run_distance(const DistanceOptions& options);

/// What was run, in the order of the plan.
using DistanceRuns = std::vector<std::pair<DistanceRun, DistanceResult>>;
std::string distance_csv(const DistanceRuns& runs);
/// A row that is not of this build's form is an error that names its line.
Result<DistanceRuns> distance_from_csv(const std::string& text);
/// One page with the learning curves: means over the seeds and 95 % intervals.
std::string distance_page(const DistanceRuns& runs, std::uint64_t steps, const std::string& how);

}  // namespace ballast::bench
