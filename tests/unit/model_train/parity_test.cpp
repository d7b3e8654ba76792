// SPDX-License-Identifier: Apache-2.0
// The hand-written network and its gradient against LibTorch's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "model/env/random.h"
#include "model/net/actor_critic.h"
#include "model/train/loss.h"

namespace ballast::train {
namespace {

constexpr std::size_t kSteps = 20;

spec::Rollout rollout_of(env::Random& random) {
  spec::Rollout rollout;
  rollout.endpoint = "shop/web/web-0";
  const auto observation = [&random] {
    spec::Observation out{};
    for (float& value : out) {
      value = static_cast<float>(random.normal());
    }
    return out;
  };
  for (std::size_t i = 0; i < kSteps; ++i) {
    spec::Step step;
    step.observation = observation();
    step.context = observation();
    step.action = static_cast<std::uint8_t>(random.below(spec::kActions));
    step.behaviour_probability = static_cast<float>(random.uniform(0.05, 1));
    step.reward = static_cast<float>(random.normal());
    rollout.steps.push_back(step);
  }
  rollout.bootstrap_context = observation();
  return rollout;
}

Batch batch_of(const spec::Rollout& rollout, const Network& network, const std::vector<float>& theta,
               double gamma) {
  Batch batch;
  for (std::size_t i = 0; i < kSteps; ++i) {
    const auto& step = rollout.steps[i];
    batch.observations.insert(batch.observations.end(), step.observation.begin(), step.observation.end());
    batch.contexts.insert(batch.contexts.end(), step.context.begin(), step.context.end());
    batch.actions.push_back(step.action);
    batch.log_probability.push_back(std::log(step.behaviour_probability));
    batch.step.push_back(static_cast<std::uint32_t>(i));
  }
  Cache cache;
  network.critic(theta, rollout.bootstrap_context, cache);
  auto ahead = static_cast<double>(cache.out[0]);
  network.critic(theta, batch.contexts, cache);
  batch.returns.resize(kSteps);
  batch.advantages.resize(kSteps);
  for (std::size_t i = kSteps; i-- > 0;) {
    ahead = static_cast<double>(rollout.steps[i].reward) + gamma * ahead;
    batch.returns[i] = static_cast<float>(ahead);
    batch.advantages[i] = batch.returns[i] - cache.out[i];
  }
  return batch;
}

TEST(Parity, GradientIsLibTorchsToOneInAHundredThousand) {
  const Network network({spec::kObservation, spec::kHidden, spec::kActions, true, true});
  ASSERT_EQ(network.parameters(), spec::kParameters);
  const auto theta = network.initial(9, 1.0);
  net::ActorCritic torch;
  ASSERT_TRUE(torch.load(network.to_spec(theta)).ok());
  EXPECT_EQ(network.from_spec(network.to_spec(theta)), theta);

  env::Random random(4);
  const spec::Rollout rollout = rollout_of(random);
  const net::Hyperparameters hyper{0.97, 0.02, kSteps};
  const auto theirs = torch.gradient(std::span(&rollout, 1), hyper);
  ASSERT_TRUE(theirs.ok());

  const Batch batch = batch_of(rollout, network, theta, hyper.gamma);
  LossScratch scratch;
  std::vector<float> gradient(network.parameters(), 0.0F);
  actor_critic_loss(network, theta, batch, {0, 0.5, hyper.entropy_bonus}, scratch, gradient);
  // Theirs is the sum over the steps, ours the mean.
  const auto ours = network.to_spec(gradient);
  float largest = 0;
  for (const float value : theirs->flat) {
    largest = std::max(largest, std::abs(value));
  }
  ASSERT_GT(largest, 0.1F);
  for (std::size_t i = 0; i < ours.size(); ++i) {
    ASSERT_NEAR(ours[i] * kSteps, theirs->flat[i], 1e-5F * largest) << "parameter " << i;
  }
}

TEST(Parity, OutputsAreLibTorchsToOneInAHundredThousand) {
  const Network network({spec::kObservation, spec::kHidden, spec::kActions, true, true});
  const auto theta = network.initial(9, 1.0);
  net::ActorCritic torch;
  ASSERT_TRUE(torch.load(network.to_spec(theta)).ok());
  env::Random random(4);
  const spec::Rollout rollout = rollout_of(random);
  Cache cache;
  for (const auto& step : rollout.steps) {
    const auto logits = torch.logits(std::span(&step.observation, 1))[0];
    network.actor(theta, step.observation, cache);
    for (std::size_t a = 0; a < spec::kActions; ++a) {
      EXPECT_NEAR(cache.out[a], logits[a], 1e-5F * std::max(1.0F, std::abs(logits[a])));
    }
    network.critic(theta, step.context, cache);
    const float value = torch.values(std::span(&step.context, 1))[0];
    EXPECT_NEAR(cache.out[0], value, 1e-5F * std::max(1.0F, std::abs(value)));
  }
}

}  // namespace
}  // namespace ballast::train
