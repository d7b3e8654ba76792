// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>

#include "core/base/human.h"
#include "core/base/table.h"
#include "tools/ctl/latency.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

constexpr std::size_t kBarWidth = 50;

Json buckets_json(const ballast_latency& wire) {
  Json buckets = Json::array();
  for (unsigned i = 0; i < BALLAST_HIST_BUCKETS; ++i) {
    if (wire.buckets[i] != 0) {
      // The last bucket has no upper bound.
      const Json upper = i + 1 < BALLAST_HIST_BUCKETS ? Json(ballast_hist_lower(i + 1)) : Json(nullptr);
      buckets.push_back(
          {{"lower_ns", ballast_hist_lower(i)}, {"upper_ns", upper}, {"count", wire.buckets[i]}});
    }
  }
  return {{"count", wire.count}, {"sum", wire.sum_ns}, {"max", wire.max_ns}, {"buckets", buckets}};
}

/// One line a bucket from the first that holds something to the last.
std::string bars(const ballast_latency& wire) {
  unsigned first = BALLAST_HIST_BUCKETS;
  unsigned last = 0;
  std::uint64_t most = 0;
  for (unsigned i = 0; i < BALLAST_HIST_BUCKETS; ++i) {
    if (wire.buckets[i] != 0) {
      first = std::min(first, i);
      last = i;
      most = std::max(most, static_cast<std::uint64_t>(wire.buckets[i]));
    }
  }
  if (most == 0) {
    return "  nothing measured\n";
  }
  Table table({{"  FROM", Table::Align::kRight}, {"REQUESTS", Table::Align::kRight}, {""}});
  for (unsigned i = first; i <= last; ++i) {
    const std::uint64_t count = wire.buckets[i];
    const std::size_t length = count == 0 ? 0 : std::max<std::size_t>(1, count * kBarWidth / most);
    table.row({human_duration_ns(static_cast<double>(ballast_hist_lower(i))), std::to_string(count),
               std::string(length, '#')});
  }
  return table.text();
}

std::string heading(const char* what, const ballast_latency& wire) {
  const auto time = [&](double q) { return human_duration_ns(quantile_ns(wire, q)); };
  return std::string("  ") + what + ": " + std::to_string(wire.count) + " requests, p50 " + time(0.5) +
         ", p90 " + time(0.9) + ", p99 " + time(0.99) + ", p99.9 " + time(0.999) + ", max " +
         human_duration_ns(static_cast<double>(wire.max_ns)) + "\n";
}

}  // namespace

Result<Report> histogram(View& view, const std::string& target) {
  const auto rows = view.maps.requests();
  if (!rows) {
    return rows.error();
  }
  Report report{Json::array(), ""};
  for (const auto& row : *rows) {
    const Name& name = view.names.of(row.key.cgroup_id);
    if (!matches(name, row.key.cgroup_id, target)) {
      continue;
    }
    Json json = name_json(row.key.cgroup_id, name);
    json["role"] = role_name(row.key.role);
    json["protocol"] = protocol_name(row.key.protocol);
    json["first_byte"] = buckets_json(row.value.first_byte);
    json["last_byte"] = buckets_json(row.value.last_byte);
    report.json.push_back(std::move(json));
    report.text += (report.text.empty() ? "" : "\n") + service_label(name) + " " + label(name) + " " +
                   role_name(row.key.role) + " " + protocol_name(row.key.protocol) + "\n" +
                   heading("first byte", row.value.first_byte) + bars(row.value.first_byte) +
                   heading("last byte", row.value.last_byte) + bars(row.value.last_byte);
  }
  if (report.text.empty()) {
    report.text = "No requests were seen.\n";
  }
  return report;
}

}  // namespace ballast::ctl
