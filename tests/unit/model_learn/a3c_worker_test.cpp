// SPDX-License-Identifier: Apache-2.0
#include "model/learn/a3c_worker.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "model/policy/forward.h"

namespace ballast::learn {
namespace {

policy::Parameters parameters_at(std::uint64_t epoch, std::uint64_t version) {
  auto parameters = policy::initial(version);
  parameters.epoch = epoch;
  parameters.version = version;
  for (float& x : parameters.theta) {
    x += 0.01F;  // the heads are not zero, so that every version has a gradient of its own
  }
  return parameters;
}

spec::Rollout rollout_at(std::uint64_t epoch, std::uint64_t version) {
  spec::Rollout rollout;
  rollout.endpoint = "shop/web/web-0";
  rollout.epoch = epoch;
  rollout.version = version;
  for (int i = 0; i < 5; ++i) {
    spec::Step step;
    step.observation.fill(0.1F * static_cast<float>(i));
    step.context.fill(0.3F);
    step.action = static_cast<decltype(step.action)>(i);
    step.behaviour_probability = 0.2F;
    step.reward = 1.0F - static_cast<float>(i);
    rollout.steps.push_back(step);
  }
  return rollout;
}

TEST(A3cWorker, TakesTheGradientAtTheThetaThatActed) {
  A3cWorker worker({});
  worker.hold(parameters_at(1, 10));
  worker.hold(parameters_at(1, 11));
  const auto gradients = worker.learn({rollout_at(1, 11), rollout_at(1, 10), rollout_at(1, 11)});
  ASSERT_EQ(gradients.size(), 2U);
  EXPECT_EQ(gradients[0].acted, (sync::Version{1, 10}));
  EXPECT_EQ(gradients[1].acted, (sync::Version{1, 11}));
  EXPECT_EQ(gradients[1].steps, 10U);
  for (const auto& gradient : gradients) {
    net::ActorCritic network;
    ASSERT_TRUE(network.load(parameters_at(1, gradient.acted.version).theta));
    const auto rollout = rollout_at(1, gradient.acted.version);
    const auto expected = network.gradient({&rollout, 1}, {});
    ASSERT_TRUE(expected);
    ASSERT_EQ(gradient.values.size(), spec::kParameters);
    for (std::size_t i = 0; i < spec::kParameters; ++i) {
      ASSERT_NEAR(gradient.values[i], expected->flat[i], 1e-5F + 1e-4F * std::abs(expected->flat[i])) << i;
    }
    EXPECT_NEAR(gradient.norm, expected->statistics.norm, 1e-4 * expected->statistics.norm);
  }
  EXPECT_EQ(worker.counters().rollouts, 3U);
}

TEST(A3cWorker, DropsAndCountsRolloutsOfUnknownTheta) {
  A3cWorker worker({});
  EXPECT_TRUE(worker.learn({rollout_at(1, 10)}).empty());
  worker.hold(parameters_at(1, 10));
  EXPECT_TRUE(worker.learn({rollout_at(1, 9), rollout_at(2, 10)}).empty());
  EXPECT_EQ(worker.counters().unknown_theta, 3U);
  EXPECT_EQ(worker.take_progress(), std::nullopt);
}

TEST(A3cWorker, ForgetsAnotherEpochAndTheOldestVersions) {
  A3cWorker worker({});
  worker.hold(parameters_at(1, 10));
  for (std::uint64_t version = 1; version <= A3cWorker::kKept + 1; ++version) {
    worker.hold(parameters_at(2, version));
  }
  EXPECT_TRUE(worker.learn({rollout_at(1, 10)}).empty());
  EXPECT_TRUE(worker.learn({rollout_at(2, 1)}).empty());
  EXPECT_EQ(worker.learn({rollout_at(2, 2)}).size(), 1U);
  EXPECT_EQ(worker.learn({rollout_at(2, A3cWorker::kKept + 1)}).size(), 1U);
}

TEST(A3cWorker, OneBadRolloutDoesNotSpoilTheOthers) {
  A3cWorker worker({});
  worker.hold(parameters_at(1, 10));
  auto bad = rollout_at(1, 10);
  bad.steps[0].reward = std::nanf("");
  const auto gradients = worker.learn({bad, rollout_at(1, 10)});
  ASSERT_EQ(gradients.size(), 1U);
  EXPECT_EQ(gradients[0].steps, 5U);
  EXPECT_EQ(worker.counters().invalid, 1U);
}

TEST(A3cWorker, ProgressIsAveragedOverTheStepsAndStartsAgain) {
  A3cWorker worker({});
  worker.hold(parameters_at(1, 10));
  auto shorter = rollout_at(1, 10);
  shorter.steps.resize(1);  // reward 1; the whole rollout has mean -1
  worker.learn({shorter});
  worker.learn({rollout_at(1, 10)});
  const auto progress = worker.take_progress();
  ASSERT_TRUE(progress);
  EXPECT_EQ(progress->gradients, 2U);
  EXPECT_EQ(progress->mean.steps, 6U);
  EXPECT_NEAR(progress->mean.reward, (1.0 - 5.0) / 6, 1e-6);
  EXPECT_EQ(worker.take_progress(), std::nullopt);
}

// Both halves of A3C without a socket between them, on a bandit whose best action depends on what
// is seen: action 0 where the first feature is negative, action 4 where it is positive.
TEST(A3cWorker, LearnsAContextualBandit) {
  auto network =
      sync::GlobalNetwork::create({policy::initial(1), std::vector<float>(spec::kParameters, 0.0F)}, {});
  ASSERT_TRUE(network);
  A3cWorker worker({});
  std::mt19937 random(1);
  double share_right = 0;
  for (int update = 0; update < 1500; ++update) {
    const auto parameters = (*network)->state().parameters;
    worker.hold(parameters);
    const auto forward = policy::ForwardNetwork::create(parameters);
    ASSERT_TRUE(forward);
    spec::Rollout rollout;
    rollout.epoch = parameters.epoch;
    rollout.version = parameters.version;
    rollout.terminal = true;
    double right = 0;
    for (int i = 0; i < 20; ++i) {
      spec::Step step;
      step.observation.fill(0.5F);
      step.observation[0] = random() % 2 == 0 ? 1.0F : -1.0F;
      step.context.fill(0.5F);
      const auto logits = (*forward)->logits(step.observation);
      std::vector<double> weights;
      for (const float logit : logits) {
        weights.push_back(std::exp(static_cast<double>(logit)));
      }
      std::discrete_distribution<int> pi(weights.begin(), weights.end());
      const int action = pi(random);
      step.action = static_cast<decltype(step.action)>(action);
      step.behaviour_probability = static_cast<float>(pi.probabilities()[static_cast<std::size_t>(action)]);
      step.reward = action == (step.observation[0] < 0 ? 0 : 4) ? 1.0F : 0.0F;
      right += static_cast<double>(step.reward) / 20;
      rollout.steps.push_back(step);
    }
    share_right = 0.95 * share_right + 0.05 * right;
    for (const auto& gradient : worker.learn({rollout})) {
      ASSERT_EQ((*network)->push(gradient), sync::Verdict::kAccepted);
    }
  }
  EXPECT_GT(share_right, 0.7) << "chance is 0.2, and 0.5 is the most without looking";
}

}  // namespace
}  // namespace ballast::learn
