// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cmath>
#include <string>
#include <tuple>

#include "core/base/human.h"
#include "core/base/table.h"
#include "tools/ctl/latency.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

Json latency_json(const ballast_latency& wire) {
  const auto quantile = [&](double q) {
    return static_cast<std::uint64_t>(std::llround(quantile_ns(wire, q)));
  };
  return {{"count", wire.count},   {"sum", wire.sum_ns},      {"p50", quantile(0.5)}, {"p90", quantile(0.9)},
          {"p99", quantile(0.99)}, {"p999", quantile(0.999)}, {"max", wire.max_ns}};
}

Json status_json(const ballast_request_value& value) {
  Json json = Json::object();
  for (int status = 1; status < BALLAST_STATUS_CLASSES; ++status) {
    json[std::to_string(status) + "xx"] = value.status[status];
  }
  json["unknown"] = value.status[0];
  return json;
}

/// Only the codes that were seen: a connection of HTTP/1.1 has none.
Json grpc_json(const ballast_request_value& value) {
  Json json = Json::object();
  for (int code = 0; code < BALLAST_GRPC_STATUSES; ++code) {
    if (value.grpc_status[code] != 0) {
      json[code == BALLAST_GRPC_STATUSES - 1 ? "unknown" : std::to_string(code)] = value.grpc_status[code];
    }
  }
  return json;
}

Json row_json(const sample::RequestRow& row, const Name& name) {
  Json json = name_json(row.key.cgroup_id, name);
  json["role"] = role_name(row.key.role);
  json["protocol"] = protocol_name(row.key.protocol);
  json["requests"] = row.value.requests;
  json["responses"] = row.value.responses;
  json["in_flight"] = row.value.in_flight;
  json["status"] = status_json(row.value);
  json["grpc_status"] = grpc_json(row.value);
  const sample::Outcomes outcomes = sample::outcomes_of(row);
  json["failed"] = outcomes.failed;
  json["unknown"] = outcomes.unknown;
  json["abandoned"] = outcomes.abandoned;
  json["no_answer"] = outcomes.no_answer;
  json["latency_ns"] = {{"first_byte", latency_json(row.value.first_byte)},
                        {"last_byte", latency_json(row.value.last_byte)}};
  return json;
}

}  // namespace

Result<Report> requests(View& view, const std::string& target) {
  auto rows = view.maps.requests();
  if (!rows) {
    return rows.error();
  }
  std::sort(rows->begin(), rows->end(), [&](const auto& a, const auto& b) {
    const auto key = [&](const sample::RequestRow& r) {
      const Name& name = view.names.of(r.key.cgroup_id);
      return std::tuple(service_label(name), label(name), r.key.cgroup_id, r.key.role, r.key.protocol);
    };
    return key(a) < key(b);
  });
  Report report{Json::array(), ""};
  using Align = Table::Align;
  Table table({{"SERVICE"},
               {"POD OR CGROUP"},
               {"ROLE"},
               {"PROTOCOL"},
               {"REQUESTS", Align::kRight},
               {"IN FLIGHT", Align::kRight},
               {"2xx", Align::kRight},
               {"4xx", Align::kRight},
               {"FAILED", Align::kRight},
               {"UNANSWERED", Align::kRight},
               {"P50", Align::kRight},
               {"P90", Align::kRight},
               {"P99", Align::kRight},
               {"MAX", Align::kRight}});
  for (const auto& row : *rows) {
    const Name& name = view.names.of(row.key.cgroup_id);
    if (!matches(name, row.key.cgroup_id, target)) {
      continue;
    }
    report.json.push_back(row_json(row, name));
    const auto& v = row.value;
    const sample::Outcomes outcomes = sample::outcomes_of(row);
    const auto time = [&](double q) { return human_duration_ns(quantile_ns(v.first_byte, q)); };
    table.row({service_label(name), label(name), role_name(row.key.role), protocol_name(row.key.protocol),
               std::to_string(v.requests), std::to_string(v.in_flight), std::to_string(v.status[2]),
               std::to_string(v.status[4]), std::to_string(outcomes.failed),
               std::to_string(outcomes.abandoned + outcomes.no_answer), time(0.5), time(0.9), time(0.99),
               human_duration_ns(static_cast<double>(v.first_byte.max_ns))});
  }
  report.text = table.empty()
                    ? "No requests were seen.\n"
                    : table.text() + "Latency to the first byte of the response, since the maps were made.\n";
  return report;
}

}  // namespace ballast::ctl
