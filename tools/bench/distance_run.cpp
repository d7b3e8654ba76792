// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/distance_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <deque>
#include <limits>
#include <memory>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "model/env/registry.h"
#include "model/sync/network/global_network.h"
#include "model/train/learner.h"
#include "model/train/loss.h"

namespace ballast::bench {

namespace {

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

std::unique_ptr<sync::GlobalNetwork> make_network(const DistanceRun& run, const train::Hyper& hyper,
                                                  std::vector<float> theta) {
  sync::GlobalOptions options;
  options.rms_prop.learning_rate = run.learning_rate > 0 ? run.learning_rate : hyper.learning_rate;
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

struct Worker {
  std::string id;
  bool bad = false;
  std::unique_ptr<train::Collector> collector;
  train::Batch batch;
  train::LossScratch scratch;
  std::vector<float> kept;  // of one that replays
};

// What the workers' episodes returned.
class Score {
 public:
  Score(std::uint64_t steps, double solved) : steps_(steps), solved_(solved) {}

  void add(const std::vector<double>& returns, std::uint64_t done) {
    const auto last = DistanceResult::kPoints - 1;
    const std::size_t point = std::min<std::size_t>(
        last, (done - 1) * DistanceResult::kPoints / std::max<std::uint64_t>(1, steps_));
    for (const double value : returns) {
      recent_.push_back(value);
      sums_[point] += value;
      ++counts_[point];
      if (recent_.size() > kRecent) {
        recent_.pop_front();
      }
    }
    double sum = 0;
    for (const double value : recent_) {
      sum += value;
    }
    if (solved_at_ == 0 && solved_ > 0 && recent_.size() == kRecent &&
        sum / static_cast<double>(kRecent) >= solved_) {
      solved_at_ = done;
    }
  }
  std::uint64_t solved_at() const { return solved_at_; }
  void tell(DistanceResult* out) const {
    constexpr std::size_t kLate = DistanceResult::kPoints / 5;
    double late = 0;
    double count = 0;
    for (std::size_t i = 0; i < sums_.size(); ++i) {
      out->curve[i] = counts_[i] > 0 ? sums_[i] / counts_[i] : std::numeric_limits<double>::quiet_NaN();
      late += i + kLate >= sums_.size() ? sums_[i] : 0;
      count += i + kLate >= sums_.size() ? counts_[i] : 0;
    }
    out->solved_at = solved_at_;
    out->final_return = count > 0 ? late / count : 0;
  }

 private:
  std::uint64_t steps_;
  double solved_;
  std::deque<double> recent_;
  std::array<double, DistanceResult::kPoints> sums_{}, counts_{};
  std::uint64_t solved_at_ = 0;
};

class Experiment {
 public:
  Experiment(const DistanceRun& run, std::uint64_t steps)
      : run_(run),
        steps_(steps),
        hyper_(train::tuned("a3c", run.environment)),
        make_(*env::find_environment(run.environment)),
        spec_(make_()->spec()),
        network_({spec_.observation, hyper_.hidden, spec_.actions, true, hyper_.shared_encoder}),
        global_(make_network(
            run, hyper_,
            network_.initial(env::Random::derive(run.seed, 2), hyper_.shared_encoder ? 0.0 : 0.1))),
        workers_(run.workers),
        score_(steps, spec_.solved) {
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      train::Environments environments;
      for (std::size_t e = 0; e < hyper_.environments; ++e) {
        environments.push_back(make_());
      }
      workers_[i].id = fmt::format("worker-{}", i);
      workers_[i].bad = run.poison != "none" && i % 10 == 0;
      workers_[i].collector =
          std::make_unique<train::Collector>(std::move(environments), env::Random::derive(run.seed, 10 + i));
    }
  }

  DistanceResult in_turn() {
    std::deque<policy::Parameters> history = {global_->state().parameters};  // the newest last
    std::uint64_t done = 0;
    for (std::size_t turn = 0; done < steps_; ++turn) {
      Worker& worker = workers_[turn % workers_.size()];
      done += act_and_push(worker, history.front());
      if (!worker.bad) {
        score_.add(worker.collector->take_returns(), done);
      }
      if (global_->version().version != history.back().version) {
        history.push_back(global_->state().parameters);
        while (history.size() > run_.staleness + 1) {
          history.pop_front();
        }
      }
    }
    return result();
  }

  DistanceResult in_threads() {
    const auto began = std::chrono::steady_clock::now();
    std::mutex mutex;  // of score_ and
    double seconds = 0;
    std::atomic<std::uint64_t> done{0};
    std::atomic<bool> solved{false};
    const auto work = [&](Worker& worker) {
      while (done < steps_ && !solved) {
        const std::uint64_t taken = act_and_push(worker, global_->state().parameters);
        const std::uint64_t now = done += taken;
        const std::lock_guard lock(mutex);
        if (!worker.bad) {
          score_.add(worker.collector->take_returns(), now);
        }
        if (score_.solved_at() > 0 && !solved.exchange(true)) {
          seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
        }
      }
    };
    {
      std::vector<std::jthread> threads;
      for (Worker& worker : workers_) {
        threads.emplace_back([&work, &worker] { work(worker); });
      }
    }
    DistanceResult out = result();
    out.seconds = seconds;
    return out;
  }

 private:
  // Returns the steps that were taken.
  std::uint64_t act_and_push(Worker& worker, const policy::Parameters& acted) {
    worker.collector->collect(network_, acted.theta, hyper_.horizon, {}, {hyper_.gamma, hyper_.lambda},
                              worker.batch);
    std::vector<float> gradient(network_.parameters(), 0.0F);
    actor_critic_loss(network_, acted.theta, worker.batch,
                      {.value_coefficient = hyper_.value_coefficient, .entropy_bonus = hyper_.entropy_bonus},
                      worker.scratch, gradient);
    if (worker.bad) {
      spoil(run_.poison, gradient, worker.kept);
    }
    const double norm = norm_of(gradient);
    global_->push(worker.id, {{1, acted.version}, 20, norm, std::move(gradient)});
    return worker.batch.steps();
  }

  DistanceResult result() const {
    DistanceResult out;
    score_.tell(&out);
    const auto stats = global_->stats();
    out.versions = stats.version.version;
    out.accepted = stats.verdicts[0];
    for (std::size_t i = 1; i < stats.verdicts.size(); ++i) {
      out.rejected += stats.verdicts[i];
    }
    out.quarantines = stats.quarantines;
    return out;
  }

  const DistanceRun& run_;
  const std::uint64_t steps_;
  const train::Hyper hyper_;
  const train::MakeEnvironment make_;
  const env::Spec spec_;
  const train::Network network_;
  const std::unique_ptr<sync::GlobalNetwork> global_;
  std::vector<Worker> workers_;
  Score score_;
};

}  // namespace

DistanceResult learn_at_distance(const DistanceRun& run, std::uint64_t steps) {
  Experiment experiment(run, steps);
  return run.threads ? experiment.in_threads() : experiment.in_turn();
}

}  // namespace ballast::bench
