// SPDX-License-Identifier: Apache-2.0
// Every gradient against finite differences of its own loss.
#include "model/train/loss.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "model/env/random.h"
#include "model/train/imitate.h"

namespace ballast::train {
namespace {

constexpr std::size_t kInputs = 5;
constexpr std::size_t kOutputs = 3;
constexpr std::size_t kSteps = 12;

Batch batch_of(std::size_t rows_a_step, double log_mu) {
  env::Random random(17);
  Batch batch;
  const auto numbers = [&](std::vector<float>& into, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      into.push_back(static_cast<float>(random.normal()));
    }
  };
  numbers(batch.contexts, kSteps * kInputs);
  numbers(batch.advantages, kSteps);
  numbers(batch.returns, kSteps);
  for (std::uint32_t step = 0; step < kSteps; ++step) {
    for (std::size_t row = 0; row < rows_a_step; ++row) {
      numbers(batch.observations, kInputs);
      batch.actions.push_back(static_cast<std::uint8_t>(random.below(kOutputs)));
      batch.log_probability.push_back(static_cast<float>(log_mu));
      batch.step.push_back(step);
    }
  }
  return batch;
}

/// Along random directions: (loss(theta + h d) - loss(theta - h d)) / 2h against gradient . d. A ReLU
/// that opens between the two points spoils one h, hardly all three.
template <typename Loss>
void expect_slope(const std::vector<float>& theta, const std::vector<float>& gradient, Loss&& loss) {
  env::Random random(5);
  for (int direction = 0; direction < 20; ++direction) {
    std::vector<double> d(theta.size());
    double slope = 0;
    double size = 0;
    for (std::size_t i = 0; i < theta.size(); ++i) {
      d[i] = random.uniform() < 0.05 ? random.normal() : 0;
      slope += static_cast<double>(gradient[i]) * d[i];
      size += static_cast<double>(gradient[i] * gradient[i]) * d[i] * d[i];
    }
    double closest = 0;
    for (const double h : {2e-3, 5e-4, 1e-4}) {
      std::vector<float> up = theta;
      std::vector<float> down = theta;
      for (std::size_t i = 0; i < theta.size(); ++i) {
        up[i] += static_cast<float>(h * d[i]);
        down[i] -= static_cast<float>(h * d[i]);
      }
      const double measured = (loss(up) - loss(down)) / (2 * h);
      closest = std::abs(measured - slope) < std::abs(closest - slope) || h == 2e-3 ? measured : closest;
    }
    EXPECT_NEAR(closest, slope, 0.02 * std::sqrt(size) + 2e-3) << "direction " << direction;
  }
}

void check_actor_critic(bool shared, double clip, double log_mu, std::size_t rows_a_step) {
  const Network network({kInputs, 32, kOutputs, true, shared});
  const auto theta = network.initial(3, 1.0);
  const Batch batch = batch_of(rows_a_step, log_mu);
  const LossOptions options{clip, 0.7, 0.05};
  LossScratch scratch;
  std::vector<float> gradient(network.parameters(), 0.0F);
  actor_critic_loss(network, theta, batch, options, scratch, gradient);
  ASSERT_GT(*std::max_element(gradient.begin(), gradient.end()), 0.0F);
  expect_slope(theta, gradient, [&](const std::vector<float>& at) {
    return actor_critic_loss(network, at, batch, options, scratch, {}).loss;
  });
}

// The probability of the acting policy is so low that every weight min(1, pi / mu) is exactly 1.
TEST(Losses, PolicyGradientIsTheSlopeOfItsLoss) {
  check_actor_critic(false, 0, -20, 1);
  check_actor_critic(true, 0, -20, 1);
}

TEST(Losses, ManyAgentsOfAStepShareItsAdvantage) {
  check_actor_critic(true, 0, -20, 4);
}

TEST(Losses, ClippedGradientIsTheSlopeOfItsLoss) {
  check_actor_critic(false, 0.2, std::log(1.0 / kOutputs), 1);  // some rows are clipped, some are not
  check_actor_critic(true, 1e9, std::log(1.0 / kOutputs), 2);   // none is
}

TEST(Losses, WhatExplorationTookTooOftenWeighsLess) {
  const Network network({kInputs, 32, kOutputs, true, false});
  const auto theta = network.initial(3, 1.0);
  Batch batch = batch_of(1, 0);  // as if every action had been certain: each weight is pi itself
  LossScratch scratch;
  std::vector<float> weighed(network.parameters(), 0.0F);
  const LossOptions options{0, 0, 0};
  actor_critic_loss(network, theta, batch, options, scratch, weighed);
  for (std::size_t row = 0; row < batch.rows(); ++row) {
    double sum = 0;
    for (std::size_t a = 0; a < kOutputs; ++a) {
      sum += std::exp(static_cast<double>(scratch.actor.out[row * kOutputs + a]));
    }
    const double pi =
        std::exp(static_cast<double>(scratch.actor.out[row * kOutputs + batch.actions[row]])) / sum;
    batch.advantages[row] *= static_cast<float>(pi);
    batch.log_probability[row] = -20;
  }
  std::vector<float> by_hand(network.parameters(), 0.0F);
  actor_critic_loss(network, theta, batch, options, scratch, by_hand);
  for (std::size_t i = 0; i < weighed.size(); ++i) {
    ASSERT_NEAR(weighed[i], by_hand[i], 1e-5F);
  }
}

TEST(Losses, HuberGradientIsTheSlopeOfItsLoss) {
  const Network network({kInputs, 32, kOutputs, false, false});
  const auto theta = network.initial(3, 1.0);
  const Batch batch = batch_of(1, 0);
  std::vector<float> targets = batch.returns;
  targets[0] += 5;  // beyond the threshold of one
  targets[1] -= 5;
  LossScratch scratch;
  std::vector<float> gradient(network.parameters(), 0.0F);
  q_loss(network, theta, batch.observations, batch.actions, targets, scratch, gradient);
  expect_slope(theta, gradient, [&](const std::vector<float>& at) {
    return q_loss(network, at, batch.observations, batch.actions, targets, scratch, {});
  });
}

TEST(Losses, CrossEntropyGradientIsTheSlopeOfItsLoss) {
  const Network network({kInputs, 32, kOutputs, true, true});
  const auto theta = network.initial(3, 1.0);
  const Batch batch = batch_of(1, 0);
  Cache cache;
  std::vector<float> gradient(network.parameters(), 0.0F);
  cross_entropy(network, theta, batch.observations, batch.actions, cache, gradient);
  expect_slope(theta, gradient, [&](const std::vector<float>& at) {
    return cross_entropy(network, at, batch.observations, batch.actions, cache, {});
  });
}

TEST(Losses, DivergenceOfTwoPoliciesIsTheirKlWhateverWasExplored) {
  const Network network({kInputs, 32, kOutputs, true, false});
  const auto theta = network.initial(3, 1.0);
  const auto other = network.initial(4, 1.0);
  Batch batch = batch_of(1, 0);
  Cache cache;
  EXPECT_NEAR(divergence(network, theta, theta, batch, cache), 0, 1e-12);
  const double apart = divergence(network, theta, other, batch, cache);
  EXPECT_GT(apart, 1e-3);
  for (float& each : batch.log_probability) {
    each -= 1;
  }
  for (auto& action : batch.actions) {
    action = static_cast<std::uint8_t>((action + 1U) % kOutputs);
  }
  EXPECT_EQ(divergence(network, theta, other, batch, cache), apart);
}

}  // namespace
}  // namespace ballast::train
