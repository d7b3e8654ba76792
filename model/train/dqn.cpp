// SPDX-License-Identifier: Apache-2.0
// Deep Q-learning (Mnih et al. 2015) with a replay memory and a target network, double (van Hasselt
// et al. 2016) unless asked otherwise. Where several agents share a policy and a reward, each is a
// learner of its own with the same network (independent Q-learning).
#include <algorithm>
#include <cmath>

#include "model/train/learner.h"
#include "model/train/loss.h"
#include "model/train/progress.h"

namespace ballast::train {
namespace {

constexpr std::size_t kMinibatch = 64;

/// A ring of transitions.
struct Replay {
  std::size_t capacity = 0;
  std::size_t width = 0;
  std::size_t next = 0;
  std::size_t size = 0;
  std::vector<float> before, after, rewards;
  std::vector<std::uint8_t> actions, ended;

  void add(std::span<const float> observation, std::size_t action, double reward,
           std::span<const float> next_observation, bool terminated) {
    if (actions.size() < capacity && next == actions.size()) {
      before.resize(before.size() + width);
      after.resize(after.size() + width);
      rewards.push_back(0);
      actions.push_back(0);
      ended.push_back(0);
    }
    std::copy(observation.begin(), observation.end(),
              before.begin() + static_cast<std::ptrdiff_t>(next * width));
    std::copy(next_observation.begin(), next_observation.end(),
              after.begin() + static_cast<std::ptrdiff_t>(next * width));
    rewards[next] = static_cast<float>(reward);
    actions[next] = static_cast<std::uint8_t>(action);
    ended[next] = terminated ? 1 : 0;
    next = (next + 1) % capacity;
    size = actions.size();
  }
};

class Dqn final : public Learner {
 public:
  explicit Dqn(const Job& job)
      : job_(job),
        environment_(job.make_environment()),
        network_(
            {environment_->spec().observation, job.hyper.hidden, environment_->spec().actions, false, false}),
        theta_(network_.initial(env::Random::derive(job.seed, 2), 1.0)),
        target_(theta_),
        optimiser_(job.hyper.optimiser, network_.parameters()),
        gradient_(network_.parameters()),
        random_(env::Random::derive(job.seed, 3)) {
    replay_.capacity = std::max<std::size_t>(job.hyper.replay, kMinibatch);
    replay_.width = environment_->spec().observation;
    begin();
  }

  Status advance(std::uint64_t steps) override {
    while (steps_ < steps) {
      act_once();
      const Hyper& h = job_.hyper;
      if (steps_ % h.target_every == 0) {
        target_ = theta_;
      }
      if (replay_.size < h.learning_starts || steps_ % h.train_every != 0) {
        continue;
      }
      for (std::size_t i = 0; i < h.gradient_steps; ++i) {
        if (Status status = descend(); !status.ok()) {
          return status;
        }
      }
    }
    return ok();
  }
  std::uint64_t steps() const override { return steps_; }
  std::size_t act(std::span<const float> observation) const override {
    return greedy(network_, theta_, observation, acting_);
  }
  LearnerState state() const override { return {theta_, optimiser_.state(), steps_, {}}; }
  Status restore(LearnerState state) override {
    if (Status status = check_state(state, network_.parameters(), optimiser_.state()); !status.ok()) {
      return status;
    }
    theta_ = std::move(state.theta);
    target_ = theta_;
    optimiser_.restore(std::move(state.optimiser));
    steps_ = state.steps;
    random_ = env::Random(env::Random::derive(job_.seed, 1000 + steps_));
    begin();
    return ok();
  }
  Progress take_progress() override { return meter_.take(rate(), epsilon()); }
  const Network* network() const override { return &network_; }

 private:
  void begin() {
    environment_->reset(random_.next());
    episode_return_ = 0;
  }
  double done() const {
    return job_.steps > 0 ? static_cast<double>(steps_) / static_cast<double>(job_.steps) : 0;
  }
  double rate() const {
    const Hyper& h = job_.hyper;
    return h.final_learning_rate + (h.learning_rate - h.final_learning_rate) * std::max(0.0, 1 - done());
  }
  double epsilon() const {
    const Hyper& h = job_.hyper;
    return std::max(h.final_epsilon, 1 - (1 - h.final_epsilon) * done() / h.exploration_fraction);
  }

  void act_once() {
    const std::size_t agents = environment_->agents();
    const std::size_t width = replay_.width;
    seen_.clear();
    chosen_.clear();
    for (std::size_t agent = 0; agent < agents; ++agent) {
      const auto observation = environment_->observation(agent);
      seen_.insert(seen_.end(), observation.begin(), observation.end());
      const bool explores = random_.uniform() < epsilon();
      chosen_.push_back(explores ? random_.below(environment_->spec().actions) : act(observation));
    }
    const env::Outcome outcome = environment_->step(chosen_);
    episode_return_ += outcome.reward;
    ++steps_;
    // Agents keep their places unless one came or went; then this one transition is not learned from.
    const double reward = outcome.reward * environment_->spec().reward_scale;
    if (environment_->agents() == agents) {
      for (std::size_t agent = 0; agent < agents; ++agent) {
        replay_.add(std::span<const float>(seen_).subspan(agent * width, width), chosen_[agent], reward,
                    environment_->observation(agent), outcome.terminated);
      }
    }
    if (outcome.done()) {
      meter_.returns({episode_return_});
      begin();
    }
  }

  Status descend() {
    const std::size_t width = replay_.width;
    const std::size_t actions = network_.shape().outputs;
    inputs_.resize(kMinibatch * width);
    next_.resize(kMinibatch * width);
    taken_.resize(kMinibatch);
    targets_.resize(kMinibatch);
    picked_.resize(kMinibatch);
    for (std::size_t row = 0; row < kMinibatch; ++row) {
      picked_[row] = random_.below(replay_.size);
      const auto from = static_cast<std::ptrdiff_t>(picked_[row] * width);
      const auto to = static_cast<std::ptrdiff_t>(row * width);
      std::copy_n(replay_.before.begin() + from, width, inputs_.begin() + to);
      std::copy_n(replay_.after.begin() + from, width, next_.begin() + to);
      taken_[row] = replay_.actions[picked_[row]];
    }
    network_.actor(target_, next_, target_cache_);
    if (job_.hyper.double_q) {
      network_.actor(theta_, next_, scratch_.critic);
    }
    const std::vector<float>& chooser = job_.hyper.double_q ? scratch_.critic.out : target_cache_.out;
    for (std::size_t row = 0; row < kMinibatch; ++row) {
      const auto first = chooser.begin() + static_cast<std::ptrdiff_t>(row * actions);
      const auto best = static_cast<std::size_t>(
          std::max_element(first, first + static_cast<std::ptrdiff_t>(actions)) - first);
      const std::size_t at = picked_[row];
      const float future = replay_.ended[at] != 0 ? 0.0F : target_cache_.out[row * actions + best];
      targets_[row] = replay_.rewards[at] + static_cast<float>(job_.hyper.gamma) * future;
    }
    std::fill(gradient_.begin(), gradient_.end(), 0.0F);
    const double loss = q_loss(network_, theta_, inputs_, taken_, targets_, scratch_, gradient_);
    if (!std::isfinite(loss) || !std::isfinite(optimiser_.step(theta_, gradient_, rate()))) {
      return not_finite(steps_, 0);
    }
    meter_.add(0, loss, 0);
    return ok();
  }

  Job job_;
  std::unique_ptr<env::Environment> environment_;
  Network network_;
  std::vector<float> theta_, target_;
  Optimiser optimiser_;
  std::vector<float> gradient_;
  env::Random random_;
  Replay replay_;
  std::uint64_t steps_ = 0;
  double episode_return_ = 0;
  Meter meter_;
  LossScratch scratch_;
  Cache target_cache_;
  mutable Cache acting_;
  std::vector<float> seen_, inputs_, next_, targets_;
  std::vector<std::size_t> chosen_, picked_;
  std::vector<std::uint8_t> taken_;
};

Hyper for_dqn(const std::string& environment) {
  Hyper h;
  h.learning_rate = 2.3e-3;
  h.final_learning_rate = 2.3e-4;
  h.double_q = true;
  h.optimiser.clip_norm = 10;
  if (environment == "acrobot") {
    h.learning_rate = 6.3e-4;
    h.final_learning_rate = 6.3e-5;
    h.train_every = 4;
    h.gradient_steps = 2;
    h.target_every = 250;
    h.exploration_fraction = 0.12;
    h.final_epsilon = 0.05;
  }
  if (environment == "queue") {
    h.learning_rate = 5e-4;
    h.final_learning_rate = 5e-5;
    h.train_every = 16;
    h.gradient_steps = 8;
    h.target_every = 500;
  }
  return h;
}

}  // namespace

extern const LearnerKind kDqn;
const LearnerKind kDqn{
    "dqn", [](const Job& job) -> std::unique_ptr<Learner> { return std::make_unique<Dqn>(job); }, for_dqn};

}  // namespace ballast::train
