// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/matrix.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "model/sim/technique.h"
#include "tools/bench/sim_command.h"

namespace ballast::bench {
namespace {

constexpr double kNeverWorse = 1.01;
constexpr double kNearOptimum = 1.10;
constexpr double kLoopDelays = 10;
constexpr double kLastingS = 10;

const std::vector<std::string> kIstioOffers = {"least_request", "round_robin", "random",
                                               "ring_hash",     "maglev",      "slow_start"};
const std::vector<std::string> kOthers = {"peak_ewma", "prequal",   "c3",   "l3",
                                          "cswrr",     "cswrr_app", "lalb", "least_request_full_scan"};

using Field = double SeedResult::*;

std::vector<double> column(const CellResult& result, Field field) {
  std::vector<double> values;
  for (const auto& seed : result) {
    values.push_back(seed.*field);
  }
  return values;
}

Estimate ratio(const CellResult& a, const CellResult& b, Field field) {
  return paired_ratio(column(a, field), column(b, field));
}

std::string text(const Estimate& i, const char* format = "{:.4g},{:.4g},{:.4g}") {
  return fmt::format(fmt::runtime(format), i.value, i.low, i.high);
}

class Judge {
 public:
  Judge(const MatrixOptions& options, const std::map<Cell, CellResult>& results)
      : options_(options), results_(results) {}

  Result<Matrix> all() {
    for (const auto& [cell, result] : results_) {
      add_row(cell, result);
      if (std::find(options_.candidates.begin(), options_.candidates.end(), cell.policy) !=
          options_.candidates.end()) {
        if (Status status = judge(cell, result); !status.ok()) {
          return status.error();
        }
      }
    }
    return std::move(matrix_);
  }

 private:
  const CellResult* baseline(const Cell& cell, const std::string& policy) const {
    const auto found = results_.find({cell.scenario, policy, 0});
    return found == results_.end() ? nullptr : &found->second;
  }

  void add_row(const Cell& cell, const CellResult& r) {
    MatrixRow row{.cell = cell};
    row.p50_ms = bootstrap_mean(column(r, &SeedResult::p50_ms));
    row.p99_ms = bootstrap_mean(column(r, &SeedResult::p99_ms));
    row.p999_ms = bootstrap_mean(column(r, &SeedResult::p999_ms));
    row.goodput_rps = bootstrap_mean(column(r, &SeedResult::goodput_rps));
    row.churn = bootstrap_mean(column(r, &SeedResult::churn));
    if (const CellResult* istio = baseline(cell, kIstioDefault)) {
      row.p50_ratio = ratio(r, *istio, &SeedResult::p50_ms);
      row.p99_ratio = ratio(r, *istio, &SeedResult::p99_ms);
      row.p999_ratio = ratio(r, *istio, &SeedResult::p999_ms);
      row.goodput_ratio = ratio(r, *istio, &SeedResult::goodput_rps);
    }
    matrix_.rows.push_back(std::move(row));
  }

  Comparison compare(const Cell& cell, const CellResult& r, const std::string& policy,
                     const CellResult& other, double deadline_ms) {
    Comparison c{.candidate = cell, .baseline = policy};
    c.p50 = ratio(r, other, &SeedResult::p50_ms);
    c.p99 = ratio(r, other, &SeedResult::p99_ms);
    c.goodput = ratio(r, other, &SeedResult::goodput_rps);
    const auto at_deadline = [&](const CellResult& result) {
      return std::all_of(result.begin(), result.end(),
                         [&](const SeedResult& seed) { return seed.p99_ms >= 0.999 * deadline_ms; });
    };
    c.censored = deadline_ms > 0 && at_deadline(r) && at_deadline(other);
    return c;
  }

  Status judge(const Cell& cell, const CellResult& result) {
    const auto scenario = cell_scenario(cell.scenario, options_.cells);
    if (!scenario) {
      return scenario.error();
    }
    const double deadline_ms = scenario->deadline_s * 1000;
    std::map<std::string, Comparison> by_baseline;
    for (const auto& policy : sim::techniques()) {
      const CellResult* other = has_loop(policy.name) ? nullptr : baseline(cell, policy.name);
      if (other != nullptr) {
        const Comparison c = compare(cell, result, policy.name, *other, deadline_ms);
        by_baseline[policy.name] = c;
        matrix_.comparisons.push_back(c);
      }
    }
    const double last = differences_last_s(*scenario);
    const double tick = scenario->telemetry.tick_s > 0 ? scenario->telemetry.tick_s : cell.tick_s;
    const double delay = tick + sim::LoopOptions{}.apply_delay_s + scenario->telemetry.delay_s;
    never_worse(cell, by_baseline);
    better(cell, 2, kIstioOffers, by_baseline, last >= kLoopDelays * delay,
           fmt::format("differences last {:.3g} s, ten delays are {:.3g} s", last, kLoopDelays * delay));
    better(cell, 3, kOthers, by_baseline, last >= kLastingS, fmt::format("differences last {:.3g} s", last));
    near_optimum(cell, by_baseline, has_static_pods(*scenario));
    return ok();
  }

  void never_worse(const Cell& cell, const std::map<std::string, Comparison>& all) {
    const auto found = all.find(kIstioDefault);
    if (found == all.end()) {
      return;
    }
    const Comparison& c = found->second;
    add(cell, 1, c.p99.value <= kNeverWorse && (!c.censored || c.goodput.value >= 1 / kNeverWorse), c);
  }

  void better(const Cell& cell, int target, const std::vector<std::string>& than,
              const std::map<std::string, Comparison>& all, bool asked, const std::string& because) {
    if (!asked) {
      matrix_.judgements.push_back({cell, target, Ruling::kNotAsked, because});
      return;
    }
    // How far a comparison is from being lost: above 0 is lost.
    const auto loss = [](const Comparison& c) {
      return c.censored ? std::log(1 / c.goodput.value) : std::log(c.p99.value);
    };
    const Comparison* worst = nullptr;
    for (const auto& policy : than) {
      const auto found = all.find(policy);
      if (found != all.end() && (worst == nullptr || loss(found->second) > loss(*worst))) {
        worst = &found->second;
      }
    }
    if (worst != nullptr) {
      add(cell, target, loss(*worst) < 0, *worst);
    }
  }

  void near_optimum(const Cell& cell, const std::map<std::string, Comparison>& all, bool asked) {
    if (!asked) {
      matrix_.judgements.push_back({cell, 4, Ruling::kNotAsked, "no static differences"});
      return;
    }
    if (const auto found = all.find("oracle_static"); found != all.end()) {
      add(cell, 4, found->second.p99.value <= kNearOptimum, found->second);
    }
  }

  void add(const Cell& cell, int target, bool pass, const Comparison& c) {
    std::string why =
        fmt::format("{} p99 {:.3f} [{:.3f}, {:.3f}]", c.baseline, c.p99.value, c.p99.low, c.p99.high);
    if (c.censored) {
      why += fmt::format(" (both the deadline; goodput {:.3f} [{:.3f}, {:.3f}])", c.goodput.value,
                         c.goodput.low, c.goodput.high);
    }
    matrix_.judgements.push_back(
        {cell, target, pass ? Ruling::kPass : Ruling::kMiss, why, c.p99.value, c.p99.high});
  }

  const MatrixOptions& options_;
  const std::map<Cell, CellResult>& results_;
  Matrix matrix_;
};

Result<std::vector<std::string>> all_scenarios() {
  std::vector<std::string> names;
  for (const auto& scenario : sim::builtin_scenarios()) {
    names.push_back(scenario.name);
    const auto variants = sim::scenario_variants(scenario.text, scenario.file);
    if (!variants) {
      return variants.error();
    }
    for (const auto& variant : *variants) {
      names.push_back(scenario.name + ":" + variant);
    }
  }
  return names;
}

}  // namespace

const char* word(Ruling verdict) {
  return verdict == Ruling::kPass ? "pass" : verdict == Ruling::kMiss ? "MISS" : "not asked";
}

Result<MatrixOptions> completed(MatrixOptions o) {
  if (o.scenarios.empty()) {
    const auto all = all_scenarios();
    if (!all) {
      return all.error();
    }
    o.scenarios = *all;
  }
  for (const auto& scenario : o.scenarios) {
    if (const auto found = sim::load_scenario(scenario); !found) {
      return found.error();
    }
  }
  if (o.policies.empty()) {
    for (const auto& policy : sim::techniques()) {
      o.policies.push_back(policy.name);
    }
  }
  if (o.candidates.empty()) {
    o.candidates = {"prior", "prior_square_root", "learned", "queue_rule"};
  }
  for (const auto* names : {&o.policies, &o.candidates}) {
    for (const auto& name : *names) {
      if (const auto found = technique_named(name, o.cells.parameters); !found) {
        return found.error();
      }
    }
  }
  for (const auto& name : o.candidates) {
    if (std::find(o.policies.begin(), o.policies.end(), name) == o.policies.end()) {
      o.policies.push_back(name);
    }
  }
  if (o.ticks.empty()) {
    o.ticks = {0.25, 0.5, 1, 2};
  }
  return o;
}

Result<Matrix> make_matrix(const MatrixOptions& options, const Progress& progress) {
  std::vector<Cell> cells;
  for (const auto& scenario : options.scenarios) {
    for (const auto& policy : options.policies) {
      if (!has_loop(policy)) {
        cells.push_back({scenario, policy, 0});
        continue;
      }
      const auto loaded = sim::load_scenario(scenario);
      const bool fixed = loaded && loaded->telemetry.tick_s > 0;
      for (const double tick : fixed ? std::vector<double>{loaded->telemetry.tick_s} : options.ticks) {
        cells.push_back({scenario, policy, tick});
      }
    }
  }
  // What depends on parameters comes last: a stopped run then goes on with others at little cost.
  std::stable_partition(cells.begin(), cells.end(),
                        [](const Cell& cell) { return cell.policy != "learned"; });
  const auto results = run_cells(cells, options.cells, progress);
  if (!results) {
    return results.error();
  }
  std::map<Cell, CellResult> by_cell;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    by_cell[cells[i]] = (*results)[i];
  }
  return Judge(options, by_cell).all();
}

std::string rows_csv(const Matrix& matrix) {
  std::string out = "scenario,policy,tick_s";
  for (const char* name : {"p50_ms", "p99_ms", "p999_ms", "goodput_rps", "weight_changes_per_min",
                           "p50_ratio", "p99_ratio", "p999_ratio", "goodput_ratio"}) {
    out += fmt::format(",{0},{0}_low,{0}_high", name);
  }
  out += "\n";
  for (const auto& r : matrix.rows) {
    out += fmt::format("{},{},{}", r.cell.scenario, r.cell.policy, r.cell.tick_s);
    for (const auto* i : {&r.p50_ms, &r.p99_ms, &r.p999_ms, &r.goodput_rps, &r.churn, &r.p50_ratio,
                          &r.p99_ratio, &r.p999_ratio, &r.goodput_ratio}) {
      out += "," + text(*i);
    }
    out += "\n";
  }
  return out;
}

std::string comparisons_csv(const Matrix& matrix) {
  std::string out =
      "scenario,candidate,tick_s,baseline,p50_ratio,p50_low,p50_high,p99_ratio,p99_low,p99_high,"
      "goodput_ratio,goodput_low,goodput_high,both_at_deadline\n";
  for (const auto& c : matrix.comparisons) {
    out +=
        fmt::format("{},{},{},{},{},{},{},{}\n", c.candidate.scenario, c.candidate.policy, c.candidate.tick_s,
                    c.baseline, text(c.p50), text(c.p99), text(c.goodput), c.censored ? 1 : 0);
  }
  return out;
}

std::string judgements_csv(const Matrix& matrix) {
  std::string out = "scenario,candidate,tick_s,target,verdict,why\n";
  for (const auto& j : matrix.judgements) {
    out += fmt::format("{},{},{},{},{},\"{}\"\n", j.candidate.scenario, j.candidate.policy,
                       j.candidate.tick_s, j.target, word(j.verdict), j.why);
  }
  return out;
}

std::string summary(const Matrix& matrix) {
  std::string out;
  std::map<std::tuple<std::string, double, int>, std::array<int, 3>> counts;
  for (const auto& j : matrix.judgements) {
    ++counts[{j.candidate.policy, j.candidate.tick_s, j.target}][static_cast<std::size_t>(j.verdict)];
    if (j.verdict == Ruling::kMiss) {
      out += fmt::format("MISS ({}) {} at {} s in {}: {}\n", j.target, j.candidate.policy, j.candidate.tick_s,
                         j.candidate.scenario, j.why);
    }
  }
  for (const auto& [key, count] : counts) {
    out += fmt::format("{} at {} s, target ({}): {} pass, {} miss, {} not asked\n", std::get<0>(key),
                       std::get<1>(key), std::get<2>(key), count[0], count[1], count[2]);
  }
  return out;
}

}  // namespace ballast::bench
