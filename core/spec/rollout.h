// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "core/spec/spec.h"

namespace ballast::spec {

/// One transition: the endpoint's observation, the action taken on it, and the reward of the tick
/// that followed. `context` is the service as the critic sees it (own features = the mean).
struct Step {
  Observation observation{};
  Observation context{};
  std::uint8_t action = kKeep;
  float behaviour_probability = 1;
  float reward = 0;
};

/// Consecutive steps of one endpoint, all acted with the theta of (epoch, version). The return
/// after the last step is bootstrapped from the critic's value of bootstrap_context unless terminal.
struct Rollout {
  std::string endpoint;  ///< "namespace/service/pod"
  std::uint64_t epoch = 0;
  std::uint64_t version = 0;
  std::vector<Step> steps;
  Observation bootstrap_observation{};
  Observation bootstrap_context{};
  bool terminal = false;  ///< never in a running service: balancing has no end
};

/// The critic's input for a service, from any of its endpoints' observations.
inline Observation context_of(const Observation& observation) {
  Observation context = observation;
  std::copy_n(observation.begin() + kFeatures, kFeatures, context.begin());
  return context;
}

}  // namespace ballast::spec
