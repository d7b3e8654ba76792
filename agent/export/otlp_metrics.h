// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <prometheus/metric_family.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/metric.h"
#include "core/base/result.h"

namespace ballast::telemetry {

/// The body of an OTLP/HTTP export request in JSON of what Prometheus would scrape at `now` (the wall clock,
/// as `start`, from which counters count). One resource a container, pod or Service (service.*, k8s.*), and
/// one of the agent itself, on `node`; the labels that are left are the points' attributes. Names are
/// otel_name()'s.
std::string otlp_metrics_json(const std::vector<prometheus::MetricFamily>& families,
                              std::span<const Metric> definitions, const std::string& node,
                              std::uint64_t start_unix_ns, std::uint64_t now_unix_ns);

/// Sends `body()` every `every`, from a thread of its own. A collector that is away costs the points of that
/// time alone: totals come with the next.
class OtlpMetricsPush {
 public:
  /// kUsage: the endpoint is no http:// or https:// URL.
  static Result<std::unique_ptr<OtlpMetricsPush>> start(const std::string& endpoint,
                                                        std::chrono::milliseconds every,
                                                        std::function<std::string()> body);
  /// Sends once more.
  ~OtlpMetricsPush();
  OtlpMetricsPush(const OtlpMetricsPush&) = delete;
  OtlpMetricsPush& operator=(const OtlpMetricsPush&) = delete;

 private:
  struct State;
  explicit OtlpMetricsPush(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ballast::telemetry
