// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <string>
#include <vector>

#include "agent/decide/policy.h"
#include "core/spec/telemetry.h"

namespace ballast::decide::testing {

/// Pods web-0.. of shop/web with these log priors, all measured, and an aggregate that finds the
/// differences lasting and large.
inline spec::ServiceObservation observation(const std::vector<double>& log_priors) {
  spec::ServiceObservation o;
  o.aggregate.service = {"shop", "web"};
  o.aggregate.endpoints = o.aggregate.known = log_priors.size();
  o.aggregate.persistence_s = 60;
  o.aggregate.capacity_spread = 0.5;
  for (std::size_t i = 0; i < log_priors.size(); ++i) {
    spec::EndpointObservation e;
    e.telemetry.id = {o.aggregate.service, "web-" + std::to_string(i)};
    e.telemetry.known = true;
    e.telemetry.capacity_qps = 100 * std::exp(log_priors[i]);
    e.log_prior = log_priors[i];
    o.endpoints.push_back(e);
  }
  return o;
}

/// A loop of 250 ms ticks; call next() between them.
struct Loop {
  LoopContext context{.now = 1'000'000'000ULL, .tick_s = 0.25, .loop_delay_s = 0.4, .subscribers = 20};
  const LoopContext& next() {
    context.now += 250'000'000ULL;
    return context;
  }
};

}  // namespace ballast::decide::testing
