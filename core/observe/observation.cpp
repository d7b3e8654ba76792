// SPDX-License-Identifier: Apache-2.0
#include "core/observe/observation.h"

#include <algorithm>
#include <cmath>

namespace ballast::observe {
namespace {

float clip(double value) {
  if (std::isnan(value)) {
    return 0;
  }
  const double bound = spec::kFeatureBound;
  return static_cast<float>(std::clamp(value, -bound, bound));
}

// log(value / reference); nothing can be said without a reference, and a value of 0 is the least
// there is.
double log_ratio(double value, double reference) {
  if (!std::isfinite(value) || !std::isfinite(reference) || value < 0 || reference <= 0) {
    return 0;
  }
  return std::log(value) - std::log(reference);
}

// As log_ratio, for a value where 0 means that it was not measured.
double log_ratio_measured(double value, double reference) {
  return value > 0 ? log_ratio(value, reference) : 0;
}

double age_in_ticks(const spec::EndpointTelemetry& endpoint, const spec::LoopTiming& loop) {
  if (loop.now <= endpoint.taken || !(loop.tick_s > 0)) {
    return 0;
  }
  return static_cast<double>(loop.now - endpoint.taken) / 1e9 / loop.tick_s;
}

}  // namespace

double log_prior(const spec::EndpointTelemetry& endpoint, const spec::ServiceAggregate& aggregate) {
  const bool measured = endpoint.known && std::isfinite(endpoint.capacity_qps) && endpoint.capacity_qps > 0;
  const double capacity = measured ? endpoint.capacity_qps : aggregate.median_capacity_qps;
  const double bound = spec::kFeatureBound;
  return std::clamp(log_ratio_measured(capacity, aggregate.mean_capacity_qps), -bound, bound);
}

OwnFeatures own_features(const spec::EndpointTelemetry& endpoint, const spec::ServiceAggregate& aggregate,
                         const spec::LoopTiming& loop, double offset) {
  OwnFeatures own{};
  if (endpoint.known) {
    own[spec::kLatency] = clip(log_ratio_measured(endpoint.p50_ns, aggregate.median_p50_ns));
    own[spec::kTailLatency] = clip(log_ratio_measured(endpoint.p99_ns, aggregate.median_p99_ns));
    own[spec::kInFlight] = clip(log_ratio(endpoint.in_flight + 1, aggregate.median_in_flight + 1));
    own[spec::kRunQueue] = clip(endpoint.wait_share - aggregate.median_wait_share);
    own[spec::kQpsShare] = clip(log_ratio(endpoint.qps, aggregate.mean_qps));
    own[spec::kUtilisation] = clip(endpoint.utilisation - aggregate.mean_utilisation);
    own[spec::kMemory] = clip(endpoint.memory_share);
    own[spec::kErrors] = clip(endpoint.error_rate);
    own[spec::kTrend] = clip(log_ratio_measured(endpoint.tick_p50_ns, endpoint.p50_ns));
    own[spec::kAge] = clip(std::log1p(age_in_ticks(endpoint, loop)));
    own[spec::kSpeed] = clip(log_ratio_measured(endpoint.speed, aggregate.median_speed));
  }
  own[spec::kLoad] = clip(aggregate.mean_utilisation);
  own[spec::kPersistence] = clip(log_ratio(aggregate.persistence_s, loop.loop_delay_s));
  own[spec::kLoopDelay] = clip(log_ratio_measured(loop.loop_delay_s, 1));
  own[spec::kLogWeight] = clip(offset);
  own[spec::kPrior] = clip(log_prior(endpoint, aggregate));
  return own;
}

spec::Observation make_observation(const OwnFeatures& own, const spec::ServiceAggregate& aggregate) {
  spec::Observation observation{};
  for (std::size_t i = 0; i < spec::kFeatures; ++i) {
    observation[i] = clip(own[i]);
    observation[spec::kFeatures + i] = clip(aggregate.mean[i]);
    observation[2 * spec::kFeatures + i] = clip(aggregate.max[i]);
  }
  observation.back() = clip(std::log(static_cast<double>(std::max<std::size_t>(aggregate.endpoints, 1))));
  return observation;
}

spec::ServiceObservation observe(const spec::ServiceAggregate& aggregate,
                                 std::span<const spec::EndpointTelemetry> endpoints,
                                 std::span<const double> offsets, const spec::LoopTiming& loop) {
  spec::ServiceObservation result{aggregate, {}};
  result.endpoints.reserve(endpoints.size());
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    const double offset = i < offsets.size() ? offsets[i] : 0;
    const OwnFeatures own = own_features(endpoints[i], aggregate, loop, offset);
    result.endpoints.push_back(
        {endpoints[i], log_prior(endpoints[i], aggregate), make_observation(own, aggregate)});
  }
  return result;
}

}  // namespace ballast::observe
