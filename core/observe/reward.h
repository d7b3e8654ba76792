// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/spec/spec.h"
#include "core/spec/telemetry.h"

namespace ballast::observe {

/// Log latencies that a reward is relative to, in log ms. Zero means: absolute.
struct RewardReference {
  double log_p50 = 0;
  double log_p99 = 0;
};

/// Reward of one tick of a service, spec::cost() with a minus:
///   -[ w.p50 * (log p50 - ref) + w.p99 * (log p99 - ref) + w.errors * error rate
///      + w.imbalance * (CV of CPU + CV of memory) + w.churn * churn ]
/// clipped to +-spec::kRewardBound. `churn` is the sum of |delta log w| over the endpoints in the
/// tick. A latency that is not known adds nothing. Total.
float reward(const spec::ServiceAggregate& aggregate, double churn, const RewardReference& reference,
             const spec::RewardWeights& weights);

/// Live rewards are relative to the service's own slow past, because log p50 of one service says
/// nothing beside that of another: what is left is centred on 0 and means "better or worse than
/// of late". The reference is an exponentially weighted mean with a time constant far beyond an
/// n-step return, so within one it is a constant and changes no advantage's sign. (The simulator
/// has a better one: the prior's latency on the same trace.)
class RunningReference {
 public:
  explicit RunningReference(double time_constant_s = 60) : time_constant_s_(time_constant_s) {}
  /// The reference before this tick, which then takes the tick in. The first tick with a latency
  /// is its own reference.
  RewardReference next(const spec::ServiceAggregate& aggregate, double tick_s);

 private:
  struct Mean {
    bool begun = false;
    double value = 0;
  };
  static double step(Mean& mean, double latency_ns, double rate);

  double time_constant_s_;
  Mean p50_;
  Mean p99_;
};

}  // namespace ballast::observe
