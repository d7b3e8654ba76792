// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "core/base/result.h"

namespace ballast::bench {

/// `ballast-bench habits`: what a learner of the forecast learns from.
struct HabitsOptions {
  std::string worlds = "1..400";  ///< A..B, both included
  std::string output;
};

/// Runs the strong rule in habit:A to habit:B, at Istio's pace in half of them, and writes a file of samples
/// (model/policy/forecast_file.h). The same worlds give the same bytes.
Status run_habits(const HabitsOptions& options);

/// `ballast-bench record`: what an agent would record of a scenario's service, for `ballast-learner --twin`.
struct RecordOptions {
  std::string scenario;
  std::string policy = "forecast_rule";  ///< with the shipped parameters; or queue_rule
  std::string loop_name = "istio";
  double seconds = 600;
  std::uint64_t seed = 1;
  std::string output;
};

Status run_record(const RecordOptions& options);

}  // namespace ballast::bench
