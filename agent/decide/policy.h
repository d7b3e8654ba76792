// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/spec/telemetry.h"

namespace ballast::decide {

/// What a policy wants for one endpoint. log w = log_prior + offset, up to the service's mean.
struct Proposal {
  spec::EndpointId id;
  double log_prior = 0;
  double offset = 0;                 ///< delta, |delta| <= spec::kMaxOffset
  std::size_t action = spec::kKeep;  ///< what was added to the offset in this tick
  float behaviour_probability = 1;   ///< with which the acting policy chose it
};

struct ServiceProposal {
  spec::ServiceId service;
  bool neutral = true;  ///< exactly equal weights wanted (Envoy then keeps P2C)
  /// Not neutral, yet no differences worth a weight: equal shares that the least tilt keeps off P2C.
  bool level = false;
  std::string why;  ///< one sentence for people
  std::vector<Proposal> endpoints;
};

/// What the tick tells every policy about the loop it acts in.
struct LoopContext {
  MonotonicNs now = 0;
  double tick_s = 0.25;
  double loop_delay_s = 0.4;    ///< from a change in a pod to the weight in Envoy
  std::size_t subscribers = 0;  ///< proxies that take our weights; 0 where the sink cannot know
};

/// Turns one service's observation into a proposal. Called once a tick and service, in one
/// thread. Must be total: any finite or non-finite input gives a proposal for each endpoint.
class Policy {
 public:
  virtual ~Policy() = default;
  virtual std::string name() const = 0;
  virtual ServiceProposal decide(const spec::ServiceObservation& observation, const LoopContext& loop) = 0;
};

}  // namespace ballast::decide
