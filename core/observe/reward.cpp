// SPDX-License-Identifier: Apache-2.0
#include "core/observe/reward.h"

#include <algorithm>
#include <cmath>

#include "core/spec/reward.h"

namespace ballast::observe {
namespace {

constexpr double kNanosecondsPerMillisecond = 1e6;

bool measured(double latency_ns) {
  return std::isfinite(latency_ns) && latency_ns > 0;
}

double log_ms(double latency_ns) {
  return std::log(latency_ns / kNanosecondsPerMillisecond);
}

double finite(double value) {
  return std::isfinite(value) ? value : 0;
}

}  // namespace

float reward(const spec::ServiceAggregate& aggregate, double churn, const RewardReference& reference,
             const spec::RewardWeights& weights) {
  const auto excess = [](double latency_ns, double log_reference) {
    return measured(latency_ns) ? log_ms(latency_ns) - finite(log_reference) : 0;
  };
  const double cost = spec::cost(
      spec::ServiceOutcome{excess(aggregate.p50_ns, reference.log_p50),
                           excess(aggregate.p99_ns, reference.log_p99), finite(aggregate.error_rate),
                           finite(aggregate.cpu_imbalance) + finite(aggregate.memory_imbalance),
                           finite(churn)},
      weights);
  const double bound = spec::kRewardBound;
  return static_cast<float>(std::clamp(finite(-cost), -bound, bound));
}

double RunningReference::step(Mean& mean, double latency_ns, double rate) {
  if (!measured(latency_ns)) {
    return mean.value;
  }
  const double now = log_ms(latency_ns);
  if (!mean.begun) {
    mean = {true, now};
  }
  const double before = mean.value;
  mean.value += rate * (now - mean.value);
  return before;
}

RewardReference RunningReference::next(const spec::ServiceAggregate& aggregate, double tick_s) {
  const bool usable = std::isfinite(tick_s) && tick_s > 0 && time_constant_s_ > 0;
  const double rate = usable ? 1 - std::exp(-tick_s / time_constant_s_) : 0;
  return {step(p50_, aggregate.p50_ns, rate), step(p99_, aggregate.p99_ns, rate)};
}

}  // namespace ballast::observe
