// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/spec/gains.h"
#include "core/spec/loop_timing.h"
#include "core/spec/telemetry.h"

namespace ballast::decide {

/// What a policy wants for one endpoint. log w = log_prior + offset, up to the service's mean.
struct Proposal {
  spec::EndpointId id;
  double log_prior = 0;
  /// Delta, |delta| <= spec::kMaxOffset: the observation's, moved or not. Not looked at of a level service.
  double offset = 0;
  std::size_t action = spec::kKeep;  ///< what was added to the offset in this tick
  float behaviour_probability = 1;   ///< with which the acting policy chose it
  std::string why;                   ///< what the policy believes of it, for people; may be empty
  std::string answered;              ///< what followed when its weight last moved, for people; may be empty
};

/// How far forecasts were from what came, beside "as now", of one service over the last minutes, and what
/// they are learned from.
struct ForecastRecord {
  double error = 0;    ///< mean square, of the log of the speed
  double as_now = 0;   ///< the same of "as it is now"
  double as_mean = 0;  ///< and of "as it is on average"
  double judged = 0;   ///< forecasts behind it, discounted
  bool in_use = false;
  bool finite = true;       ///< the last forecasts were
  std::uint64_t pairs = 0;  ///< of what was seen and what came, since the beginning
  double span_s = 0;        ///< over which they came
  double period_s = 0;      ///< of the habit that the service's pods share best; 0: none
};

struct ServiceProposal {
  spec::ServiceId service;
  bool neutral = true;  ///< exactly equal weights wanted (Envoy then keeps P2C)
  /// Not neutral, yet no differences worth a weight: equal shares that the least tilt keeps off P2C.
  bool level = false;
  std::string why;  ///< one sentence for people
  std::string forecast_says =
      {};                      ///< how far its forecast is from what came; empty: no policy that forecasts
  std::string twin_says = {};  ///< what its twin foresaw and what came; empty: no learner has one
  std::vector<Proposal> endpoints;
  std::optional<ForecastRecord> forecast = {};  ///< of a policy that forecasts
  std::optional<spec::TwinWord> twin = {};      ///< of a service that a learner has a twin of
};

using LoopContext = spec::LoopTiming;

/// Turns one service's observation into a proposal. Called once a tick and service, in one
/// thread. Must be total: any finite or non-finite input gives a proposal for each endpoint.
class Policy {
 public:
  virtual ~Policy() = default;
  virtual std::string name() const = 0;
  virtual ServiceProposal decide(const spec::ServiceObservation& observation, const LoopContext& loop) = 0;
};

}  // namespace ballast::decide
