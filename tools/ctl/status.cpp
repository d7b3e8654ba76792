// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <set>
#include <string>

#include "agent/sample/map_fill.h"
#include "core/base/human.h"
#include "core/base/table.h"
#include "tools/ctl/decisions.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

double seconds_since(MonotonicNs then, MonotonicNs now) {
  return then == 0 || then > now ? 0 : static_cast<double>(now - then) * 1e-9;
}

/// A heartbeat comes every tick. The process may live in another PID namespace, so that its
/// heartbeat decides; its absence alone proves nothing.
bool is_alive(const ballast_meta& meta, MonotonicNs now) {
  const double patience_s = std::max(2.0, 4 * static_cast<double>(meta.tick_ms) * 1e-3);
  return meta.heartbeat_ns != 0 && seconds_since(meta.heartbeat_ns, now) <= patience_s;
}

/// Dead at once when killed a moment ago: no need to wait for the heartbeat to grow old. Says
/// nothing where the process cannot be seen.
bool is_gone(const ballast_meta& meta, MonotonicNs now) {
  return seconds_since(meta.heartbeat_ns, now) > 2e-3 * meta.tick_ms && meta.pid != 0 &&
         ::kill(static_cast<pid_t>(meta.pid), 0) != 0 && errno == ESRCH;
}

/// What is said of each service in `text` of its decisions.
template <typename Text>
Json said_of(const View& view, Text text) {
  std::map<std::string, std::string> said;
  if (const auto rows = decisions(view, ""); rows) {
    for (const sample::DecisionRow& row : *rows) {
      if (std::string says = text(row.value); !says.empty()) {
        said[fmt::format("{}/{}", field(row.key.ns), field(row.key.service))] = std::move(says);
      }
    }
  }
  Json out = Json::array();
  for (const auto& [service, says] : said) {
    out.push_back({{"service", service}, {"says", says}});
  }
  return out;
}

}  // namespace

Result<Report> status(View& view, const std::string& /*target*/) {
  const auto read = view.maps.meta();
  if (!read) {
    return read.error();
  }
  const ballast_meta& meta = *read;
  const auto features = view.maps.features();
  if (!features) {
    return features.error();
  }
  const bool alive = is_alive(meta, view.now) && !is_gone(meta, view.now);
  const double heartbeat_s = seconds_since(meta.heartbeat_ns, view.now);
  Json programs = {{"http", (meta.flags & BALLAST_META_HTTP) != 0},
                   {"tcp", (meta.flags & BALLAST_META_TCP) != 0},
                   {"cpu", (meta.flags & BALLAST_META_CPU) != 0}};
  std::string attached;
  for (const auto& [name, on] : programs.items()) {
    attached += std::string(attached.empty() ? "" : ", ") + name + (on.get<bool>() ? "" : " (not attached)");
  }
  Json feature_list = Json::array();
  for (const Feature& feature : *features) {
    feature_list.push_back(
        {{"name", feature.name}, {"available", feature.available}, {"fallback", feature.fallback}});
  }
  const std::string profile = field(meta.loop);
  Report report;
  report.json = {{"alive", alive},
                 {"pid", meta.pid},
                 {"heartbeat_age_s", heartbeat_s},
                 {"bpffs", view.bpffs.string()},
                 {"wire_version", meta.wire_version},
                 {"build", field(meta.build)},
                 {"programs", programs},
                 {"maps_age_s", seconds_since(meta.loaded_ns, view.now)},
                 {"attached_age_s", seconds_since(meta.attached_ns, view.now)},
                 {"mode", mode_name(meta.mode)},
                 {"policy", field(meta.policy)},
                 {"policy_epoch", meta.policy_epoch},
                 {"policy_version", meta.policy_version},
                 {"policy_crc32", fmt::format("{:08x}", meta.policy_crc32)},
                 {"sink", field(meta.sink)},
                 {"loop", profile},
                 {"leader", field(meta.leader)},
                 {"trouble", field(meta.trouble)},
                 {"subscribers", meta.subscribers},
                 {"tick_ms", meta.tick_ms},
                 {"features", feature_list}};
  report.json["forecast"] = said_of(view, [](const ballast_decision_value& v) { return field(v.forecast); });
  report.json["twin"] = said_of(view, [](const ballast_decision_value& v) { return field(v.twin); });
  const auto gaps = coverage_json(view);
  if (!gaps) {
    return gaps.error();
  }
  report.json["not_measured"] = *gaps;
  const std::vector<sample::MapFill> fills = sample::map_fills(view.bpffs);
  report.json["maps"] = Json::array();
  for (const sample::MapFill& map : fills) {
    report.json["maps"].push_back(
        {{"name", map.name}, {"entries", map.entries}, {"max_entries", map.max_entries}});
  }
  const auto age = [](double s) { return human_duration_ns(s * 1e9); };
  Table table({{"BALLASTD"}, {alive ? "alive" : "dead (the programs go on measuring)"}});
  table.row({"pid", std::to_string(meta.pid)});
  table.row({"last heartbeat", meta.heartbeat_ns == 0 ? "never" : age(heartbeat_s) + " ago"});
  table.row({"folder", view.bpffs.string()});
  table.row({"build", field(meta.build)});
  table.row({"wire version", std::to_string(meta.wire_version)});
  table.row({"programs", attached});
  table.row({"maps made", age(seconds_since(meta.loaded_ns, view.now)) + " ago"});
  table.row({"attached", age(seconds_since(meta.attached_ns, view.now)) + " ago"});
  table.row({"mode", mode_name(meta.mode)});
  table.row({"policy", fmt::format("{}, epoch {}, version {}, crc32 {:08x}", field(meta.policy),
                                   meta.policy_epoch, meta.policy_version, meta.policy_crc32)});
  for (const Json& one : report.json["forecast"]) {
    table.row({"forecast of " + one["service"].get<std::string>(), one["says"].get<std::string>()});
  }
  for (const Json& one : report.json["twin"]) {
    table.row({"twin of " + one["service"].get<std::string>(), one["says"].get<std::string>()});
  }
  table.row({"sink", field(meta.sink)});
  if (!profile.empty()) {
    table.row({"loop", profile});
  }
  if (meta.leader[0] != 0) {
    table.row({"leader", field(meta.leader)});
  }
  table.row({"trouble", meta.trouble[0] == 0 ? "none" : field(meta.trouble)});
  table.row({"subscribers", std::to_string(meta.subscribers)});
  table.row({"tick", std::to_string(meta.tick_ms) + " ms"});
  std::map<std::string, std::set<std::uint64_t>> cgroups;
  for (const Json& gap : *gaps) {
    cgroups[gap["kind"]].insert(gap["cgroup_id"].get<std::uint64_t>());
  }
  std::string not_measured;
  for (const auto& [kind, where] : cgroups) {
    not_measured += fmt::format("{}{} in {} cgroups", not_measured.empty() ? "" : ", ", kind, where.size());
  }
  table.row(
      {"not measured", not_measured.empty() ? "nothing that was seen" : not_measured + " (ballastctl loss)"});
  const auto fullest = std::ranges::max_element(fills, {}, [](const sample::MapFill& map) {
    return map.max_entries == 0 ? 0.0
                                : static_cast<double>(map.entries) / static_cast<double>(map.max_entries);
  });
  if (fullest != fills.end()) {
    table.row(
        {"fullest map", fmt::format("{}, {} of {}", fullest->name, fullest->entries, fullest->max_entries)});
  }
  for (const Feature& feature : *features) {
    table.row({feature.name, feature.available ? "yes" : "no: " + feature.fallback});
  }
  report.text = table.text();
  return report;
}

}  // namespace ballast::ctl
