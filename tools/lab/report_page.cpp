// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tools/lab/report.h"
#include "tools/page/page.h"

namespace ballast::lab {

namespace {

using Json = nlohmann::ordered_json;

Json row_json(const LiveRow& row) {
  const auto ns = [](double ms) { return ms < 0 ? Json(nullptr) : Json(ms * 1e6); };
  const std::size_t slash = row.service.find('/');
  return {{"service", row.service.substr(slash + 1)},
          {"namespace", row.service.substr(0, slash)},
          {"pod", row.pod},
          {"requests_per_s", row.rps},
          {"errors_per_s", nullptr},
          {"p50_ns", ns(row.p50_ms)},
          {"p99_ns", ns(row.p99_ms)},
          {"in_flight", row.in_flight},
          {"cpu_cores", row.cpu_cores},
          {"weight", row.weight},
          {"why", row.why}};
}

std::string cell(const Json& value) {
  return value.is_string()         ? value.get<std::string>()
         : value.is_number_float() ? fmt::format("{:.1f}", value.get<double>())
                                   : value.dump();
}

}  // namespace

std::string report_page(const Report& report) {
  Json snapshots = Json::array();
  for (const RunResult& run : report.runs) {
    const std::string arm = run.round == 1 ? run.policy : fmt::format("{} (round {})", run.policy, run.round);
    for (const Look& look : run.looks) {
      Json rows = Json::array();
      for (const LiveRow& row : look.rows) {
        rows.push_back(row_json(row));
      }
      snapshots.push_back({{"seq", snapshots.size() + 1},
                           {"t", look.unix_s},
                           {"status", report.scenario.name + " under " + arm},
                           {"arm", arm},
                           {"top", std::move(rows)},
                           {"calls", Json::array()}});
    }
  }
  const std::vector<std::pair<const char*, const char*>> columns = {
      {"policy", "policy"},         {"requests", "requests"},     {"failed", "failed"},
      {"unfinished", "unfinished"}, {"goodput_rps", "goodput/s"}, {"p50_ms", "p50 ms"},
      {"p90_ms", "p90 ms"},         {"p99_ms", "p99 ms"}};
  Json table = Json::array({Json::array()});
  for (const auto& [key, heading] : columns) {
    table[0].push_back(heading);
  }
  for (const Json arms = to_json(report)["arms"]; const Json& arm : arms) {
    Json cells = Json::array();
    for (const auto& [key, heading] : columns) {
      cells.push_back(cell(arm.at(key)));
    }
    table.push_back(std::move(cells));
  }
  return page::html({{"title", report.scenario.name + ": " + report.scenario.about},
                     {"table", std::move(table)},
                     {"wide", {4, 6}},
                     {"snapshots", std::move(snapshots)}});
}

}  // namespace ballast::lab
