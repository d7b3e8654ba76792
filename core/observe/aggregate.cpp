// SPDX-License-Identifier: Apache-2.0
#include "core/observe/aggregate.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/base/statistics.h"
#include "core/spec/latency.h"

namespace ballast::observe {
namespace {

// Beyond this a number is a node's nonsense: a capacity of 1e15 requests/s, a latency of 11 days.
constexpr double kGreatest = 1e15;

bool sane(double value) {
  return value >= 0 && value <= kGreatest;
}

// One quantity over the known endpoints that have it.
class Column {
 public:
  Column(std::span<const spec::EndpointTelemetry> endpoints, double spec::EndpointTelemetry::*field,
         bool zero_counts) {
    values_.reserve(endpoints.size());
    for (const auto& endpoint : endpoints) {
      const double value = endpoint.*field;
      if (endpoint.known && sane(value) && (zero_counts || value > 0)) {
        values_.push_back(value);
      }
    }
  }

  double mean() const {
    double sum = 0;
    for (const double value : values_) {
      sum += value;
    }
    return values_.empty() ? 0 : sum / static_cast<double>(values_.size());
  }

  double standard_deviation() const {
    const double middle = mean();
    double squares = 0;
    for (const double value : values_) {
      squares += (value - middle) * (value - middle);
    }
    return values_.empty() ? 0 : std::sqrt(squares / static_cast<double>(values_.size()));
  }

  double coefficient_of_variation() const { return mean() > 0 ? standard_deviation() / mean() : 0; }

  double median(double otherwise) { return values_.empty() ? otherwise : median_in_place(values_); }

  void take_logs() {
    for (double& value : values_) {
      value = std::log(value);
    }
  }

  std::size_t size() const { return values_.size(); }

 private:
  std::vector<double> values_;
};

// All requests together, as each endpoint's kernel counted them.
spec::Latency pooled_latency(std::span<const spec::EndpointTelemetry> endpoints) {
  spec::Latency pooled;
  for (const auto& endpoint : endpoints) {
    if (endpoint.known) {
      pooled.add(endpoint.latency);
    }
  }
  return pooled;
}

double error_rate(std::span<const spec::EndpointTelemetry> endpoints) {
  double errors = 0;
  double qps = 0;
  for (const auto& endpoint : endpoints) {
    if (endpoint.known && sane(endpoint.qps) && sane(endpoint.error_rate)) {
      errors += endpoint.qps * std::min(endpoint.error_rate, 1.0);
      qps += endpoint.qps;
    }
  }
  return qps > 0 ? errors / qps : 0;
}

void fill_capacity(spec::ServiceAggregate& result, std::span<const spec::EndpointTelemetry> endpoints) {
  Column capacity(endpoints, &spec::EndpointTelemetry::capacity_qps, false);
  const double measured = static_cast<double>(capacity.size());
  const double all = static_cast<double>(std::max<std::size_t>(endpoints.size(), 1));
  result.median_capacity_qps = capacity.median(0);
  result.mean_capacity_qps =
      (capacity.mean() * measured + result.median_capacity_qps * (all - measured)) / all;
  capacity.take_logs();
  result.capacity_spread = capacity.standard_deviation();
}

void fill_features(spec::ServiceAggregate& result, std::span<const spec::EndpointTelemetry> endpoints,
                   std::span<const double> offsets, const spec::LoopTiming& loop) {
  if (endpoints.empty()) {
    return;
  }
  std::array<double, spec::kFeatures> sum{};
  result.max.fill(-spec::kFeatureBound);
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    const auto own = own_features(endpoints[i], result, loop, i < offsets.size() ? offsets[i] : 0);
    for (std::size_t f = 0; f < spec::kFeatures; ++f) {
      sum[f] += static_cast<double>(own[f]);
      result.max[f] = std::max(result.max[f], own[f]);
    }
  }
  for (std::size_t f = 0; f < spec::kFeatures; ++f) {
    result.mean[f] = static_cast<float>(sum[f] / static_cast<double>(endpoints.size()));
  }
}

}  // namespace

spec::ServiceAggregate aggregate(const spec::ServiceId& service,
                                 std::span<const spec::EndpointTelemetry> endpoints,
                                 std::span<const double> offsets, const spec::LoopTiming& loop,
                                 PersistenceEstimator& persistence) {
  spec::ServiceAggregate result;
  result.service = service;
  result.endpoints = endpoints.size();
  result.known = static_cast<std::size_t>(
      std::count_if(endpoints.begin(), endpoints.end(), [](const auto& endpoint) { return endpoint.known; }));
  result.median_p50_ns = Column(endpoints, &spec::EndpointTelemetry::p50_ns, false).median(0);
  result.median_p99_ns = Column(endpoints, &spec::EndpointTelemetry::p99_ns, false).median(0);
  result.median_in_flight = Column(endpoints, &spec::EndpointTelemetry::in_flight, true).median(0);
  result.median_wait_share = Column(endpoints, &spec::EndpointTelemetry::wait_share, true).median(0);
  result.median_speed = Column(endpoints, &spec::EndpointTelemetry::speed, false).median(1);
  result.mean_qps = Column(endpoints, &spec::EndpointTelemetry::qps, true).mean();
  const Column utilisation(endpoints, &spec::EndpointTelemetry::utilisation, true);
  result.mean_utilisation = utilisation.mean();
  result.cpu_imbalance = utilisation.coefficient_of_variation();
  result.memory_imbalance =
      Column(endpoints, &spec::EndpointTelemetry::memory_share, false).coefficient_of_variation();
  const spec::Latency latency = pooled_latency(endpoints);
  result.p50_ns = latency.quantile_ns(0.5);
  result.p99_ns = latency.quantile_ns(0.99);
  result.error_rate = error_rate(endpoints);
  fill_capacity(result, endpoints);
  result.persistence_s = persistence.update(endpoints, loop.now);
  fill_features(result, endpoints, offsets, loop);
  return result;
}

}  // namespace ballast::observe
