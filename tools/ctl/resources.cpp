// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "agent/sample/cgroup_files.h"
#include "core/base/human.h"
#include "core/base/table.h"
#include "tools/ctl/sorted.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

using Align = Table::Align;

std::string time(std::uint64_t ns) {
  return human_duration_ns(static_cast<double>(ns));
}

sample::Pressures pressures_of(const Names& names, const Name& name) {
  return names.cgroup_root().empty() || name.cgroup.empty() || name.cgroup[0] != '/'
             ? sample::Pressures{}
             : sample::read_pressures(names.cgroup_root().string() + name.cgroup);
}

/// Null where the kernel has no pressure for this cgroup.
Json pressures_json(const sample::Pressures& pressures) {
  Json json = Json::object();
  for (std::size_t i = 0; i < pressures.size(); ++i) {
    Json& one = json[sample::resource_name(sample::kResources[i])];
    if (const auto& p = pressures[i]) {
      one = {{"some_avg10", p->some.avg10},
             {"some_total_us", p->some.total_us},
             {"full_avg10", p->full.avg10},
             {"full_total_us", p->full.total_us}};
    }
  }
  return json;
}

std::string pressure_text(const std::optional<sample::Pressure>& pressure) {
  return pressure ? fmt::format("{:.0f} %", pressure->some.avg10) : "-";
}

using CpuRows = std::vector<std::pair<sample::CgroupId, ballast_cpu_value>>;

/// Where the kernel refused the probe: the pods that ballastd named, from their own files.
Result<CpuRows> cpu_from_files(View& view, sample::CgroupFiles* files) {
  const auto pods = view.maps.identity();
  if (!pods) {
    return pods.error();
  }
  CpuRows rows;
  for (const auto& [id, pod] : *pods) {
    const auto usage = files != nullptr ? files->usage(field(pod.cgroup)) : sample::CgroupUsage{};
    if (usage.cpu_ns) {
      rows.emplace_back(id, ballast_cpu_value{.on_cpu_ns = *usage.cpu_ns});
    }
  }
  return rows;
}

}  // namespace

Result<Report> cpu(View& view, const std::string& target) {
  const auto meta = view.maps.meta();
  if (!meta) {
    return meta.error();
  }
  // Without a cgroup mount there are no files to read; what the maps have is shown all the same.
  std::optional<sample::CgroupFiles> files;
  if (auto roots = sample::CgroupRoots::discover(); roots) {
    files.emplace(std::move(*roots));
  }
  const bool probed = (meta->flags & BALLAST_META_CPU) != 0;
  auto rows = probed ? view.maps.cpu() : cpu_from_files(view, files ? &*files : nullptr);
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
               {"SWITCHES", Align::kRight},
               {"MEMORY USED", Align::kRight},
               {"PRESSURE CPU", Align::kRight},
               {"MEMORY", Align::kRight},
               {"IO", Align::kRight}});
  const auto known = [probed](std::uint64_t value) { return probed ? Json(value) : Json(nullptr); };
  for (const auto& [id, value] : *rows) {
    const Name& name = view.names.of(id);
    if (!matches(name, id, target)) {
      continue;
    }
    Json json = name_json(id, name);
    json["on_cpu_ns"] = value.on_cpu_ns;
    json["wait_ns"] = known(value.wait_ns);
    json["self_wait_ns"] = known(value.self_wait_ns);
    json["switches"] = known(value.switches);
    json["source"] = probed ? "scheduler" : "cgroup_files";
    const std::uint64_t memory = files ? files->usage(name.cgroup).memory_bytes : 0;
    json["memory_bytes"] = memory == 0 ? Json(nullptr) : Json(memory);
    const sample::Pressures pressures = pressures_of(view.names, name);
    json["pressure"] = pressures_json(pressures);
    report.json.push_back(std::move(json));
    table.row({service_label(name), label(name), time(value.on_cpu_ns), probed ? time(value.wait_ns) : "-",
               probed ? time(value.self_wait_ns) : "-", probed ? std::to_string(value.switches) : "-",
               memory == 0 ? "-" : human_bytes(static_cast<double>(memory)), pressure_text(pressures[0]),
               pressure_text(pressures[1]), pressure_text(pressures[2])});
  }
  report.text = table.empty()
                    ? "No cgroup ran.\n"
                    : table.text() + "PRESSURE: share of the last 10 s in which some task waited.\n";
  return report;
}

Result<Json> coverage_json(View& view) {
  auto rows = view.maps.coverage();
  if (!rows) {
    return rows.error();
  }
  std::sort(rows->begin(), rows->end(), [](const auto& a, const auto& b) {
    return std::tie(a.key.cgroup_id, a.key.kind) < std::tie(b.key.cgroup_id, b.key.kind);
  });
  Json json = Json::array();
  for (const auto& row : *rows) {
    Json one = name_json(row.key.cgroup_id, view.names.of(row.key.cgroup_id));
    one["kind"] = sample::coverage_name(static_cast<ballast_coverage_kind>(row.key.kind));
    one["events"] = row.value.events;
    one["last_seen_s"] = row.value.last_seen_ns > view.now
                             ? 0.0
                             : static_cast<double>(view.now - row.value.last_seen_ns) * 1e-9;
    json.push_back(std::move(one));
  }
  return json;
}

/// Whose the rows of a map are that is nearly full, the most first: whoever fills it takes the others' room.
template <typename Rows>
void add_holder(Json& json, View& view, const char* map, const Rows& rows, std::size_t most) {
  if (!rows || rows->size() * 4 < most * 3) {
    return;
  }
  std::map<sample::CgroupId, std::size_t> held;
  for (const auto& row : *rows) {
    ++held[row.key.cgroup_id];
  }
  const auto first = std::ranges::max_element(held, {}, [](const auto& one) { return one.second; });
  Json one = name_json(first->first, view.names.of(first->first));
  one["map"] = map;
  one["entries"] = rows->size();
  one["max_entries"] = most;
  one["held"] = first->second;
  json.push_back(std::move(one));
}

std::string pod_or_cgroup(const Json& row) {
  const std::string pod = row["pod"].get<std::string>();
  return pod.empty() ? row["cgroup"].get<std::string>() : row["namespace"].get<std::string>() + "/" + pod;
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
  Table gaps({{"NOT MEASURED"}, {"WHY"}, {"SEEN", Align::kRight}, {"LAST"}});
  const auto rows = coverage_json(view);
  if (!rows) {
    return rows.error();
  }
  for (const Json& row : *rows) {
    gaps.row({pod_or_cgroup(row), row["kind"], row["events"].dump(),
              human_duration_ns(row["last_seen_s"].get<double>() * 1e9) + " ago"});
  }
  Json full = Json::array();
  add_holder(full, view, BALLAST_MAP_REQUESTS, view.maps.requests(), BALLAST_MAX_REQUEST_KEYS);
  add_holder(full, view, BALLAST_MAP_CALLS, view.maps.calls(), BALLAST_MAX_CALLS);
  add_holder(full, view, BALLAST_MAP_COVERAGE, view.maps.coverage(), BALLAST_MAX_COVERAGE);
  Table holders({{"NEARLY FULL"}, {"ROWS", Align::kRight}, {"MOST ARE OF"}, {"ROWS", Align::kRight}});
  for (const Json& one : full) {
    holders.row({one["map"], one["entries"].dump() + " of " + one["max_entries"].dump(), pod_or_cgroup(one),
                 one["held"].dump()});
  }
  report.text = table.text() + (gaps.empty() ? "" : "\n" + gaps.text()) +
                (holders.empty() ? "" : "\n" + holders.text());
  return report;
}

}  // namespace ballast::ctl
