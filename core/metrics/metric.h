// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace ballast::metrics {

/// One metric as it is defined: the exporter and docs/metrics.md are made from it. Its unit is in its name,
/// as Prometheus prescribes.
struct Metric {
  /// kUpDown is a gauge to Prometheus; OpenTelemetry adds its values up over pods.
  enum class Type { kCounter, kGauge, kHistogram, kUpDown };
  std::string_view name;
  Type type;
  std::string_view labels;     ///< names, separated by commas; empty: none
  std::string_view help;       ///< a sentence
  std::string_view otel = {};  ///< OpenTelemetry's name; empty: made by otel_name()
};

/// "s", "By", or empty: the unit that the metric's name says, as UCUM has it.
std::string_view unit_of(std::string_view name);
/// What OpenTelemetry calls it: without unit and _total, which its translation to Prometheus appends again,
/// and with a dot for the first underscore.
std::string otel_name(const Metric& metric);

/// The rows of a Markdown table: name, type, unit, labels, help.
std::string metric_rows(std::span<const Metric> metrics);

}  // namespace ballast::metrics
