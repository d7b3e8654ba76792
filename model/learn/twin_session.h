// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "model/policy/gains_file.h"
#include "model/policy/recording_file.h"
#include "model/twin/sharing.h"

namespace ballast::learn {

struct TwinOptions {
  std::uint64_t seed = 1;
  std::size_t updates = 40;      ///< of the gains
  std::size_t fit_steps = 2000;  ///< of the forecast
  double most_s = 0;             ///< of computing the gains of a service; 0: all updates
  std::size_t services = 1000;   ///< the busiest so many
  bool gains = true;             ///< ablations
  bool forecast = true;
  bool baseline = true;
  policy::GainsByService in_force;  ///< gains that acted while it was recorded
  double exploration = 1;           ///< times the learner's own deviation
  /// Of a service, for as long as its gains are learned; not set: nothing is shared.
  std::function<twin::Sharing(const spec::ServiceId&)> sharing;
  std::function<void(const std::string&)> say = [](const std::string&) {};
  std::function<bool()> stopping = [] {
    return false;
  };  ///< asked between simulations: ends with what there is
};

/// What is better than the rule's own in the twins; what is not is not there.
struct TwinResult {
  std::vector<float> forecast;
  policy::GainsFile file;
  spec::ServiceId busiest;  ///< of those that have a twin
  bool forecast_learned = false;
  std::string nothing;  ///< why no twin could be built; empty: there is one
};

/// Builds a twin of the first two thirds of what is recorded of each service, goes on fitting the forecast to
/// what came in them, and learns the gains. All is judged in a twin of the last third (twin::judge): the
/// forecast of the busiest service; gains that are learned have to be better there than those in force to
/// take their place, and what acts then better than the rule's own, or these act. A recording is used as far
/// as it goes, and what it lacks is said.
TwinResult learn_in_twin(const policy::Recording& recording, std::vector<float> forecast,
                         const TwinOptions& options);

}  // namespace ballast::learn
