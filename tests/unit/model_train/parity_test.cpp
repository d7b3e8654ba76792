// SPDX-License-Identifier: Apache-2.0
// The hand-written network and its gradients against LibTorch's autograd.
#include <gtest/gtest.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>

#include "model/env/random.h"
#include "model/net/actor_critic.h"
#include "model/train/imitate.h"
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

// The other losses and shapes, each written once more on tensors.
constexpr std::int64_t kInputs = 7;
constexpr std::int64_t kOutputs = 3;
constexpr std::int64_t kWidth = 32;

at::Tensor numbers(env::Random& random, std::int64_t rows, std::int64_t columns) {
  at::Tensor tensor = torch::empty({rows, columns});
  for (std::int64_t i = 0; i < rows * columns; ++i) {
    tensor.data_ptr<float>()[i] = static_cast<float>(random.normal());
  }
  return tensor;
}

std::vector<float> flat(const at::Tensor& tensor) {
  const at::Tensor whole = tensor.detach().contiguous();
  return {whole.data_ptr<float>(), whole.data_ptr<float>() + whole.numel()};
}

/// The layout that network.h gives, as views into one vector.
struct Towers {
  at::Tensor theta;
  std::int64_t at = 0;
  std::vector<at::Tensor> encoder;

  at::Tensor take(std::int64_t rows, std::int64_t columns) {
    at::Tensor part = theta.slice(0, at, at + rows * columns).view({rows, columns});
    at += rows * columns;
    return part;
  }
  at::Tensor run(const at::Tensor& x, std::int64_t outputs, bool own_encoder) {
    if (own_encoder) {
      encoder.clear();
      for (const std::int64_t inputs : {kInputs, kWidth}) {
        encoder.push_back(take(inputs, kWidth));
        encoder.push_back(take(1, kWidth));
      }
    }
    const at::Tensor head = take(outputs, kWidth);
    const at::Tensor bias = take(1, outputs);
    const at::Tensor first = at::relu(at::matmul(x, encoder[0]) + encoder[1]);
    const at::Tensor second = at::relu(at::matmul(first, encoder[2]) + encoder[3]);
    return at::matmul(second, head.t()) + bias;
  }
};

at::Tensor tensor_of(const std::vector<float>& theta) {
  return torch::tensor(theta).set_requires_grad(true);
}

void expect_equal(const std::vector<float>& ours, const at::Tensor& theirs) {
  const std::vector<float> slope = flat(theirs);
  ASSERT_EQ(ours.size(), slope.size());
  float largest = 0;
  for (const float value : slope) {
    largest = std::max(largest, std::abs(value));
  }
  ASSERT_GT(largest, 1e-3F);
  for (std::size_t i = 0; i < ours.size(); ++i) {
    ASSERT_NEAR(ours[i], slope[i], 1e-5F * largest) << "parameter " << i;
  }
}

void check_actor_critic(bool shared, double clip) {
  const Network network({kInputs, kWidth, kOutputs, true, shared});
  const auto theta = network.initial(3, 1.0);
  env::Random random(11);
  constexpr std::int64_t kRows = 24;
  const at::Tensor observations = numbers(random, kRows, kInputs);
  const at::Tensor contexts = numbers(random, kRows, kInputs);
  const at::Tensor advantages = numbers(random, kRows, 1).squeeze(1);
  const at::Tensor returns = numbers(random, kRows, 1).squeeze(1);
  Batch batch;
  batch.observations = flat(observations);
  batch.contexts = flat(contexts);
  batch.advantages = flat(advantages);
  batch.returns = flat(returns);
  at::Tensor actions = torch::empty({kRows}, torch::kInt64);
  for (std::int64_t row = 0; row < kRows; ++row) {
    batch.actions.push_back(static_cast<std::uint8_t>(random.below(kOutputs)));
    batch.log_probability.push_back(static_cast<float>(std::log(random.uniform(0.1, 0.9))));
    batch.step.push_back(static_cast<std::uint32_t>(row));
    actions.data_ptr<std::int64_t>()[row] = batch.actions.back();
  }
  LossScratch scratch;
  std::vector<float> ours(network.parameters(), 0.0F);
  const LossOptions options{clip, 0.7, 0.05};
  const auto statistics = actor_critic_loss(network, theta, batch, options, scratch, ours);

  const at::Tensor parameters = tensor_of(theta);
  Towers towers{parameters};
  const at::Tensor log_pi = at::log_softmax(towers.run(observations, kOutputs, true), 1);
  const at::Tensor values = towers.run(contexts, 1, !shared).squeeze(1);
  const at::Tensor taken = log_pi.gather(1, actions.unsqueeze(1)).squeeze(1);
  const at::Tensor ratio = (taken - torch::tensor(batch.log_probability)).exp();
  const at::Tensor policy =
      clip > 0 ? -at::minimum(ratio * advantages, ratio.clamp(1 - clip, 1 + clip) * advantages).mean()
               : -(ratio.detach().clamp_max(1.0) * taken * advantages).mean();
  const at::Tensor entropy = -(log_pi.exp() * log_pi).sum(1).mean();
  const at::Tensor loss = policy + options.value_coefficient * (returns - values).square().mean() -
                          options.entropy_bonus * entropy;
  loss.backward();
  EXPECT_NEAR(statistics.loss, loss.item<double>(), 1e-5);
  expect_equal(ours, parameters.grad());
}

TEST(Autograd, PolicyGradientIsOursToOneInAHundredThousand) {
  check_actor_critic(true, 0);
  check_actor_critic(false, 0);
}

TEST(Autograd, ClippedPolicyGradientIsOursToOneInAHundredThousand) {
  check_actor_critic(true, 0.2);
  check_actor_critic(false, 0.2);
}

TEST(Autograd, QLossAndImitationAreOursToOneInAHundredThousand) {
  const Network network({kInputs, kWidth, kOutputs, false, false});
  const auto theta = network.initial(3, 1.0);
  env::Random random(12);
  constexpr std::int64_t kRows = 24;
  const at::Tensor inputs = numbers(random, kRows, kInputs);
  const at::Tensor targets = 3 * numbers(random, kRows, 1).squeeze(1);  // both sides of Huber's threshold
  std::vector<std::uint8_t> actions;
  at::Tensor index = torch::empty({kRows}, torch::kInt64);
  for (std::int64_t row = 0; row < kRows; ++row) {
    actions.push_back(static_cast<std::uint8_t>(random.below(kOutputs)));
    index.data_ptr<std::int64_t>()[row] = actions.back();
  }
  const auto gradient = [&](const auto& loss_of) {
    const at::Tensor parameters = tensor_of(theta);
    Towers towers{parameters};
    loss_of(towers.run(inputs, kOutputs, true)).backward();
    return parameters.grad();
  };
  LossScratch scratch;
  std::vector<float> ours(network.parameters(), 0.0F);
  q_loss(network, theta, flat(inputs), actions, flat(targets), scratch, ours);
  expect_equal(ours, gradient([&](const at::Tensor& q) {
                 return at::smooth_l1_loss(q.gather(1, index.unsqueeze(1)).squeeze(1), targets);
               }));
  std::fill(ours.begin(), ours.end(), 0.0F);
  Cache cache;
  cross_entropy(network, theta, flat(inputs), actions, cache, ours);
  expect_equal(ours, gradient([&](const at::Tensor& logits) {
                 return -at::log_softmax(logits, 1).gather(1, index.unsqueeze(1)).mean();
               }));
}

}  // namespace
}  // namespace ballast::train
