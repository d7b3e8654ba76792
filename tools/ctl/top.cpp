// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/top.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "core/base/human.h"
#include "core/base/table.h"
#include "tools/ctl/decisions.h"
#include "tools/ctl/latency.h"
#include "tools/ctl/screen.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

constexpr std::chrono::seconds kRefresh{1};

std::uint64_t grown(std::uint64_t before, std::uint64_t now) {
  return now >= before ? now - before : now;
}

spec::Latency grown(const spec::Latency& before, const spec::Latency& now) {
  if (now.count < before.count) {
    return now;
  }
  spec::Latency delta;
  delta.count = now.count - before.count;
  delta.sum_ns = grown(before.sum_ns, now.sum_ns);
  for (std::size_t i = 0; i < delta.buckets.size(); ++i) {
    delta.buckets[i] = grown(before.buckets[i], now.buckets[i]);
  }
  return delta;
}

/// One line: what was measured (absent for an endpoint elsewhere) and what was decided.
struct Row {
  Name name;
  bool measured = false;
  double qps = 0;
  double errors_per_s = 0;
  double p50_ns = 0;
  double p99_ns = 0;
  std::int64_t in_flight = 0;
  double cores = 0;
  std::optional<sample::DecisionRow> decision;
};

Row measured_row(const TopSample::Cgroup& before, const TopSample::Cgroup& now, double seconds) {
  Row row;
  row.name = now.name;
  row.measured = true;
  const spec::Latency delta = grown(before.first_byte, now.first_byte);
  row.qps = seconds > 0 ? static_cast<double>(grown(before.responses, now.responses)) / seconds : 0;
  row.errors_per_s = seconds > 0 ? static_cast<double>(grown(before.failed, now.failed)) / seconds : 0;
  row.p50_ns = delta.quantile_ns(0.5);
  row.p99_ns = delta.quantile_ns(0.99);
  row.in_flight = now.in_flight;
  row.cores = seconds > 0 ? static_cast<double>(grown(before.on_cpu_ns, now.on_cpu_ns)) * 1e-9 / seconds : 0;
  return row;
}

Result<std::vector<Row>> rows_of(View& view, const TopSample& before, const TopSample& now,
                                 const std::string& target) {
  const auto decided = decisions(view, target);
  if (!decided) {
    return decided.error();
  }
  using Key = std::tuple<std::string, std::string, std::string>;
  std::map<Key, sample::DecisionRow> by_pod;
  for (const auto& row : *decided) {
    by_pod[{field(row.key.ns), field(row.key.service), field(row.key.pod)}] = row;
  }
  const double seconds = static_cast<double>(now.taken - before.taken) * 1e-9;
  std::vector<Row> rows;
  for (const auto& [id, cgroup] : now.cgroups) {
    const auto decision = by_pod.extract(Key{cgroup.name.ns, cgroup.name.service, cgroup.name.pod});
    if ((!cgroup.serves && decision.empty()) || !matches(cgroup.name, id, target)) {
      continue;
    }
    const auto earlier = before.cgroups.find(id);
    rows.push_back(measured_row(earlier == before.cgroups.end() ? cgroup : earlier->second, cgroup, seconds));
    if (!decision.empty()) {
      rows.back().decision = decision.mapped();
    }
  }
  for (const auto& [key, decision] : by_pod) {
    Row row;
    row.name = name_of(decision.key);
    row.decision = decision;
    rows.push_back(std::move(row));
  }
  std::sort(rows.begin(), rows.end(), [](const Row& a, const Row& b) {
    const auto key = [](const Row& r) {
      return std::tuple(r.name.service.empty(), service_label(r.name), label(r.name));
    };
    return key(a) < key(b);
  });
  return rows;
}

Json row_json(const Row& row) {
  const auto measured = [&](const Json& value) { return row.measured ? value : Json(nullptr); };
  const auto decided = [&](const Json& value) { return row.decision ? value : Json(nullptr); };
  return {{"service", row.name.service},
          {"namespace", row.name.ns},
          {"pod", row.name.pod},
          {"cgroup", row.name.cgroup},
          {"requests_per_s", measured(row.qps)},
          {"errors_per_s", measured(row.errors_per_s)},
          {"p50_ns", measured(row.p50_ns)},
          {"p99_ns", measured(row.p99_ns)},
          {"in_flight", measured(row.in_flight)},
          {"cpu_cores", measured(row.cores)},
          {"weight", decided(row.decision ? row.decision->value.weight : 0)},
          {"in_force", decided(row.decision ? row.decision->value.in_force : 0)},
          {"why", decided(row.decision ? field(row.decision->value.why) : "")}};
}

std::string heading(const View& view, const ballast_meta& meta) {
  const bool alive = meta.heartbeat_ns + 2'000'000'000ULL + 4'000'000ULL * meta.tick_ms > view.now;
  return fmt::format("ballast {}  {}  mode {}  policy {} v{}.{}  sink {}  {} subscriber{}",
                     view.bpffs.string(), alive ? "alive" : "DEAD", mode_name(meta.mode), field(meta.policy),
                     meta.policy_epoch, meta.policy_version, field(meta.sink), meta.subscribers,
                     meta.subscribers == 1 ? "" : "s");
}

Status print_once(const std::filesystem::path& bpffs, const std::string& target, bool json) {
  auto view = open_view(bpffs);
  if (!view) {
    return view.error();
  }
  const auto before = top_sample(*view);
  if (!before) {
    return before.error();
  }
  std::this_thread::sleep_for(kRefresh);
  auto later = open_view(bpffs);
  if (!later) {
    return later.error();
  }
  const auto now = top_sample(*later);
  if (!now) {
    return now.error();
  }
  const auto report = top_report(*later, *before, *now, target, 0);
  if (!report) {
    return report.error();
  }
  fmt::print("{}", json ? report->json.dump(2) + "\n" : report->text);
  return ok();
}

}  // namespace

Result<TopSample> top_sample(View& view) {
  const auto requests = view.maps.requests();
  if (!requests) {
    return requests.error();
  }
  const auto cpu = view.maps.cpu();
  if (!cpu) {
    return cpu.error();
  }
  TopSample sample;
  sample.taken = SystemClock().now();
  const auto cgroup = [&](sample::CgroupId id) -> TopSample::Cgroup& {
    auto& entry = sample.cgroups[id];
    entry.name = view.names.of(id);
    return entry;
  };
  for (const auto& row : *requests) {
    if (row.key.role != BALLAST_ROLE_SERVER) {
      continue;
    }
    auto& entry = cgroup(row.key.cgroup_id);
    entry.serves = true;
    entry.requests += row.value.requests;
    entry.responses += row.value.responses;
    const sample::Outcomes ended = sample::outcomes_of(row);
    entry.failed += ended.failed + ended.abandoned + ended.no_answer;
    entry.in_flight += row.value.in_flight;
    entry.first_byte.add(latency_of(row.value.first_byte));
  }
  for (const auto& [id, value] : *cpu) {
    cgroup(id).on_cpu_ns = value.on_cpu_ns;
  }
  return sample;
}

Result<Report> top_report(View& view, const TopSample& before, const TopSample& now,
                          const std::string& target, std::size_t width) {
  const auto meta = view.maps.meta();
  if (!meta) {
    return meta.error();
  }
  const auto rows = rows_of(view, before, now, target);
  if (!rows) {
    return rows.error();
  }
  Report report{Json::array(), ""};
  using Align = Table::Align;
  Table table({{"SERVICE"},
               {"POD OR CGROUP"},
               {"REQ/S", Align::kRight},
               {"P50", Align::kRight},
               {"P99", Align::kRight},
               {"IN FLIGHT", Align::kRight},
               {"CPU", Align::kRight},
               {"WEIGHT", Align::kRight},
               {"WHY"}});
  for (const Row& row : *rows) {
    report.json.push_back(row_json(row));
    const auto measured = [&](std::string text) { return row.measured ? std::move(text) : std::string("-"); };
    const auto time = [&](double ns) { return measured(ns > 0 ? human_duration_ns(ns) : "-"); };
    table.row({service_label(row.name), label(row.name), measured(human_number(row.qps)), time(row.p50_ns),
               time(row.p99_ns), measured(std::to_string(row.in_flight)), measured(human_percent(row.cores)),
               row.decision ? std::to_string(row.decision->value.weight) : "-",
               row.decision ? field(row.decision->value.why) : ""});
  }
  const std::string first = heading(view, *meta);
  report.text = (width == 0 || display_width(first) <= width ? first : fit(first, width)) + "\n";
  report.text += table.empty() ? "No requests were seen.\n" : table.text(width);
  return report;
}

Status top(const std::filesystem::path& bpffs, const std::string& target, bool json) {
  if (json || ::isatty(STDOUT_FILENO) != 1 || ::isatty(STDIN_FILENO) != 1) {
    return print_once(bpffs, target, json);
  }
  auto view = open_view(bpffs);
  if (!view) {
    return view.error();
  }
  auto before = top_sample(*view);
  if (!before) {
    return before.error();
  }
  auto screen = Screen::open();
  if (!screen) {
    return screen.error();
  }
  std::string shown = "Measuring...\n";
  while (true) {
    screen->draw(shown);
    if (screen->wait(kRefresh) == Screen::Event::kQuit) {
      return ok();
    }
    // Opened anew each time: a restarted ballastd may have made new maps.
    view = open_view(bpffs);
    if (!view) {
      return view.error();
    }
    auto now = top_sample(*view);
    if (!now) {
      return now.error();
    }
    const auto report = top_report(*view, *before, *now, target, screen->width());
    if (!report) {
      return report.error();
    }
    shown = report->text + "q quits\n";
    before = std::move(now);
  }
}

}  // namespace ballast::ctl
