// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/cells.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>

#include "core/base/file.h"
#include "model/policy/parameters.h"
#include "model/policy/shipped.h"
#include "model/sim/simulation.h"
#include "model/sim/technique.h"
#include "tools/bench/sim_command.h"

namespace ballast::bench {
namespace {

using nlohmann::ordered_json;

/// Rises when the simulator or a policy changes what a cell gives.
constexpr int kVersion = 2;

std::string text_of(const std::string& reference) {
  const std::string name = reference.substr(0, reference.find(':'));
  for (const auto& builtin : sim::builtin_scenarios()) {
    if (builtin.name == name) {
      return builtin.text;
    }
  }
  const auto text = read_file(name);
  return text ? *text : std::string();
}

std::string key_of(const Cell& cell, const CellOptions& options) {
  std::string parameters;
  if (cell.policy.starts_with("learned")) {
    const auto bytes = cell.policy == "learned" && !options.parameters.empty()
                           ? read_file(options.parameters)
                           : std::string(policy::shipped());
    parameters = bytes ? std::to_string(policy::fingerprint(*bytes)) : "unreadable";
  }
  return std::to_string(kVersion) + "/" + cell.scenario + "/" +
         std::to_string(crc32(text_of(cell.scenario))) + "/" + cell.policy + "/" +
         std::to_string(cell.tick_s) + "/" + std::to_string(options.first_seed) + "-" +
         std::to_string(options.last_seed) + "/" + std::to_string(options.most_requests) + "/" + parameters;
}

std::filesystem::path file_of(const Cell& cell, const CellOptions& options) {
  std::string name = cell.scenario + "_" + cell.policy;
  if (cell.tick_s > 0) {
    name += "_" + std::to_string(std::lround(cell.tick_s * 1000)) + "ms";
  }
  std::replace_if(
      name.begin(), name.end(), [](unsigned char c) { return std::isalnum(c) == 0 && c != '_'; }, '-');
  return options.folder / "cells" / (name + ".json");
}

ordered_json to_json(const SeedResult& r) {
  return {{"seed", r.seed},     {"requests", r.requests}, {"p50_ms", r.p50_ms},
          {"p99_ms", r.p99_ms}, {"p999_ms", r.p999_ms},   {"goodput_rps", r.goodput_rps},
          {"errors", r.errors}, {"churn", r.churn},       {"goodput_by_second", r.goodput_by_second}};
}

std::optional<CellResult> stored(const std::filesystem::path& file, const std::string& key,
                                 const CellOptions& options) {
  const auto bytes = read_file(file);
  if (!bytes) {
    return std::nullopt;
  }
  const auto json = ordered_json::parse(*bytes, nullptr, false);
  if (!json.is_object() || json.value("key", "") != key || !json.contains("seeds")) {
    return std::nullopt;
  }
  try {
    CellResult result;
    for (const auto& row : json["seeds"]) {
      result.push_back({row.at("seed"), row.at("requests"), row.at("p50_ms"), row.at("p99_ms"),
                        row.at("p999_ms"), row.at("goodput_rps"), row.at("errors"), row.at("churn"),
                        row.at("goodput_by_second").get<std::vector<double>>()});
    }
    return result.size() == options.last_seed - options.first_seed + 1 ? std::optional(result) : std::nullopt;
  } catch (const nlohmann::json::exception&) {
    return std::nullopt;
  }
}

Result<CellResult> simulate(const Cell& cell, const CellOptions& options) {
  const auto scenario = cell_scenario(cell.scenario, options);
  if (!scenario) {
    return scenario.error();
  }
  const auto policy = technique_named(cell.policy, options.parameters);
  if (!policy) {
    return policy.error();
  }
  sim::LoopOptions loop;
  if (scenario->telemetry.tick_s > 0) {
    loop.tick_s = scenario->telemetry.tick_s;
  } else if (cell.tick_s > 0) {
    loop.tick_s = cell.tick_s;
  }
  CellResult result;
  for (std::uint64_t seed = options.first_seed; seed <= options.last_seed; ++seed) {
    sim::Simulation simulation(*scenario, *policy, seed, loop);
    const sim::Metrics m = simulation.run();
    result.push_back({seed,
                      static_cast<double>(m.requests),
                      m.p50_ms,
                      m.p99_ms,
                      m.p999_ms,
                      m.goodput_rps,
                      static_cast<double>(m.errors),
                      m.weight_changes_per_min,
                      {m.good_by_second.begin(), m.good_by_second.end()}});
  }
  return result;
}

Result<CellResult> run_cell(const Cell& cell, const CellOptions& options) {
  const std::string key = key_of(cell, options);
  const auto file = file_of(cell, options);
  if (auto result = stored(file, key, options)) {
    return *result;
  }
  auto result = simulate(cell, options);
  if (!result) {
    return result.error();
  }
  ordered_json json = {{"key", key}, {"seeds", ordered_json::array()}};
  for (const auto& seed : *result) {
    json["seeds"].push_back(to_json(seed));
  }
  if (const auto written = write_file_atomic(file, json.dump() + "\n"); !written) {
    return written.error();
  }
  return result;
}

}  // namespace

Result<sim::Scenario> cell_scenario(const std::string& reference, const CellOptions& options) {
  auto scenario = sim::load_scenario(reference);
  if (scenario && options.most_requests > 0 && scenario->requests > options.most_requests) {
    scenario->warmup_s *=
        static_cast<double>(options.most_requests) / static_cast<double>(scenario->requests);
    scenario->requests = options.most_requests;
  }
  return scenario;
}

bool has_loop(const std::string& policy) {
  const auto found = sim::find_technique(policy);
  return found && (*found)->make_controller != nullptr;
}

bool has_static_pods(const sim::Scenario& s) {
  const bool differ = std::any_of(s.servers.begin(), s.servers.end(), [&](const sim::ServerSpec& server) {
    return server.capacity() != s.servers.front().capacity();
  });
  return differ && s.slowness.empty() && s.faults.empty() && s.churn.empty();
}

double differences_last_s(const sim::Scenario& s) {
  double last = 0;
  bool moves = false;
  const auto note = [&](double seconds) {
    last = moves ? std::min(last, seconds) : seconds;
    moves = true;
  };
  for (const auto& slow : s.slowness) {
    if (slow.kind == sim::Slowness::Kind::kSet) {
      note((slow.until_s > 0 ? slow.until_s : sim::expected_duration(s)) - slow.at_s);
    } else {
      note(slow.kind == sim::Slowness::Kind::kRotate ? slow.every_s : slow.duration_s);
    }
  }
  for (const auto& churn : s.churn) {
    if (churn.cold_decay_s > 0) {
      note(churn.cold_decay_s / 2);  // half as different by then
    }
  }
  if (moves) {
    return last;
  }
  return has_static_pods(s) ? std::numeric_limits<double>::infinity() : 0;
}

Result<std::vector<CellResult>> run_cells(
    const std::vector<Cell>& cells, const CellOptions& options,
    const std::function<void(std::size_t done, std::size_t all, const Cell&)>& progress) {
  std::error_code error;
  std::filesystem::create_directories(options.folder / "cells", error);
  if (error) {
    return Error::failed((options.folder / "cells").string() + ": " + error.message());
  }
  std::vector<CellResult> results(cells.size());
  std::optional<Error> failed;
  std::mutex mutex;
  std::atomic<std::size_t> next{0};
  std::size_t done = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < cells.size(); i = next++) {
      auto result = run_cell(cells[i], options);
      const std::lock_guard lock(mutex);
      if (!result) {
        failed = result.error();
        next = cells.size();
        return;
      }
      results[i] = std::move(*result);
      progress(++done, cells.size(), cells[i]);
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned k = 1; k < options.jobs; ++k) {
      threads.emplace_back(work);
    }
    work();
  }
  if (failed) {
    return *failed;
  }
  return results;
}

}  // namespace ballast::bench
