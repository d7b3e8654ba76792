// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <string>

#include "agent/base/human.h"
#include "agent/base/table.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

using Align = Table::Align;

template <typename Value>
void sort_by_name(std::vector<std::pair<sample::CgroupId, Value>>& rows, Names& names) {
  std::sort(rows.begin(), rows.end(), [&](const auto& a, const auto& b) {
    return names.of(a.first).cgroup < names.of(b.first).cgroup;
  });
}

std::string time(std::uint64_t ns) {
  return human_duration_ns(static_cast<double>(ns));
}

}  // namespace

Result<Report> connections(View& view, const std::string& target) {
  auto rows = view.maps.connections();
  if (!rows) {
    return rows.error();
  }
  sort_by_name(*rows, view.names);
  Report report{Json::array(), ""};
  Table table({{"SERVICE"},
               {"POD OR CGROUP"},
               {"OPEN", Align::kRight},
               {"ACCEPTED", Align::kRight},
               {"CONNECTED", Align::kRight},
               {"CLOSED", Align::kRight},
               {"ADOPTED", Align::kRight},
               {"RETRANSMITS", Align::kRight},
               {"MEAN RTT", Align::kRight}});
  for (const auto& [id, value] : *rows) {
    const Name& name = view.names.of(id);
    if (!matches(name, id, target)) {
      continue;
    }
    const double rtt_ns =
        value.closed == 0 ? 0
                          : static_cast<double>(value.srtt_us_sum) * 1000 / static_cast<double>(value.closed);
    Json json = name_json(id, name);
    json["open"] = value.open;
    json["accepted"] = value.accepted;
    json["connected"] = value.connected;
    json["closed"] = value.closed;
    json["adopted"] = value.adopted;
    json["retransmits"] = value.retransmits;
    json["srtt_us_sum"] = value.srtt_us_sum;
    report.json.push_back(std::move(json));
    table.row({service_label(name), label(name), std::to_string(value.open), std::to_string(value.accepted),
               std::to_string(value.connected), std::to_string(value.closed), std::to_string(value.adopted),
               std::to_string(value.retransmits), value.closed == 0 ? "-" : human_duration_ns(rtt_ns)});
  }
  report.text = table.empty() ? "No connections were seen.\n" : table.text();
  return report;
}

Result<Report> cpu(View& view, const std::string& target) {
  auto rows = view.maps.cpu();
  if (!rows) {
    return rows.error();
  }
  sort_by_name(*rows, view.names);
  Report report{Json::array(), ""};
  Table table({{"SERVICE"},
               {"POD OR CGROUP"},
               {"ON CPU", Align::kRight},
               {"WAITED", Align::kRight},
               {"OF IT BEHIND ITSELF", Align::kRight},
               {"SWITCHES", Align::kRight}});
  for (const auto& [id, value] : *rows) {
    const Name& name = view.names.of(id);
    if (!matches(name, id, target)) {
      continue;
    }
    Json json = name_json(id, name);
    json["on_cpu_ns"] = value.on_cpu_ns;
    json["wait_ns"] = value.wait_ns;
    json["self_wait_ns"] = value.self_wait_ns;
    json["switches"] = value.switches;
    report.json.push_back(std::move(json));
    table.row({service_label(name), label(name), time(value.on_cpu_ns), time(value.wait_ns),
               time(value.self_wait_ns), std::to_string(value.switches)});
  }
  report.text = table.empty() ? "No cgroup ran.\n" : table.text();
  return report;
}

Result<Report> loss(View& view, const std::string& /*target*/) {
  const auto sums = view.maps.loss();
  if (!sums) {
    return sums.error();
  }
  Report report{Json::object(), ""};
  Table table({{"REASON"}, {"EVENTS", Align::kRight}, {"BYTES", Align::kRight}});
  for (unsigned i = 0; i < BALLAST_LOSS_REASONS; ++i) {
    const char* reason = sample::loss_reason_name(static_cast<ballast_loss_reason>(i));
    report.json[reason] = {{"events", (*sums)[i].events}, {"bytes", (*sums)[i].bytes}};
    table.row(
        {reason, std::to_string((*sums)[i].events), human_bytes(static_cast<double>((*sums)[i].bytes))});
  }
  report.text = table.text();
  return report;
}

}  // namespace ballast::ctl
