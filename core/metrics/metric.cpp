// SPDX-License-Identifier: Apache-2.0
#include "core/metrics/metric.h"

#include <fmt/format.h>

namespace ballast::metrics {
namespace {

std::string_view without_total(std::string_view name) {
  return name.ends_with("_total") ? name.substr(0, name.size() - 6) : name;
}

}  // namespace

std::string_view unit_of(std::string_view name) {
  const std::string_view plain = without_total(name);
  return plain.ends_with("_seconds") ? "s" : plain.ends_with("_bytes") ? "By" : "";
}

std::string otel_name(const Metric& metric) {
  if (!metric.otel.empty()) {
    return std::string(metric.otel);
  }
  std::string name(without_total(metric.name));
  if (const auto unit = unit_of(metric.name); !unit.empty()) {
    name.resize(name.rfind('_'));
  }
  name[name.find('_')] = '.';
  return name;
}

std::string metric_rows(std::span<const Metric> metrics) {
  constexpr const char* kTypes[] = {"counter", "gauge", "histogram", "gauge"};
  std::string rows = "| metric | type | unit | labels | |\n| --- | --- | --- | --- | --- |\n";
  for (const Metric& metric : metrics) {
    rows += fmt::format("| `{}` | {} | {} | {} | {} |\n", metric.name, kTypes[static_cast<int>(metric.type)],
                        unit_of(metric.name), metric.labels, metric.help);
  }
  return rows;
}

}  // namespace ballast::metrics
