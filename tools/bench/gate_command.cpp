// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/gate_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <thread>

#include "core/base/file.h"
#include "model/policy/forecast_file.h"
#include "model/policy/parameters.h"
#include "model/sim/scenario.h"
#include "model/sim/simulation.h"
#include "tools/bench/sim_command.h"

namespace ballast::bench {
namespace {

using nlohmann::ordered_json;

constexpr std::size_t kCandidate = kJudges;
constexpr std::size_t kArms = kJudges + 1;

/// Metrics of all runs: [scenario][seed][arm].
using Runs = std::vector<std::vector<std::array<sim::Metrics, kArms>>>;

Runs simulate(const std::vector<sim::Scenario>& scenarios, const SeedRange& seeds,
              const std::array<sim::Technique, kArms>& arms, const GateOptions& options) {
  const std::size_t count = seeds.last - seeds.first + 1;
  Runs runs(scenarios.size());
  for (auto& of_scenario : runs) {
    of_scenario.resize(count);
  }
  const bool same = options.incumbent.empty();
  std::atomic<std::size_t> next{0};
  const auto work = [&] {
    for (std::size_t job = next++; job < scenarios.size() * count * kArms; job = next++) {
      const std::size_t arm = job % kArms;
      const std::size_t seed = job / kArms % count;
      const sim::Scenario& scenario = scenarios[job / kArms / count];
      if (arm == kIncumbent && same) {
        continue;
      }
      sim::LoopOptions loop = options.loop;
      loop.tick_s = scenario.telemetry.tick_s > 0 && options.loop_name.empty() ? scenario.telemetry.tick_s
                                                                               : loop.tick_s;
      runs[job / kArms / count][seed][arm] =
          sim::Simulation(scenario, arms[arm], seeds.first + seed, loop).run();
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned i = 1; i < options.jobs; ++i) {
      threads.emplace_back(work);
    }
    work();
  }
  if (same) {
    for (auto& of_scenario : runs) {
      for (auto& arms_of_seed : of_scenario) {
        arms_of_seed[kIncumbent] = arms_of_seed[kStrongRule];
      }
    }
  }
  return runs;
}

/// log(candidate / other) of one number, a value a seed.
std::vector<double> log_ratios(const std::vector<std::array<sim::Metrics, kArms>>& runs, std::size_t other,
                               double sim::Metrics::*number) {
  std::vector<double> ratios;
  for (const auto& arms : runs) {
    ratios.push_back(
        std::log(std::max(arms[kCandidate].*number, 1e-9) / std::max(arms[other].*number, 1e-9)));
  }
  return ratios;
}

Interval as_ratio(const std::vector<double>& logs) {
  const Interval in_logs = bootstrap_mean(std::span(&logs, 1));
  return {std::exp(in_logs.mean), std::exp(in_logs.low), std::exp(in_logs.high)};
}

double sum_ratio(const std::vector<std::array<sim::Metrics, kArms>>& runs, double sim::Metrics::*number) {
  double own = 0;
  double other = 0;
  for (const auto& arms : runs) {
    own += arms[kCandidate].*number;
    other += arms[kPrior].*number;
  }
  return other > 0 ? own / other : 1;
}

GateRow row_of(const std::string& scenario, const std::vector<std::array<sim::Metrics, kArms>>& runs) {
  GateRow row;
  row.scenario = scenario;
  for (std::size_t arm = 0; arm < kJudges; ++arm) {
    row.p99[arm] = as_ratio(log_ratios(runs, arm, &sim::Metrics::p99_ms));
    row.p50[arm] = as_ratio(log_ratios(runs, arm, &sim::Metrics::p50_ms));
  }
  row.goodput_prior = sum_ratio(runs, &sim::Metrics::goodput_rps);
  row.changes_prior = sum_ratio(runs, &sim::Metrics::weight_changes_per_min);
  return row;
}

Interval gain(const Runs& runs, std::size_t other) {
  std::vector<std::vector<double>> strata;
  for (const auto& of_scenario : runs) {
    strata.push_back(log_ratios(of_scenario, other, &sim::Metrics::p99_ms));
    for (double& value : strata.back()) {
      value = -value;
    }
  }
  return bootstrap_mean(strata);
}

ordered_json json_of(const Interval& interval) {
  return {{"mean", interval.mean}, {"low", interval.low}, {"high", interval.high}};
}

ordered_json report(const std::vector<GateRow>& rows, const Gains& gains, const Verdict& verdict,
                    const GateOptions& options) {
  ordered_json table = ordered_json::array();
  for (const auto& row : rows) {
    ordered_json entry = {{"scenario", row.scenario}};
    for (std::size_t arm = 0; arm < kJudges; ++arm) {
      entry["p99_to_" + kArmNames[arm]] = json_of(row.p99[arm]);
      entry["p50_to_" + kArmNames[arm]] = json_of(row.p50[arm]);
    }
    entry["goodput_to_prior"] = row.goodput_prior;
    entry["weight_changes_to_prior"] = row.changes_prior;
    table.push_back(std::move(entry));
  }
  const auto candidate = read_file(options.candidate);
  ordered_json all = {
      {"candidate_crc32", fmt::format("{:08x}", candidate ? policy::fingerprint(*candidate) : 0)},
      {"passed", verdict.passed},
      {"why", verdict.why},
      {"seeds", options.seeds},
      {"tick_s", options.loop.tick_s},
      {"apply_delay_s", options.loop.apply_delay_s},
      {"tolerance", options.tolerance}};
  for (std::size_t arm = 0; arm < kJudges; ++arm) {
    all["log_p99_gain_over_" + kArmNames[arm]] = json_of(gains[arm]);
  }
  all["scenarios"] = table;
  return all;
}

void print(const std::vector<GateRow>& rows, const Gains& gains, const Verdict& verdict) {
  fmt::print("{:<22} {:>24} {:>24} {:>24} {:>24}\n", "scenario", "p99 / strong rule", "p99 / incumbent",
             "p50 / strong rule", "p50 / incumbent");
  const auto cell = [](const Interval& i) {
    return fmt::format("{:.3f} [{:.3f}, {:.3f}]", i.mean, i.low, i.high);
  };
  for (const auto& row : rows) {
    fmt::print("{:<22} {:>24} {:>24} {:>24} {:>24}\n", row.scenario, cell(row.p99[kStrongRule]),
               cell(row.p99[kIncumbent]), cell(row.p50[kStrongRule]), cell(row.p50[kIncumbent]));
  }
  for (std::size_t arm = 0; arm < kJudges; ++arm) {
    fmt::print("log p99 gain over {}: {}\n", kArmNames[arm], cell(gains[arm]));
  }
  fmt::print("{}: {}\n", verdict.passed ? "passed" : "refused", verdict.why);
}

/// What acts with the parameters of a file, by what the file says it is; empty: the strong rule.
Result<sim::Technique> acting_with(const std::string& file) {
  if (file.empty()) {
    return technique_named("queue_rule", "");
  }
  const auto bytes = read_file(file);
  if (!bytes) {
    return bytes.error();
  }
  return technique_named(bytes->starts_with(policy::kForecastMagic) ? "forecast_rule" : "learned", file);
}

}  // namespace

const std::array<std::string, kJudges> kArmNames = {"incumbent", "prior", "prior_square_root", "queue_rule"};

const std::vector<std::string>& held_out_scenarios() {
  static const std::vector<std::string> names = {
      "null",         "null:rho60", "null:m200",     "static",           "static:m1",       "static:m200",
      "static:rho85", "static:cv3", "antagonist",    "antagonist:r1",    "antagonist:r3",   "antagonist:r60",
      "zones",        "churn",      "heavy_tail:ps", "bad_telemetry",    "normal",          "stressful",
      "cron20",       "cron60",     "node30",        "cron20:aperiodic", "node30:aperiodic"};
  return names;
}

Interval bootstrap_mean(std::span<const std::vector<double>> strata, std::size_t resamples) {
  const auto mean_of = [&strata](auto&& pick) {
    double total = 0;
    for (const auto& stratum : strata) {
      double sum = 0;
      for (std::size_t i = 0; i < stratum.size(); ++i) {
        sum += stratum[pick(stratum.size(), i)];
      }
      total += sum / static_cast<double>(stratum.size());
    }
    return total / static_cast<double>(strata.size());
  };
  Interval interval;
  interval.mean = mean_of([](std::size_t, std::size_t i) { return i; });
  std::mt19937_64 random(20'21);
  std::vector<double> means;
  means.reserve(resamples);
  for (std::size_t r = 0; r < resamples; ++r) {
    means.push_back(mean_of([&random](std::size_t n, std::size_t) { return random() % n; }));
  }
  std::sort(means.begin(), means.end());
  interval.low = means[static_cast<std::size_t>(0.025 * static_cast<double>(resamples))];
  interval.high = means[static_cast<std::size_t>(0.975 * static_cast<double>(resamples)) - 1];
  return interval;
}

Verdict judge(const std::vector<GateRow>& rows, const Gains& gains, std::size_t seeds, double tolerance) {
  Verdict verdict{true, ""};
  const auto refuse = [&verdict](const std::string& why) {
    verdict.passed = false;
    verdict.why += (verdict.why.empty() ? "" : "; ") + why;
  };
  if (seeds < kLeastSeeds) {
    refuse(fmt::format("{} seeds give no bounds, {} would", seeds, kLeastSeeds));
  }
  for (std::size_t arm = 0; arm < kJudges; ++arm) {
    if (spec::standing(gains[arm]) != spec::Standing::kBetter) {
      refuse(fmt::format("the gain over {} may be {:.4f}", kArmNames[arm], gains[arm].low));
    }
  }
  for (const auto& row : rows) {
    for (const Arm arm : {kStrongRule, kIncumbent}) {
      for (const auto& [name, ratio] : {std::pair("p99", row.p99[arm]), std::pair("p50", row.p50[arm])}) {
        if (!spec::not_worse(ratio, tolerance)) {
          refuse(fmt::format("{}: {} may be {:.3f} of {}'s", row.scenario, name, ratio.high, kArmNames[arm]));
        }
      }
    }
  }
  if (verdict.passed) {
    verdict.why = fmt::format(
        "better than every arm on the whole, and in no scenario beyond {:.2f} of "
        "strong rule and incumbent, by bounds",
        tolerance);
  }
  return verdict;
}

Status run_gate(const GateOptions& asked) {
  GateOptions options = asked;
  if (!options.loop_name.empty()) {
    const auto profile = sim::find_loop(options.loop_name);
    if (!profile) {
      return profile.error();
    }
    options.loop = *profile;
  }
  const auto seeds = parse_seeds(options.seeds);
  if (!seeds) {
    return seeds.error();
  }
  std::array<sim::Technique, kArms> arms;
  for (std::size_t arm = 0; arm < kArms; ++arm) {
    const auto found = arm == kCandidate   ? acting_with(options.candidate)
                       : arm == kIncumbent ? acting_with(options.incumbent)
                                           : technique_named(kArmNames[arm], "");
    if (!found) {
      return found.error();
    }
    arms[arm] = *found;
  }
  const auto& names = options.scenarios.empty() ? held_out_scenarios() : options.scenarios;
  std::vector<sim::Scenario> scenarios;
  for (const auto& name : names) {
    auto scenario = sim::load_scenario(name);
    if (!scenario) {
      return scenario.error();
    }
    scenarios.push_back(std::move(*scenario));
  }
  const Runs runs = simulate(scenarios, *seeds, arms, options);
  std::vector<GateRow> rows;
  for (std::size_t i = 0; i < names.size(); ++i) {
    rows.push_back(row_of(names[i], runs[i]));
  }
  Gains gains;
  for (std::size_t arm = 0; arm < kJudges; ++arm) {
    gains[arm] = gain(runs, arm);
  }
  const Verdict verdict = judge(rows, gains, seeds->last - seeds->first + 1, options.tolerance);
  print(rows, gains, verdict);
  if (!options.output.empty()) {
    const std::string text = report(rows, gains, verdict, options).dump(1) + "\n";
    if (Status status = write_file_atomic(options.output, text); !status.ok()) {
      return status;
    }
  }
  return verdict.passed ? ok()
                        : Status(Error::failed("gate: " + options.candidate + " is refused: " + verdict.why));
}

}  // namespace ballast::bench
