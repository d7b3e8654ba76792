// SPDX-License-Identifier: Apache-2.0
#include "model/env/queue.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "model/env/registry.h"

namespace ballast::env {
namespace {

std::unique_ptr<Queue> unequal_pods() {
  const auto worlds = Queue::load({"static"});
  return std::make_unique<Queue>(*worlds);
}

TEST(QueueEnvironment, OneAgentAMeasuredEndpoint) {
  const auto world = unequal_pods();
  world->reset(3);
  ASSERT_EQ(world->agents(), 10U);  // the scenario's pods, once the gate has found them unequal
  for (std::size_t agent = 0; agent < world->agents(); ++agent) {
    ASSERT_EQ(world->observation(agent).size(), spec::kObservation);
    for (const float value : world->observation(agent)) {
      EXPECT_TRUE(std::isfinite(value));
    }
  }
  // The first five have a whole core, the last two a quarter.
  EXPECT_GT(world->observation(0)[spec::kPrior], world->observation(9)[spec::kPrior] + 1);
}

TEST(QueueEnvironment, KeepingEveryOffsetIsThePriorToTheLastBit) {
  const auto world = unequal_pods();
  world->reset(5);
  for (int step = 0; step < 60; ++step) {
    const std::vector<std::size_t> keep(world->agents(), spec::kKeep);
    ASSERT_EQ(world->step(keep).reward, 0.0) << step;
  }
}

TEST(QueueEnvironment, ActionsMoveOffsetsWithinBoundsAndCostChurn) {
  const auto world = unequal_pods();
  world->reset(5);
  const std::vector<std::size_t> up(world->agents(), spec::kActions - 1);
  const Outcome first = world->step(up);
  EXPECT_LT(first.reward, 0.0) << "all move alike: no share changes, so the churn alone is paid";
  EXPECT_NEAR(world->observation(0)[spec::kLogWeight], 2 * spec::kStep, 1e-6);
  for (int step = 0; step < 20; ++step) {
    world->step(up);
  }
  EXPECT_NEAR(world->observation(0)[spec::kLogWeight], spec::kMaxOffset, 1e-6);
}

TEST(QueueEnvironment, ALargeWrongOffsetIsPaidFor) {
  const auto world = unequal_pods();
  world->reset(5);
  double reward = 0;
  for (int step = 0; step < 60; ++step) {
    std::vector<std::size_t> wrong(world->agents());
    for (std::size_t agent = 0; agent < wrong.size(); ++agent) {
      wrong[agent] = agent < 5 ? 0 : spec::kActions - 1;  // from the fast pods to the slow ones
    }
    reward += world->step(wrong).reward;
  }
  EXPECT_LT(reward, -10);
}

TEST(QueueEnvironment, AdviceTurnsFromSlowPodsToFastOnesAndPays) {
  const auto world = unequal_pods();
  world->reset(5);
  double reward = 0;
  for (int step = 0; step < 120; ++step) {
    std::vector<std::size_t> advice;
    for (std::size_t agent = 0; agent < world->agents(); ++agent) {
      advice.push_back(*world->advice(agent));
    }
    reward += world->step(advice).reward;
  }
  EXPECT_GT(world->observation(0)[spec::kLogWeight], world->observation(9)[spec::kLogWeight] + 0.3);
  EXPECT_GT(reward, 0) << "the square-root rule has shorter latencies than the capacity prior";
}

TEST(QueueEnvironment, TheSameSeedIsTheSameEpisode) {
  const auto one = std::make_unique<Queue>(nullptr);
  const auto two = std::make_unique<Queue>(nullptr);
  std::vector<double> rewards;
  for (auto* world : {one.get(), two.get()}) {
    world->reset(11);
    for (std::size_t step = 0; step < 30 && world->agents() > 0; ++step) {
      std::vector<std::size_t> actions(world->agents());
      for (std::size_t agent = 0; agent < actions.size(); ++agent) {
        actions[agent] = (agent + step) % spec::kActions;
      }
      rewards.push_back(world->step(actions).reward);
    }
  }
  ASSERT_GT(rewards.size(), 2U);
  for (std::size_t i = 0; i < rewards.size() / 2; ++i) {
    EXPECT_EQ(rewards[i], rewards[i + rewards.size() / 2]);
  }
}

TEST(QueueEnvironment, TrainingWorldsAreValidAndStable) {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    const sim::Scenario world = Queue::random_world(seed);
    EXPECT_LT(sim::mean_load(world), 0.95) << seed;
    EXPECT_GE(world.servers.size(), 3U);
    EXPECT_LE(world.servers.size(), 12U);
  }
}

TEST(QueueEnvironment, TwoInFiveTrainingWorldsAreBursty) {
  int bursty = 0;
  for (std::uint64_t seed = 0; seed < 500; ++seed) {
    const sim::Scenario world = Queue::random_world(seed);
    bursty += world.arrivals.mmpp.empty() ? 0 : 1;
    EXPECT_EQ(world.arrivals.mmpp.empty(), world.deadline_s == 0) << "peaks have to end";
  }
  EXPECT_NEAR(bursty, 200, 40);
}

TEST(QueueEnvironment, AblationsTakeAwayWhatTheySay) {
  QueueOptions options;
  options.prior = false;
  options.pooled_context = false;
  Queue bare(*Queue::load({"static"}), options);
  bare.reset(5);
  ASSERT_GT(bare.agents(), 0U);
  for (std::size_t i = spec::kFeatures; i < spec::kObservation; ++i) {
    EXPECT_EQ(bare.observation(0)[i], 0.0F) << i;
  }
  double reward = 0;
  for (int step = 0; step < 40; ++step) {
    reward += bare.step(std::vector<std::size_t>(bare.agents(), spec::kKeep)).reward;
  }
  EXPECT_LT(reward, -10) << "equal shares on unequal pods, against the prior's";
}

TEST(QueueEnvironment, SimIsItsNameTooAndUnknownAblationsAreRefused) {
  const auto sim = find_environment("sim", {{"static"}, {"prior", "context", "churn"}});
  ASSERT_TRUE(sim.ok()) << sim.error().message;
  EXPECT_EQ((*sim)()->spec().name, "queue");
  const auto wrong = find_environment("queue", {{}, {"reward"}});
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().exit_code(), 2);
  for (const auto& name : ablation_names()) {
    EXPECT_NE(wrong.error().message.find(name), std::string::npos) << wrong.error().message;
  }
}

TEST(QueueEnvironment, AnUnknownScenarioIsRefused) {
  const auto none = Queue::load({"there_is_none"});
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().exit_code(), 2);
}

}  // namespace
}  // namespace ballast::env
