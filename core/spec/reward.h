// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>

namespace ballast::spec {

/// What one stretch of time of a service shows, live, in the simulator or in a twin. A latency that is not
/// known is 0, as its reference's is then.
struct ServiceOutcome {
  double log_p50 = 0;  ///< of milliseconds, or of a ratio to what it is compared with
  double log_p99 = 0;
  double error_rate = 0;
  double imbalance = 0;  ///< CV of CPU utilisation and of memory over the endpoints, added
  double churn = 0;      ///< sum of |delta log w| over the endpoints
};

/// The paper's three goals in one number that is to be small: short total time, balanced CPU and memory, few
/// redistributions. Rewards are minus this. `Weights` has p50, p99, errors, imbalance and churn
/// (RewardWeights); one that is not finite counts as 0.
template <typename Weights>
double cost(const ServiceOutcome& outcome, const Weights& weights) {
  const auto weight = [](auto w) { return std::isfinite(w) ? static_cast<double>(w) : 0.0; };
  return weight(weights.p50) * outcome.log_p50 + weight(weights.p99) * outcome.log_p99 +
         weight(weights.errors) * outcome.error_rate + weight(weights.imbalance) * outcome.imbalance +
         weight(weights.churn) * outcome.churn;
}

}  // namespace ballast::spec
