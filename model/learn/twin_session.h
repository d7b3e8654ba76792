// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "model/policy/gains_file.h"
#include "model/policy/recording_file.h"

namespace ballast::learn {

struct TwinOptions {
  std::uint64_t seed = 1;
  std::size_t updates = 40;      ///< of the gains
  std::size_t fit_steps = 2000;  ///< of the forecast
  double most_s = 0;             ///< of computing the gains of a service; 0: all updates
  bool gains = true;             ///< ablations
  bool forecast = true;
  std::function<void(const std::string&)> say = [](const std::string&) {};
};

/// What is better than before in the twins; what is not is as it was.
struct TwinResult {
  std::vector<float> forecast;
  policy::GainsByService gains;
  bool forecast_learned = false;
};

/// Builds the twin of each service of the recording, says what it predicts beside what happened, goes on
/// fitting the forecast to what came, and learns the gains. Each is kept only where the twin's own door says
/// so (twin::improved, on traces that nothing was learned from): the forecast by the busiest service's twin.
/// Fails when no service was recorded for long enough; other lacks are said and worked around.
Result<TwinResult> learn_in_twin(const policy::Recording& recording, std::vector<float> forecast,
                                 const TwinOptions& options);

}  // namespace ballast::learn
