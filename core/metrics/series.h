// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "core/http/http_server.h"
#include "core/metrics/metric.h"

namespace ballast::metrics {

/// One request that a bucket holds, by which its span is found.
struct Exemplar {
  std::string trace_id;  ///< hexadecimal
  std::string span_id;
  double value_s = 0;
  std::uint64_t unix_ns = 0;  ///< when it ended
};

/// The values of one metric under one set of labels, at one moment.
struct Series {
  std::vector<std::pair<std::string, std::string>> labels;  ///< those that have a value
  double value = 0;                                         ///< of all but a histogram
  std::span<const double> bounds;
  std::vector<std::uint64_t> counts;               ///< below each bound, not cumulative, and above the last
  std::vector<std::optional<Exemplar>> exemplars;  ///< one a count, or empty
  double sum = 0;
};

struct Family {
  const Metric* metric = nullptr;
  std::vector<Series> series;
};

/// Prometheus's text format 0.0.4, or OpenMetrics 1.0, which alone can carry exemplars.
std::string exposition(const std::vector<Family>& families, bool open_metrics);
/// The answer to a scraper that takes `accept`: OpenMetrics where it asks for it.
http::Response scraped(const std::vector<Family>& families, const std::string& accept);

}  // namespace ballast::metrics
