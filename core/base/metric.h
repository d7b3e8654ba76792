// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace ballast {

/// One metric as it is defined: the exporter and docs/metrics.md are made from it. Its unit is in its name,
/// as Prometheus prescribes.
struct Metric {
  enum class Type { kCounter, kGauge, kHistogram };
  std::string_view name;
  Type type;
  std::string_view labels;  ///< names, separated by commas; empty: none
  std::string_view help;    ///< a sentence
};

/// The rows of a Markdown table: name, type, unit, labels, help.
std::string metric_rows(std::span<const Metric> metrics);

}  // namespace ballast
