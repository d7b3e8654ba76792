// SPDX-License-Identifier: Apache-2.0
#include "core/base/metric.h"

#include <fmt/format.h>

namespace ballast {
namespace {

std::string_view unit_of(std::string_view name) {
  if (name.ends_with("_total")) {
    name.remove_suffix(6);
  }
  return name.ends_with("_seconds") ? "seconds" : name.ends_with("_bytes") ? "bytes" : "";
}

}  // namespace

std::string metric_rows(std::span<const Metric> metrics) {
  constexpr const char* kTypes[] = {"counter", "gauge", "histogram"};
  std::string rows = "| metric | type | unit | labels | |\n| --- | --- | --- | --- | --- |\n";
  for (const Metric& metric : metrics) {
    rows += fmt::format("| `{}` | {} | {} | {} | {} |\n", metric.name, kTypes[static_cast<int>(metric.type)],
                        unit_of(metric.name), metric.labels, metric.help);
  }
  return rows;
}

}  // namespace ballast
