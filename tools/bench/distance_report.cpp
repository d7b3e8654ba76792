// SPDX-License-Identifier: Apache-2.0
//
// What `ballast-bench distance` leaves behind: a CSV of its runs and a page of their learning curves.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "tools/bench/charts.h"
#include "tools/bench/distance_command.h"
#include "tools/bench/page.h"
#include "tools/bench/statistics.h"

namespace ballast::bench {

namespace {

constexpr const char* kHead =
    "environment,how,poison,rules,workers,staleness,learning_rate,seed,solved_at,seconds,final_return,"
    "versions,accepted,"
    "rejected,quarantines";
constexpr std::size_t kFields = 15;

std::string head() {
  std::string out = kHead;
  for (std::size_t i = 1; i <= DistanceResult::kPoints; ++i) {
    out += fmt::format(",return_at_{}", 100 * i / DistanceResult::kPoints);
  }
  return out;
}

template <typename T>
bool number(const std::string& text, T* out) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *out);
  return error == std::errc() && end == text.data() + text.size();
}

bool parse(const std::vector<std::string>& f, DistanceRun* run, DistanceResult* r) {
  if (f.size() != kFields + DistanceResult::kPoints) {
    return false;
  }
  run->environment = f[0];
  run->threads = f[1] == "threads";
  run->poison = f[2];
  run->rules = f[3] == "on";
  bool good = number(f[4], &run->workers) && number(f[5], &run->staleness) &&
              number(f[6], &run->learning_rate) && number(f[7], &run->seed) && number(f[8], &r->solved_at) &&
              number(f[9], &r->seconds) && number(f[10], &r->final_return) && number(f[11], &r->versions) &&
              number(f[12], &r->accepted) && number(f[13], &r->rejected) && number(f[14], &r->quarantines);
  for (std::size_t i = 0; i < DistanceResult::kPoints; ++i) {
    good = good && number(f[kFields + i], &r->curve[i]);
  }
  return good;
}

// One line of a chart: the runs that share what it is about.
Series line(const std::string& name, const std::vector<const DistanceResult*>& results, std::uint64_t steps) {
  Series out{.name = name};
  for (std::size_t i = 0; i < DistanceResult::kPoints; ++i) {
    std::vector<double> values;
    for (const DistanceResult* r : results) {
      if (std::isfinite(r->curve[i])) {
        values.push_back(r->curve[i]);
      }
    }
    if (!values.empty()) {
      const Estimate e = bootstrap_mean(values);
      out.x.push_back(static_cast<double>(steps * (2 * i + 1)) / (2.0 * DistanceResult::kPoints));
      out.y.push_back(e.value);
      out.low.push_back(e.low);
      out.high.push_back(e.high);
    }
  }
  return out;
}

// Two charts, with the rules and without: a line for each value of `varied` among runs that `held` fits.
std::string pair(const DistanceRuns& runs, std::uint64_t steps, const std::string& title,
                 const std::function<bool(const DistanceRun&)>& held,
                 const std::function<std::pair<std::size_t, std::string>(const DistanceRun&)>& varied) {
  std::string out = "<h3>" + escaped(title) + "</h3><div class='pair'>";
  bool enough = false;
  for (const bool rules : {true, false}) {
    std::map<std::pair<std::size_t, std::string>, std::vector<const DistanceResult*>> lines;
    for (const auto& [run, result] : runs) {
      if (run.rules == rules && !run.threads && held(run)) {
        lines[varied(run)].push_back(&result);
      }
    }
    LineChart chart{.title = rules ? "with the server's rules" : "plain A3C, without them",
                    .x_label = "steps of all workers",
                    .y_label = "return of an episode, exploration included"};
    for (const auto& [name, results] : lines) {
      chart.series.push_back(line(name.second, results, steps));
    }
    enough = enough || lines.size() > 1;
    out += svg(chart);
  }
  return enough ? out + "</div>\n" : "";
}

}  // namespace

std::string distance_csv(const DistanceRuns& runs) {
  std::string out = head() + "\n";
  for (const auto& [run, r] : runs) {
    out += fmt::format("{},{},{},{},{},{},{:g},{},{},{:.3f},{:.6g},{},{},{},{}", run.environment,
                       run.threads ? "threads" : "in turn", run.poison, run.rules ? "on" : "off", run.workers,
                       run.staleness, run.learning_rate, run.seed, r.solved_at, r.seconds, r.final_return,
                       r.versions, r.accepted, r.rejected, r.quarantines);
    for (const double value : r.curve) {
      out += fmt::format(",{:.6g}", value);
    }
    out += "\n";
  }
  return out;
}

Result<DistanceRuns> distance_from_csv(const std::string& text) {
  DistanceRuns out;
  std::istringstream lines(text);
  std::string line;
  for (std::size_t at = 1; std::getline(lines, line); ++at) {
    if (at == 1) {
      if (line != head()) {
        return Error::usage("line 1: not a table that ballast-bench distance wrote");
      }
      continue;
    }
    std::vector<std::string> fields;
    std::istringstream cells(line);
    for (std::string cell; std::getline(cells, cell, ',');) {
      fields.push_back(cell);
    }
    auto& [run, result] = out.emplace_back();
    if (!parse(fields, &run, &result)) {
      return Error::usage(fmt::format("line {}: not a run", at));
    }
  }
  return out;
}

std::string distance_page(const DistanceRuns& runs, std::uint64_t steps, const std::string& how) {
  std::set<std::size_t> workers, staleness;
  for (const auto& [run, result] : runs) {
    if (run.poison == "none" && !run.threads) {
      workers.insert(run.workers);
      staleness.insert(run.staleness);
    }
  }
  const auto clean = [](const DistanceRun& run) { return run.poison == "none"; };
  std::string out = page_head("Ballast: learning at a distance") +
                    "<h1>Learning at a distance</h1>\n<p class='note'>" + escaped(how) + "</p>\n";
  for (const std::size_t n : workers) {
    out += pair(
        runs, steps, fmt::format("{} workers, by staleness in versions", n),
        [&](const DistanceRun& run) { return clean(run) && run.workers == n; },
        [](const DistanceRun& run) {
          return std::pair(run.staleness, fmt::format("staleness {}", run.staleness));
        });
  }
  for (const std::size_t s : staleness) {
    out += pair(
        runs, steps, fmt::format("staleness {}, by workers", s),
        [&](const DistanceRun& run) { return clean(run) && run.staleness == s; },
        [](const DistanceRun& run) {
          return std::pair(run.workers, fmt::format("{} workers", run.workers));
        });
  }
  // Poisoned runs are compared with the clean ones of as many workers, as far away.
  std::set<std::pair<std::size_t, std::size_t>> spoiled;
  for (const auto& [run, result] : runs) {
    if (!clean(run)) {
      spoiled.insert({run.workers, run.staleness});
    }
  }
  for (const auto& place : spoiled) {
    out += pair(
        runs, steps, fmt::format("{} workers, every tenth of them poisoned", place.first),
        [&](const DistanceRun& run) { return std::pair(run.workers, run.staleness) == place; },
        [](const DistanceRun& run) { return std::pair(std::size_t{run.poison != "none"}, run.poison); });
  }
  return out + "</body></html>\n";
}

}  // namespace ballast::bench
