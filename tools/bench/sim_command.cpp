// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/sim_command.h"

#include <atomic>
#include <charconv>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/base/file.h"
#include "model/policy/forecast_file.h"
#include "model/policy/forward.h"
#include "model/policy/gains_file.h"
#include "model/policy/parameters.h"
#include "model/sim/agent_controller.h"
#include "model/sim/simulation.h"

namespace ballast::bench {
namespace {

using nlohmann::ordered_json;

bool parse_number(std::string_view text, std::uint64_t* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size() && !text.empty();
}

ordered_json row_of(const sim::Scenario& scenario, const std::string& policy, std::uint64_t seed,
                    double tick_s, const sim::Metrics& m, bool timeline) {
  ordered_json row = {{"scenario", scenario.name},
                      {"policy", policy},
                      {"seed", seed},
                      {"tick_s", tick_s},
                      {"requests", m.requests},
                      {"mean_ms", m.mean_ms},
                      {"p50_ms", m.p50_ms},
                      {"p90_ms", m.p90_ms},
                      {"p99_ms", m.p99_ms},
                      {"p999_ms", m.p999_ms},
                      {"goodput_rps", m.goodput_rps},
                      {"errors", m.errors},
                      {"utilisation_mean", m.utilisation_mean},
                      {"utilisation_max_over_mean", m.utilisation_max_over_mean},
                      {"weight_changes_per_min", m.weight_changes_per_min},
                      {"jain_clients", m.jain_clients},
                      {"duration_s", m.duration_s},
                      {"requests_by_server", m.requests_by_server}};
  if (timeline) {
    row["goodput_by_second"] = m.good_by_second;
  }
  return row;
}

struct Job {
  std::shared_ptr<const sim::Technique> policy;
  std::uint64_t seed;
};

}  // namespace

Result<sim::Technique> technique_named(const std::string& name, const std::string& parameters,
                                       const std::string& gains) {
  const auto known = sim::find_technique(name);
  if (!known) {
    return known.error();
  }
  sim::GainsByService learned;
  if (!gains.empty()) {
    const auto text = read_file(gains);
    auto parsed = text ? policy::parse_gains(*text) : text.error();
    if (!parsed) {
      return parsed.error().in(gains);
    }
    learned = std::move(parsed->gains);
  }
  if (name == "queue_rule" && !learned.empty()) {
    return sim::queue_rule_technique(learned);
  }
  if (name == "forecast_rule" && parameters.empty() && !learned.empty()) {
    auto theta = policy::parse_forecast(policy::shipped_forecast());
    return theta ? sim::forecast_technique(std::make_shared<const std::vector<float>>(std::move(*theta)),
                                           false, learned)
                 : Result<sim::Technique>(theta.error());
  }
  if (parameters.empty() || (name != "learned" && name != "forecast_rule")) {
    return **known;
  }
  const auto bytes = read_file(parameters);
  if (!bytes) {
    return bytes.error();
  }
  if (name == "forecast_rule") {
    auto theta = policy::parse_forecast(*bytes);
    return theta ? sim::forecast_technique(std::make_shared<const std::vector<float>>(std::move(*theta)),
                                           false, learned)
                 : Result<sim::Technique>(theta.error().in(parameters));
  }
  const auto parsed = policy::parse(*bytes);
  if (!parsed) {
    return parsed.error().in(parameters);
  }
  const auto network = policy::ForwardNetwork::create(*parsed);
  if (!network) {
    return network.error().in(parameters);
  }
  return sim::learned_technique(*network);
}

Result<SeedRange> parse_seeds(const std::string& text) {
  const std::size_t dots = text.find("..");
  SeedRange range;
  const std::string_view view(text);
  const bool fine = dots == std::string::npos
                        ? parse_number(view, &range.first) && parse_number(view, &range.last)
                        : parse_number(view.substr(0, dots), &range.first) &&
                              parse_number(view.substr(dots + 2), &range.last);
  if (!fine || range.first > range.last || range.last - range.first >= 100'000) {
    return Error::usage("--seeds '" + text + "': has to be A..B with A <= B, or one number");
  }
  return range;
}

Result<std::string> sim_rows(const SimOptions& options) {
  const auto scenario = sim::load_scenario(options.scenario);
  if (!scenario) {
    return scenario.error();
  }
  const auto seeds = parse_seeds(options.seeds);
  if (!seeds) {
    return seeds.error();
  }
  sim::LoopOptions loop = options.loop;
  if (!options.loop_name.empty()) {
    const auto profile = sim::find_loop(options.loop_name);
    if (!profile) {
      return profile.error();
    }
    loop = *profile;
  }
  if (scenario->telemetry.tick_s > 0 && !options.tick_given) {
    loop.tick_s = scenario->telemetry.tick_s;
  }
  std::vector<Job> jobs;
  for (const auto& name : options.policies) {
    const auto found = technique_named(name, options.parameters, options.gains);
    if (!found) {
      return found.error();
    }
    const auto policy = std::make_shared<const sim::Technique>(*found);
    for (std::uint64_t seed = seeds->first; seed <= seeds->last; ++seed) {
      jobs.push_back({policy, seed});
    }
  }
  std::vector<ordered_json> rows(jobs.size());
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t i = next++; i < jobs.size(); i = next++) {
      sim::Simulation simulation(*scenario, *jobs[i].policy, jobs[i].seed, loop);
      rows[i] = row_of(*scenario, jobs[i].policy->name, jobs[i].seed, loop.tick_s, simulation.run(),
                       options.timeline);
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 1; i < options.jobs; ++i) {
      threads.emplace_back(work);
    }
    work();
  }
  return ordered_json(rows).dump(1) + "\n";
}

Status run_sim(const SimOptions& options) {
  const auto rows = sim_rows(options);
  if (!rows) {
    return rows.error();
  }
  if (options.output == "-") {
    std::cout << *rows;
    return ok();
  }
  return write_file_atomic(options.output, *rows);
}

}  // namespace ballast::bench
