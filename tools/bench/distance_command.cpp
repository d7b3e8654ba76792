// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/distance_command.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <deque>
#include <iostream>
#include <limits>
#include <map>
#include <memory>
#include <thread>
#include <tuple>

#include "agent/base/file.h"
#include "model/env/registry.h"
#include "model/sync/global_network.h"
#include "model/train/learner.h"
#include "model/train/loss.h"
#include "tools/bench/statistics.h"

namespace ballast::bench {

namespace {

constexpr double kSolved = 475;  // CartPole-v1's own threshold
constexpr std::size_t kRecent = 20;

void spoil(const std::string& poison, std::vector<float>& values, std::vector<float>& kept) {
  if (poison == "nan") {
    values[values.size() / 2] = std::numeric_limits<float>::quiet_NaN();
  } else if (poison == "scaled" || poison == "flipped") {
    const float by = poison == "scaled" ? 1e9F : -1.0F;
    std::for_each(values.begin(), values.end(), [by](float& x) { x *= by; });
  } else if (poison == "replayed") {  // its first gradient again and again, as if taken now
    kept = kept.empty() ? values : kept;
    values = kept;
  }
}

double norm_of(const std::vector<float>& values) {
  double sum = 0;
  for (const float x : values) {
    sum += static_cast<double>(x) * static_cast<double>(x);
  }
  return std::sqrt(sum);
}

struct Worker {
  std::string id;
  std::unique_ptr<train::Collector> collector;
  std::vector<float> kept;  // of one that replays
};

std::unique_ptr<sync::GlobalNetwork> make_network(const DistanceRun& run, const train::Hyper& hyper,
                                                  std::vector<float> theta) {
  sync::GlobalOptions options;
  options.rms_prop.learning_rate = hyper.learning_rate;
  options.clip_norm = hyper.optimiser.clip_norm;
  options.robust = run.rules;
  options.staleness_limit = 4096;  // what the rules drop is what is judged
  options.parameters = theta.size();
  options.workers.pushes_per_s = 0;
  options.workers.alive = std::chrono::hours(1);
  sync::GlobalState state;
  state.parameters.epoch = 1;
  state.mean_square.assign(theta.size(), 0.0F);
  state.parameters.theta = std::move(theta);
  auto made = sync::GlobalNetwork::create(std::move(state), options);
  return made ? std::move(*made) : nullptr;
}

}  // namespace

DistanceResult learn_at_distance(const DistanceRun& run, std::uint64_t steps) {
  const auto make = *env::find_environment("cartpole");
  const train::Hyper hyper = train::tuned("a3c", "cartpole");
  const auto world = make();
  const env::Spec& spec = world->spec();
  const train::Network network({spec.observation, hyper.hidden, spec.actions, true, false});
  const auto global = make_network(run, hyper, network.initial(env::Random::derive(run.seed, 2), 0.1));
  std::vector<Worker> workers(run.workers);
  for (std::size_t i = 0; i < workers.size(); ++i) {
    train::Environments environments;
    for (std::size_t e = 0; e < hyper.environments; ++e) {
      environments.push_back(make());
    }
    workers[i].id = fmt::format("worker-{}", i);
    workers[i].collector =
        std::make_unique<train::Collector>(std::move(environments), env::Random::derive(run.seed, 10 + i));
  }
  DistanceResult out;
  std::deque<sync::GlobalState> history = {global->state()};  // the last versions, the newest last
  std::deque<double> returns;
  std::vector<float> gradient(network.parameters());
  train::Batch batch;
  train::LossScratch scratch;
  std::uint64_t done = 0;
  double late = 0;
  std::size_t late_count = 0;
  for (std::size_t turn = 0; done < steps; ++turn) {
    Worker& worker = workers[turn % workers.size()];
    const sync::GlobalState& acted = history.front();
    worker.collector->collect(network, acted.parameters.theta, hyper.horizon, {}, {hyper.gamma, hyper.lambda},
                              batch);
    std::fill(gradient.begin(), gradient.end(), 0.0F);
    actor_critic_loss(network, acted.parameters.theta, batch,
                      {.value_coefficient = hyper.value_coefficient, .entropy_bonus = hyper.entropy_bonus},
                      scratch, gradient);
    done += batch.steps();
    const bool bad = run.poison != "none" && turn % workers.size() % 10 == 0;
    std::vector<float> sent = gradient;
    if (bad) {
      spoil(run.poison, sent, worker.kept);
    } else {
      for (const double value : worker.collector->take_returns()) {
        returns.push_back(value);
        if (5 * done > 4 * steps) {
          late += value;
          ++late_count;
        }
      }
    }
    const double norm = norm_of(sent);
    global->push(worker.id, {{1, acted.parameters.version}, 20, norm, std::move(sent)});
    if (global->version().version != history.back().parameters.version) {
      history.push_back(global->state());
      while (history.size() > run.staleness + 1) {
        history.pop_front();
      }
    }
    while (returns.size() > kRecent) {
      returns.pop_front();
    }
    double sum = 0;
    for (const double value : returns) {
      sum += value;
    }
    if (out.solved_at == 0 && returns.size() == kRecent && sum / static_cast<double>(kRecent) >= kSolved) {
      out.solved_at = done;
    }
  }
  const auto stats = global->stats();
  out.final_return = late_count > 0 ? late / static_cast<double>(late_count) : 0;
  out.versions = stats.version.version;
  out.accepted = stats.verdicts[0];
  for (std::size_t i = 1; i < stats.verdicts.size(); ++i) {
    out.rejected += stats.verdicts[i];
  }
  out.quarantines = stats.quarantines;
  return out;
}

namespace {

std::vector<DistanceRun> plan(const DistanceOptions& options) {
  std::vector<DistanceRun> runs;
  for (std::uint64_t seed = 1; seed <= options.seeds; ++seed) {
    for (const bool rules : {true, false}) {
      for (const std::size_t workers : options.workers) {
        for (const std::size_t staleness : options.staleness) {
          runs.push_back({staleness, workers, "none", rules, seed});
        }
      }
      for (const char* poison : {"none", "nan", "scaled", "flipped", "replayed"}) {
        if (options.poison) {
          // As far from the network as workers are who never wait for each other.
          runs.push_back({options.poison_workers - 1, options.poison_workers, poison, rules, seed});
        }
      }
    }
  }
  return runs;
}

std::string table(const std::vector<DistanceRun>& runs, const std::vector<DistanceResult>& results) {
  using Row = std::tuple<std::string, bool, std::size_t, std::size_t>;
  std::map<Row, std::vector<std::size_t>> rows;
  for (std::size_t i = 0; i < runs.size(); ++i) {
    rows[{runs[i].poison, !runs[i].rules, runs[i].workers, runs[i].staleness}].push_back(i);
  }
  std::string out = fmt::format("{:<10} {:<6} {:>7} {:>9} {:>8} {:>24} {:>12}\n", "poison", "rules",
                                "workers", "staleness", "solved", "final return (95 %)", "steps");
  for (const auto& [row, indices] : rows) {
    std::vector<double> returns;
    std::vector<double> at;
    for (const std::size_t i : indices) {
      returns.push_back(results[i].final_return);
      if (results[i].solved_at > 0) {
        at.push_back(static_cast<double>(results[i].solved_at));
      }
    }
    const Estimate e = bootstrap_mean(returns);
    std::sort(at.begin(), at.end());
    out += fmt::format("{:<10} {:<6} {:>7} {:>9} {:>8} {:>24} {:>12}\n", std::get<0>(row),
                       std::get<1>(row) ? "off" : "on", std::get<2>(row), std::get<3>(row),
                       fmt::format("{}/{}", at.size(), indices.size()),
                       fmt::format("{:.0f} ({:.0f} to {:.0f})", e.value, e.low, e.high),
                       at.empty() ? "-" : fmt::format("{:.0f}", at[at.size() / 2]));
  }
  return out;
}

}  // namespace

Status run_distance(const DistanceOptions& options) {
  spdlog::set_level(spdlog::level::err);  // a worker shut out is told each time
  const std::vector<DistanceRun> runs = plan(options);
  std::vector<DistanceResult> results(runs.size());
  std::atomic<std::size_t> next{0};
  {
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < options.jobs; ++t) {
      threads.emplace_back([&] {
        for (std::size_t i = next++; i < runs.size(); i = next++) {
          results[i] = learn_at_distance(runs[i], options.steps);
        }
      });
    }
  }
  std::string csv =
      "poison,rules,workers,staleness,seed,solved_at,final_return,versions,accepted,rejected,quarantines\n";
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const DistanceRun& run = runs[i];
    const DistanceResult& r = results[i];
    csv += fmt::format("{},{},{},{},{},{},{:.1f},{},{},{},{}\n", run.poison, run.rules ? "on" : "off",
                       run.workers, run.staleness, run.seed, r.solved_at, r.final_return, r.versions,
                       r.accepted, r.rejected, r.quarantines);
  }
  std::cout << table(runs, results);
  return write_file_atomic(options.output, csv);
}

}  // namespace ballast::bench
