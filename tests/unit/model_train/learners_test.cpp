// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "model/env/cart_pole.h"
#include "model/env/registry.h"
#include "model/env/two_servers.h"
#include "model/train/learner.h"

namespace ballast::train {
namespace {

Job cart_pole(std::uint64_t seed, const Hyper& hyper) {
  Job job;
  job.make_environment = [] { return std::make_unique<env::CartPole>(); };
  job.seed = seed;
  job.steps = 20'000;
  job.hyper = hyper;
  return job;
}

TEST(Learners, A2cIsPpoWithOneEpochAndNoClipping) {
  Hyper hyper = tuned("a2c", "cartpole");
  hyper.epochs = 1;
  hyper.minibatch = 0;
  const auto a2c = make_learner("a2c", cart_pole(3, hyper));
  hyper.clip = 1e9;
  const auto ppo = make_learner("ppo", cart_pole(3, hyper));
  ASSERT_TRUE(a2c->advance(640).ok());
  ASSERT_TRUE(ppo->advance(640).ok());
  const LearnerState one = a2c->state();
  const LearnerState two = ppo->state();
  ASSERT_EQ(one.steps, two.steps);
  const auto start = make_learner("a2c", cart_pole(3, hyper))->state().theta;
  EXPECT_NE(one.theta, start);
  for (std::size_t i = 0; i < one.theta.size(); ++i) {
    ASSERT_NEAR(one.theta[i], two.theta[i], 1e-6F) << "parameter " << i;
  }
}

TEST(Learners, TheSameSeedGivesTheSameBytes) {
  for (const auto& name : learner_names()) {
    Hyper hyper = tuned(name, "cartpole");
    hyper.workers = 1;
    const auto one = make_learner(name, cart_pole(5, hyper));
    const auto two = make_learner(name, cart_pole(5, hyper));
    const auto other = make_learner(name, cart_pole(6, hyper));
    for (auto* learner : {one.get(), two.get(), other.get()}) {
      ASSERT_TRUE(learner->advance(1500).ok()) << name;
    }
    EXPECT_EQ(one->state(), two->state()) << name;
    EXPECT_NE(one->state().theta, other->state().theta) << name;
  }
}

TEST(Learners, TabularQLearningFindsWhatValueIterationFinds) {
  using env::TwoServers;
  constexpr double kGamma = 0.9;
  const double scale = TwoServers().spec().reward_scale;
  std::array<std::array<double, 2>, TwoServers::kStates> exact{};
  for (int sweep = 0; sweep < 1000; ++sweep) {
    auto next = exact;
    for (std::size_t state = 0; state < TwoServers::kStates; ++state) {
      for (std::size_t action = 0; action < 2; ++action) {
        next[state][action] = 0;
        for (const auto& branch : TwoServers::branches(state, action)) {
          const double future = *std::max_element(exact[branch.next].begin(), exact[branch.next].end());
          next[state][action] += branch.probability * (scale * branch.reward + kGamma * future);
        }
      }
    }
    exact = next;
  }
  Job job;
  job.make_environment = [] { return std::make_unique<TwoServers>(); };
  job.steps = 4'000'000;
  job.hyper = tuned("q_learning", "two_servers");
  job.hyper.gamma = kGamma;
  job.hyper.final_epsilon = 1;  // every pair is visited for ever, as convergence asks
  job.hyper.final_learning_rate = 0;
  const auto learner = make_learner("q_learning", job);
  ASSERT_TRUE(learner->advance(job.steps).ok());
  const auto table = learner->state().theta;
  ASSERT_EQ(table.size(), TwoServers::kStates * 2);
  for (std::size_t state = 0; state < TwoServers::kStates; ++state) {
    for (std::size_t action = 0; action < 2; ++action) {
      EXPECT_NEAR(static_cast<double>(table[state * 2 + action]), exact[state][action], 0.1)
          << "state " << state << " action " << action;
    }
    const double gap = exact[state][0] - exact[state][1];
    if (std::abs(gap) > 0.1) {
      EXPECT_EQ(table[state * 2] > table[state * 2 + 1], gap > 0) << "state " << state;
    }
  }
}

TEST(Learners, PpoLearnsToBalance) {
  Hyper hyper = tuned("ppo", "cartpole");
  Job job = cart_pole(1, hyper);
  job.steps = 12'000;
  const auto learner = make_learner("ppo", job);
  double best = 0;
  for (std::uint64_t steps = 2'000; steps <= job.steps; steps += 2'000) {
    ASSERT_TRUE(learner->advance(steps).ok());
    for (const double value : learner->take_progress().returns) {
      best = std::max(best, value);
    }
  }
  EXPECT_GT(best, 150) << "a random policy ends after about 22 steps, seldom after 100";
}

TEST(Learners, A3cWorkersLearnTogetherEachInItsOwnWay) {
  Hyper hyper = tuned("a3c", "cartpole");
  hyper.workers = 3;
  const auto learner = make_learner("a3c", cart_pole(1, hyper));
  const LearnerState before = learner->state();
  ASSERT_TRUE(learner->advance(3'000).ok());
  const LearnerState after = learner->state();
  EXPECT_GE(after.steps, 3'000U);
  EXPECT_NE(before.theta, after.theta);
  // extra: learning rate, then temperature, epsilon and entropy bonus of each worker.
  ASSERT_EQ(before.extra.size(), 10U);
  EXPECT_LT(before.extra[1], before.extra[4]);
  EXPECT_LT(before.extra[4], before.extra[7]);
}

/// One of three actions pays, always the same.
class Plain final : public env::Environment {
 public:
  Plain() {
    spec_.name = "plain";
    spec_.observation = spec_.context = 1;
    spec_.actions = 3;
    spec_.max_steps = 50;
  }
  const env::Spec& spec() const override { return spec_; }
  void reset(std::uint64_t /*seed*/) override { steps_ = 0; }
  std::size_t agents() const override { return 1; }
  std::span<const float> observation(std::size_t) const override { return seen_; }
  std::span<const float> context() const override { return seen_; }
  env::Outcome step(std::span<const std::size_t> actions) override {
    return {.reward = actions[0] == 1 ? 1.0 : 0.0, .truncated = ++steps_ >= spec_.max_steps};
  }

 private:
  env::Spec spec_;
  std::array<float, 1> seen_ = {1};
  std::size_t steps_ = 0;
};

TEST(Learners, A3cThatHasDecidedDoesNotRaiseItsRate) {
  Hyper hyper = tuned("a3c", "queue");
  hyper.learning_rate = 0.003;
  Job job = cart_pole(1, hyper);
  job.make_environment = [] { return std::make_unique<Plain>(); };
  job.steps = 30'000;
  const auto learner = make_learner("a3c", job);
  ASSERT_TRUE(learner->advance(job.steps).ok());
  const std::array<float, 1> seen = {1};
  EXPECT_EQ(learner->act(seen), 1U);
  EXPECT_LT(learner->state().extra[0], 2 * hyper.learning_rate)
      << "a policy that chooses one action always diverges by nothing, at any rate";
}

/// Pays NaN from a step on.
class Poisoned final : public env::Environment {
 public:
  const env::Spec& spec() const override { return inner_.spec(); }
  void reset(std::uint64_t seed) override { inner_.reset(seed); }
  std::size_t agents() const override { return 1; }
  std::span<const float> observation(std::size_t agent) const override { return inner_.observation(agent); }
  std::span<const float> context() const override { return inner_.context(); }
  env::Outcome step(std::span<const std::size_t> actions) override {
    env::Outcome outcome = inner_.step(actions);
    outcome.reward = ++steps_ > 400 ? std::numeric_limits<double>::quiet_NaN() : outcome.reward;
    return outcome;
  }

 private:
  env::CartPole inner_;
  std::size_t steps_ = 0;
};

TEST(Learners, NanStopsTheRunWithStepAndWorkerAndLeavesTheLastGoodState) {
  for (const auto& name : learner_names()) {
    Job job = cart_pole(1, tuned(name, "cartpole"));
    job.make_environment = [] { return std::make_unique<Poisoned>(); };
    job.hyper.learning_starts = 200;
    const auto learner = make_learner(name, job);
    const Status status = learner->advance(20'000);
    ASSERT_FALSE(status.ok()) << name;
    EXPECT_NE(status.error().message.find("not finite at step"), std::string::npos) << status.error().message;
    EXPECT_NE(status.error().message.find("worker"), std::string::npos) << status.error().message;
    for (const float value : learner->state().theta) {
      ASSERT_TRUE(std::isfinite(value)) << name;
    }
  }
}

}  // namespace
}  // namespace ballast::train
