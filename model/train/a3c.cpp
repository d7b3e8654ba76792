// SPDX-License-Identifier: Apache-2.0
// Asynchronous advantage actor-critic (Mnih et al. 2016): threads that act in worlds of their own and
// apply their gradients to one global network with shared RMSProp, without waiting for each other.
//
// Each worker explores in its own way (temperature and epsilon of what it samples from, entropy bonus
// of what it learns); what exploration took more often than the policy would is weighed down in the
// loss. Nothing of it is set by hand for long: as in population based training (Jaderberg et al. 2017)
// the worker whose recent episodes returned least takes over the exploration of the best one and
// perturbs it; the learning rate follows the divergence of policies that one update makes (the adaptive
// KL rule of Schulman et al. 2017, section 4, applied to the rate).
#include <algorithm>
#include <atomic>
#include <cmath>
#include <mutex>
#include <thread>

#include "model/train/learner.h"
#include "model/train/loss.h"
#include "model/train/progress.h"

namespace ballast::train {
namespace {

constexpr double kRateFactor = 1.02;         // of the learning rate, an update
constexpr double kRateRange = 10;            // learning rate within initial / 10 .. initial * 10
constexpr double kPerturb = 1.25;            // of exploration that is taken over
constexpr std::size_t kRecent = 20;          // episodes that a worker is judged by
constexpr std::size_t kDivergenceEvery = 4;  // updates between looks at the divergence
constexpr double kDecided = 0.2;             // of the entropy of a uniform policy

struct Way {
  Exploration exploration;
  double entropy_bonus = 0;
};

struct Worker {
  std::unique_ptr<Collector> collector;
  Way way;
  std::vector<double> recent;  // returns of its last episodes
  std::uint64_t updates = 0;
  env::Random random{0};
  std::vector<float> theta, before, gradient;
  Batch batch;
  LossScratch scratch;
};

double mean_of(const std::vector<double>& values) {
  double sum = 0;
  for (const double value : values) {
    sum += value;
  }
  return values.empty() ? 0 : sum / static_cast<double>(values.size());
}

class A3c final : public Learner {
 public:
  explicit A3c(const Job& job)
      : job_(job),
        spec_(job.make_environment()->spec()),
        network_({spec_.observation, job.hyper.hidden, spec_.actions, true, job.hyper.shared_encoder}),
        theta_(network_.initial(env::Random::derive(job.seed, 2), job.hyper.shared_encoder ? 0.0 : 0.1)),
        optimiser_(job.hyper.optimiser, network_.parameters()),
        rate_(job.hyper.learning_rate),
        workers_(std::max<std::size_t>(1, job.hyper.workers)) {
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      workers_[i].way = first_way(i);
    }
    begin_episodes(job.seed);
  }

  Status advance(std::uint64_t steps) override {
    if (workers_.size() == 1) {
      return work(0, steps);
    }
    {
      std::vector<std::jthread> threads;
      for (std::size_t i = 0; i < workers_.size(); ++i) {
        threads.emplace_back([this, i, steps] {
          if (const Status status = work(i, steps); !status.ok()) {
            const std::lock_guard lock(mutex_);
            failure_ = status;
            failed_ = true;
          }
        });
      }
    }
    return failure_;
  }
  std::uint64_t steps() const override { return steps_; }
  std::size_t act(std::span<const float> observation) const override {
    return greedy(network_, theta_, observation, acting_);
  }
  LearnerState state() const override {
    std::vector<double> extra = {rate_};
    for (const auto& worker : workers_) {
      extra.insert(extra.end(), {worker.way.exploration.temperature, worker.way.exploration.epsilon,
                                 worker.way.entropy_bonus});
    }
    return {theta_, optimiser_.state(), steps_, std::move(extra)};
  }
  Status restore(LearnerState state) override {
    if (Status status = check_state(state, network_.parameters(), optimiser_.state()); !status.ok()) {
      return status;
    }
    if (state.extra.size() != 1 + 3 * workers_.size()) {
      return Error::failed("the checkpoint is of another number of workers than " +
                           std::to_string(workers_.size()));
    }
    theta_ = std::move(state.theta);
    optimiser_.restore(std::move(state.optimiser));
    steps_ = state.steps;
    rate_ = state.extra[0];
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      const double* way = state.extra.data() + 1 + 3 * i;
      workers_[i].way = {{way[0], way[1]}, way[2]};
    }
    begin_episodes(env::Random::derive(job_.seed, 1000 + steps_));
    return ok();
  }
  Progress take_progress() override {
    double bonus = 0;
    for (const auto& worker : workers_) {
      bonus += worker.way.entropy_bonus / static_cast<double>(workers_.size());
    }
    return meter_.take(rate_, bonus);
  }
  const Network* network() const override { return &network_; }

 private:
  /// From the policy itself to ways that are ever bolder.
  Way first_way(std::size_t worker) const {
    const Hyper& h = job_.hyper;
    Way way{{}, h.entropy_bonus};
    if (!h.one_exploration && workers_.size() > 1) {
      const double place = static_cast<double>(worker) / static_cast<double>(workers_.size() - 1);
      way.exploration.temperature = 1 + 0.5 * place;
      way.exploration.epsilon = 0.05 * place;
      way.entropy_bonus = h.entropy_bonus * std::pow(4.0, place - 0.5);
    }
    return way;
  }

  void begin_episodes(std::uint64_t seed) {
    for (std::size_t i = 0; i < workers_.size(); ++i) {
      Environments environments;
      for (std::size_t e = 0; e < std::max<std::size_t>(1, job_.hyper.environments); ++e) {
        environments.push_back(job_.make_environment());
      }
      Worker& worker = workers_[i];
      worker.collector =
          std::make_unique<Collector>(std::move(environments), env::Random::derive(seed, 10 + i));
      worker.random = env::Random(env::Random::derive(seed, 500 + i));
      worker.gradient.resize(network_.parameters());
      worker.recent.clear();
    }
  }

  Status work(std::size_t index, std::uint64_t steps) {
    Worker& worker = workers_[index];
    const Hyper& h = job_.hyper;
    while (steps_ < steps && !failed_) {
      Way way;
      {
        const std::lock_guard lock(mutex_);
        worker.theta = theta_;
        way = worker.way;
      }
      worker.collector->collect(network_, worker.theta, h.horizon, way.exploration, {h.gamma, h.lambda},
                                worker.batch);
      LossOptions loss;
      loss.value_coefficient = h.value_coefficient;
      loss.entropy_bonus = way.entropy_bonus;
      std::fill(worker.gradient.begin(), worker.gradient.end(), 0.0F);
      const LossStatistics statistics =
          actor_critic_loss(network_, worker.theta, worker.batch, loss, worker.scratch, worker.gradient);
      if (Status status = apply(worker, index, statistics); !status.ok()) {
        return status;
      }
    }
    return ok();
  }

  Status apply(Worker& worker, std::size_t index, const LossStatistics& statistics) {
    const bool look = job_.hyper.adapt && ++worker.updates % kDivergenceEvery == 0;
    {
      const std::lock_guard lock(mutex_);
      if (look) {
        worker.before = theta_;
      }
      const double left = 1 - static_cast<double>(steps_) / std::max(1.0, static_cast<double>(job_.steps));
      const double anneal = std::max(0.0, left) * (1 - floor_) + floor_;
      if (!std::isfinite(statistics.loss) ||
          !std::isfinite(optimiser_.step(theta_, worker.gradient, rate_ * anneal))) {
        return not_finite(steps_, index);
      }
      steps_ += worker.batch.steps();
      meter_.add(statistics);
      judge(worker);
      if (look) {
        worker.theta = theta_;
      }
    }
    if (look) {
      follow(divergence(network_, worker.before, worker.theta, worker.batch, worker.scratch.actor),
             statistics.entropy);
    }
    return ok();
  }

  /// REQUIRES mutex_.
  void judge(Worker& worker) {
    const std::vector<double> ended = worker.collector->take_returns();
    meter_.returns(ended);
    worker.recent.insert(worker.recent.end(), ended.begin(), ended.end());
    if (!job_.hyper.adapt || job_.hyper.one_exploration || workers_.size() < 2 || ended.empty() ||
        worker.recent.size() < kRecent) {
      return;
    }
    const Worker* best = nullptr;
    bool worst = true;
    const double own = mean_of(worker.recent);
    for (const Worker& other : workers_) {
      if (other.recent.empty()) {
        return;
      }
      const double mean = mean_of(other.recent);
      worst = worst && mean >= own;
      best = best == nullptr || mean > mean_of(best->recent) ? &other : best;
    }
    worker.recent.clear();
    if (!worst || best == &worker) {
      return;
    }
    const auto perturb = [&worker](double value) {
      return worker.random.uniform() < 0.5 ? value * kPerturb : value / kPerturb;
    };
    worker.way.exploration.temperature = std::clamp(perturb(best->way.exploration.temperature), 0.5, 3.0);
    worker.way.exploration.epsilon = std::clamp(perturb(best->way.exploration.epsilon + 1e-4), 0.0, 0.3);
    worker.way.entropy_bonus = std::clamp(perturb(best->way.entropy_bonus), 0.0, 0.1);
  }

  /// A policy that has all but decided diverges little at any rate: that is no reason for a higher one.
  void follow(double divergence_of_update, double entropy) {
    if (!std::isfinite(divergence_of_update)) {
      return;  // the loss will say so, with step and worker
    }
    const std::lock_guard lock(mutex_);
    const double target = job_.hyper.target_divergence;
    const bool decided = entropy < kDecided * std::log(static_cast<double>(spec_.actions));
    if (divergence_of_update > 2 * target) {
      rate_ /= kRateFactor;
    } else if (divergence_of_update < target / 2 && !decided) {
      rate_ *= kRateFactor;
    }
    rate_ = std::clamp(rate_, job_.hyper.learning_rate / kRateRange, job_.hyper.learning_rate * kRateRange);
  }

  Job job_;
  env::Spec spec_;
  Network network_;
  std::mutex mutex_;  // guards all below while workers run
  std::vector<float> theta_;
  Optimiser optimiser_;
  double rate_;
  double floor_ = 0.05;  // of the learning rate at the last step, relative to what it adapted to
  std::atomic<std::uint64_t> steps_{0};
  std::atomic<bool> failed_{false};
  Status failure_ = ok();
  std::vector<Worker> workers_;
  Meter meter_;
  mutable Cache acting_;
};

Hyper for_a3c(const std::string& environment) {
  Hyper h;
  h.optimiser.rule = Rule::kRmsProp;
  h.learning_rate = 1e-3;
  h.environments = 1;
  h.horizon = 20;
  h.lambda = 0.95;
  h.entropy_bonus = environment == "queue" ? 0.001 : 0.01;
  h.workers = 4;
  h.optimiser.clip_norm = 0.5;
  return h;
}

}  // namespace

extern const LearnerKind kA3c;
const LearnerKind kA3c{
    "a3c", [](const Job& job) -> std::unique_ptr<Learner> { return std::make_unique<A3c>(job); }, for_a3c};

}  // namespace ballast::train
