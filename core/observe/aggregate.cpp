// SPDX-License-Identifier: Apache-2.0
#include "core/observe/aggregate.h"

#include <algorithm>
#include <cmath>
#include <utility>
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

// The one in the middle of the values above 0, of two the lesser, so that of two one cannot speak for both;
// 0: none.
double middle_of(std::vector<double> values) {
  std::erase_if(values, [](double value) { return !(value > 0); });
  return median_low(std::move(values));
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

  /// To be called before anything is summed up.
  void bound() {
    const double middle = middle_of(values_);
    if (middle > 0) {
      least_ = middle / kFarthestRatio;
      most_ = middle * kFarthestRatio;
    }
    for (double& value : values_) {
      value = std::min(value, most_);
    }
  }
  double most() const { return most_; }

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
      value = std::log(std::max(value, least_));
    }
  }

  std::size_t size() const { return values_.size(); }

 private:
  std::vector<double> values_;
  double least_ = 0;
  double most_ = kGreatest;
};

Column bounded(std::span<const spec::EndpointTelemetry> endpoints, double spec::EndpointTelemetry::*field,
               bool zero_counts) {
  Column column(endpoints, field, zero_counts);
  column.bound();
  return column;
}

// All requests together, as each endpoint's kernel counted them.
spec::Latency pooled_latency(std::span<const spec::EndpointTelemetry> endpoints) {
  std::vector<double> counts;
  for (const auto& endpoint : endpoints) {
    double count = 0;
    for (const spec::LatencyBucket& bucket : endpoint.latency) {
      count += endpoint.known ? bucket.count : 0;
    }
    counts.push_back(count);
  }
  const double most = kFarthestRatio * middle_of(counts);
  spec::Latency pooled;
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    spec::LatencyBuckets latency = counts[i] > 0 ? endpoints[i].latency : spec::LatencyBuckets();
    for (spec::LatencyBucket& bucket : latency) {
      bucket.count = static_cast<std::uint32_t>(bucket.count * std::min(1.0, most / counts[i]));
    }
    pooled.add(latency);
  }
  return pooled;
}

double error_rate(std::span<const spec::EndpointTelemetry> endpoints, double most_qps) {
  double errors = 0;
  double all = 0;
  for (const auto& endpoint : endpoints) {
    if (endpoint.known && sane(endpoint.qps) && sane(endpoint.error_rate)) {
      const double qps = std::min(endpoint.qps, most_qps);
      errors += qps * std::min(endpoint.error_rate, 1.0);
      all += qps;
    }
  }
  return all > 0 ? errors / all : 0;
}

void fill_capacity(spec::ServiceAggregate& result, std::span<const spec::EndpointTelemetry> endpoints) {
  Column capacity(endpoints, &spec::EndpointTelemetry::capacity_qps, false);
  const double measured = static_cast<double>(capacity.size());
  const double all = static_cast<double>(std::max<std::size_t>(endpoints.size(), 1));
  result.median_capacity_qps = capacity.median(0);
  capacity.bound();
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
  const Column qps = bounded(endpoints, &spec::EndpointTelemetry::qps, true);
  result.mean_qps = qps.mean();
  const Column utilisation = bounded(endpoints, &spec::EndpointTelemetry::utilisation, true);
  result.mean_utilisation = utilisation.mean();
  result.cpu_imbalance = utilisation.coefficient_of_variation();
  result.memory_imbalance =
      bounded(endpoints, &spec::EndpointTelemetry::memory_share, false).coefficient_of_variation();
  const spec::Latency latency = pooled_latency(endpoints);
  result.p50_ns = latency.quantile_ns(0.5);
  result.p99_ns = latency.quantile_ns(0.99);
  result.error_rate = error_rate(endpoints, qps.most());
  fill_capacity(result, endpoints);
  result.persistence_s = persistence.update(endpoints, loop.now);
  fill_features(result, endpoints, offsets, loop);
  return result;
}

}  // namespace ballast::observe
