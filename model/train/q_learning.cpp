// SPDX-License-Identifier: Apache-2.0
// Tabular Q-learning (Watkins 1989; Sutton and Barto 2018, section 6.5) over the bins that the
// environment offers. The step size falls with a pair's visits, n^-0.7, so that the table converges
// (Even-Dar, Mansour 2003).
#include <algorithm>
#include <cmath>

#include "model/train/learner.h"
#include "model/train/progress.h"

namespace ballast::train {
namespace {

constexpr double kVisitPower = 0.7;

class QLearning final : public Learner {
 public:
  explicit QLearning(const Job& job)
      : job_(job), environment_(job.make_environment()), random_(env::Random::derive(job.seed, 3)) {
    std::size_t states = 1;
    for (const auto& bins : environment_->spec().table) {
      states *= bins.bins;
    }
    table_.assign(states * environment_->spec().actions, 0.0F);
    visits_.assign(table_.size(), 0.0F);
    begin();
  }

  Status advance(std::uint64_t steps) override {
    while (steps_ < steps) {
      if (Status status = act_once(); !status.ok()) {
        return status;
      }
    }
    return ok();
  }
  std::uint64_t steps() const override { return steps_; }
  std::size_t act(std::span<const float> observation) const override { return best(state_of(observation)); }
  LearnerState state() const override { return {table_, {{}, visits_, 0}, steps_, {}}; }
  Status restore(LearnerState state) override {
    if (Status status = check_state(state, table_.size(), {{}, visits_, 0}); !status.ok()) {
      return status;
    }
    table_ = std::move(state.theta);
    visits_ = std::move(state.optimiser.square);
    steps_ = state.steps;
    random_ = env::Random(env::Random::derive(job_.seed, 1000 + steps_));
    begin();
    return ok();
  }
  Progress take_progress() override { return meter_.take(0, epsilon()); }
  const Network* network() const override { return nullptr; }

 private:
  void begin() {
    environment_->reset(random_.next());
    episode_return_ = 0;
  }
  double epsilon() const {
    const Hyper& h = job_.hyper;
    const double done = job_.steps > 0 ? static_cast<double>(steps_) / static_cast<double>(job_.steps) : 0;
    return std::max(h.final_epsilon, 1 - (1 - h.final_epsilon) * done / h.exploration_fraction);
  }
  std::size_t state_of(std::span<const float> observation) const {
    std::size_t state = 0;
    for (const auto& bins : environment_->spec().table) {
      const double place =
          (static_cast<double>(observation[bins.feature]) - bins.low) / (bins.high - bins.low);
      const double bin = std::floor(place * static_cast<double>(bins.bins));
      state = state * bins.bins +
              static_cast<std::size_t>(std::clamp(bin, 0.0, static_cast<double>(bins.bins - 1)));
    }
    return state;
  }
  std::size_t best(std::size_t state) const {
    const std::size_t actions = environment_->spec().actions;
    const auto first = table_.begin() + static_cast<std::ptrdiff_t>(state * actions);
    return static_cast<std::size_t>(std::max_element(first, first + static_cast<std::ptrdiff_t>(actions)) -
                                    first);
  }

  Status act_once() {
    const std::size_t actions = environment_->spec().actions;
    states_.clear();
    chosen_.clear();
    for (std::size_t agent = 0; agent < environment_->agents(); ++agent) {
      states_.push_back(state_of(environment_->observation(agent)));
      chosen_.push_back(random_.uniform() < epsilon() ? random_.below(actions) : best(states_.back()));
    }
    const env::Outcome outcome = environment_->step(chosen_);
    episode_return_ += outcome.reward;
    ++steps_;
    const double reward = outcome.reward * environment_->spec().reward_scale;
    if (!std::isfinite(reward)) {
      return not_finite(steps_, 0);
    }
    for (std::size_t agent = 0; agent < std::min(states_.size(), environment_->agents()); ++agent) {
      const std::size_t next = state_of(environment_->observation(agent));
      const double future = outcome.terminated ? 0 : static_cast<double>(table_[next * actions + best(next)]);
      const std::size_t at = states_[agent] * actions + chosen_[agent];
      visits_[at] += 1;
      const double error = reward + job_.hyper.gamma * future - static_cast<double>(table_[at]);
      const double size =
          std::max(std::pow(static_cast<double>(visits_[at]), -kVisitPower), job_.hyper.final_learning_rate);
      table_[at] += static_cast<float>(size * error);
      meter_.add(0, error * error, 0);
    }
    if (outcome.done()) {
      meter_.returns({episode_return_});
      begin();
    }
    return ok();
  }

  Job job_;
  std::unique_ptr<env::Environment> environment_;
  env::Random random_;
  std::vector<float> table_, visits_;
  std::uint64_t steps_ = 0;
  double episode_return_ = 0;
  Meter meter_;
  std::vector<std::size_t> states_, chosen_;
};

Hyper for_q_learning(const std::string& /*environment*/) {
  Hyper h;
  h.exploration_fraction = 0.5;
  h.final_epsilon = 0.02;
  h.final_learning_rate = 0.02;  // least step size
  return h;
}

}  // namespace

extern const LearnerKind kQLearning;
const LearnerKind kQLearning{
    "q_learning", [](const Job& job) -> std::unique_ptr<Learner> { return std::make_unique<QLearning>(job); },
    for_q_learning};

}  // namespace ballast::train
