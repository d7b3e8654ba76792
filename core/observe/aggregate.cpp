// SPDX-License-Identifier: Apache-2.0
#include "core/observe/aggregate.h"

#include <algorithm>
#include <cmath>
#include <vector>

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

  double median(double otherwise) {
    if (values_.empty()) {
      return otherwise;
    }
    const auto middle = values_.begin() + static_cast<std::ptrdiff_t>(values_.size() / 2);
    std::nth_element(values_.begin(), middle, values_.end());
    if (values_.size() % 2 == 1) {
      return *middle;
    }
    return (*middle + *std::max_element(values_.begin(), middle)) / 2;
  }

  void take_logs() {
    for (double& value : values_) {
      value = std::log(value);
    }
  }

  std::size_t size() const { return values_.size(); }

 private:
  std::vector<double> values_;
};

// Latency of one endpoint's requests as a log-logistic through its p50 and p99, the two that
// telemetry carries.
struct LatencyShape {
  double share;  // of the service's requests
  double middle;
  double scale;
};

std::vector<LatencyShape> latency_shapes(std::span<const spec::EndpointTelemetry> endpoints) {
  static const double kLogit99 = std::log(99.0);
  std::vector<LatencyShape> shapes;
  double qps = 0;
  for (const auto& e : endpoints) {
    if (!e.known || !sane(e.qps) || !sane(e.p50_ns) || !sane(e.p99_ns) || e.qps <= 0 || e.p50_ns <= 0) {
      continue;
    }
    const double middle = std::log(e.p50_ns);
    const double scale = (std::log(std::max(e.p99_ns, e.p50_ns)) - middle) / kLogit99;
    shapes.push_back({e.qps, middle, std::max(scale, 1e-3)});
    qps += e.qps;
  }
  for (auto& shape : shapes) {
    shape.share /= qps;
  }
  return shapes;
}

// Quantile of all requests together, by bisection of the mixture's distribution in log latency.
double pooled_quantile(const std::vector<LatencyShape>& shapes, double q) {
  constexpr int kHalvings = 20;  // of a range of at most a few octaves: far below a bucket's width
  if (shapes.empty()) {
    return 0;
  }
  const double logit = std::log(q / (1 - q));
  double low = shapes.front().middle + logit * shapes.front().scale;
  double high = low;
  for (const auto& shape : shapes) {
    low = std::min(low, shape.middle + logit * shape.scale);
    high = std::max(high, shape.middle + logit * shape.scale);
  }
  for (int i = 0; i < kHalvings && high - low > 1e-4; ++i) {
    const double x = (low + high) / 2;
    double below = 0;
    for (const auto& shape : shapes) {
      below += shape.share / (1 + std::exp((shape.middle - x) / shape.scale));
    }
    (below < q ? low : high) = x;
  }
  return std::exp((low + high) / 2);
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
  const auto shapes = latency_shapes(endpoints);
  result.p50_ns = pooled_quantile(shapes, 0.5);
  result.p99_ns = pooled_quantile(shapes, 0.99);
  result.error_rate = error_rate(endpoints);
  fill_capacity(result, endpoints);
  result.persistence_s = persistence.update(endpoints, loop.now);
  fill_features(result, endpoints, offsets, loop);
  return result;
}

}  // namespace ballast::observe
