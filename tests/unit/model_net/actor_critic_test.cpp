// SPDX-License-Identifier: Apache-2.0
#include "model/net/actor_critic.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "model/policy/forward.h"
#include "model/policy/parameters.h"

namespace ballast::net {
namespace {

std::vector<float> random_theta(std::mt19937& random, float scale) {
  std::normal_distribution<float> normal(0.0F, scale);
  std::vector<float> theta(spec::kParameters);
  std::generate(theta.begin(), theta.end(), [&] { return normal(random); });
  return theta;
}

spec::Observation random_observation(std::mt19937& random) {
  std::uniform_real_distribution<float> uniform(-spec::kFeatureBound, spec::kFeatureBound);
  spec::Observation observation{};
  std::generate(observation.begin(), observation.end(), [&] { return uniform(random); });
  return observation;
}

spec::Rollout random_rollout(std::mt19937& random, std::size_t steps) {
  std::uniform_real_distribution<float> probability(0.05F, 1.0F);
  std::uniform_real_distribution<float> reward(-2.0F, 2.0F);
  spec::Rollout rollout;
  rollout.endpoint = "shop/web/web-0";
  for (std::size_t i = 0; i < steps; ++i) {
    spec::Step step;
    step.observation = random_observation(random);
    step.context = random_observation(random);
    step.action = static_cast<decltype(step.action)>(random() % spec::kActions);
    step.behaviour_probability = probability(random);
    step.reward = reward(random);
    rollout.steps.push_back(step);
  }
  rollout.bootstrap_observation = random_observation(random);
  rollout.bootstrap_context = random_observation(random);
  return rollout;
}

// The network and the loss once more, in double and by the formulas of spec.h and of the header
// alone. What it shares with the tested code is nothing.
struct Reference {
  explicit Reference(const std::vector<float>& from) : theta(from.begin(), from.end()) {}

  std::vector<double> encode(const spec::Observation& x) const {
    std::vector<double> h1(spec::kHidden);
    std::vector<double> h2(spec::kHidden);
    const double* w1 = theta.data();
    const double* b1 = w1 + spec::kHidden * spec::kObservation;
    const double* w2 = b1 + spec::kHidden;
    const double* b2 = w2 + spec::kHidden * spec::kHidden;
    for (std::size_t i = 0; i < spec::kHidden; ++i) {
      double sum = b1[i];
      for (std::size_t j = 0; j < spec::kObservation; ++j) {
        sum += w1[i * spec::kObservation + j] * static_cast<double>(x[j]);
      }
      h1[i] = std::max(0.0, sum);
    }
    for (std::size_t i = 0; i < spec::kHidden; ++i) {
      double sum = b2[i];
      for (std::size_t j = 0; j < spec::kHidden; ++j) {
        sum += w2[i * spec::kHidden + j] * h1[j];
      }
      h2[i] = std::max(0.0, sum);
    }
    return h2;
  }
  const double* heads() const {
    return theta.data() + spec::kHidden * (spec::kObservation + 1) + spec::kHidden * (spec::kHidden + 1);
  }
  std::vector<double> pi(const spec::Observation& x) const {
    const auto h = encode(x);
    std::vector<double> p(spec::kActions);
    double total = 0;
    for (std::size_t a = 0; a < spec::kActions; ++a) {
      double logit = heads()[spec::kActions * spec::kHidden + a];
      for (std::size_t j = 0; j < spec::kHidden; ++j) {
        logit += heads()[a * spec::kHidden + j] * h[j];
      }
      total += p[a] = std::exp(logit);
    }
    for (double& x_a : p) {
      x_a /= total;
    }
    return p;
  }
  double value(const spec::Observation& context) const {
    const auto h = encode(context);
    const double* w = heads() + spec::kActions * (spec::kHidden + 1);
    double sum = w[spec::kHidden];
    for (std::size_t j = 0; j < spec::kHidden; ++j) {
      sum += w[j] * h[j];
    }
    return sum;
  }

  std::vector<double> theta;
};

struct Frozen {
  double ret, advantage, weight;
};

// R, A and w at theta, which the derivative takes for constants.
std::vector<Frozen> freeze(const Reference& at, const spec::Rollout& rollout, const Hyperparameters& hyper) {
  std::vector<Frozen> frozen(rollout.steps.size());
  for (std::size_t t = 0; t < rollout.steps.size(); ++t) {
    // By the definition, forwards: rewards up to the end of this step's segment, then V.
    const std::size_t end = std::min(rollout.steps.size(), (t / hyper.t_max + 1) * hyper.t_max);
    double ret = 0;
    for (std::size_t k = t; k < end; ++k) {
      ret += std::pow(hyper.gamma, static_cast<double>(k - t)) * static_cast<double>(rollout.steps[k].reward);
    }
    double ahead = 0;
    if (end < rollout.steps.size()) {
      ahead = at.value(rollout.steps[end].context);
    } else if (!rollout.terminal) {
      ahead = at.value(rollout.bootstrap_context);
    }
    ret += std::pow(hyper.gamma, static_cast<double>(end - t)) * ahead;
    const auto& step = rollout.steps[t];
    frozen[t] = {ret, ret - at.value(step.context),
                 std::min(1.0, at.pi(step.observation)[step.action] /
                                   static_cast<double>(step.behaviour_probability))};
  }
  return frozen;
}

double loss(const Reference& at, const std::vector<spec::Rollout>& rollouts,
            const std::vector<std::vector<Frozen>>& frozen, const Hyperparameters& hyper) {
  double sum = 0;
  for (std::size_t r = 0; r < rollouts.size(); ++r) {
    for (std::size_t t = 0; t < rollouts[r].steps.size(); ++t) {
      const auto& step = rollouts[r].steps[t];
      const auto& [ret, advantage, weight] = frozen[r][t];
      const auto pi = at.pi(step.observation);
      double entropy = 0;
      for (const double p : pi) {
        entropy -= p * std::log(p);
      }
      const double off = ret - at.value(step.context);
      sum +=
          -weight * std::log(pi[step.action]) * advantage + 0.5 * off * off - hyper.entropy_bonus * entropy;
    }
  }
  return sum / static_cast<double>(rollouts.size());
}

// Central differences along random directions and along single parameters of every layer.
void expect_gradient_matches(const std::vector<float>& theta, const std::vector<spec::Rollout>& rollouts,
                             const Hyperparameters& hyper, std::mt19937& random) {
  ActorCritic network;
  ASSERT_TRUE(network.load(theta));
  const auto gradient = network.gradient(rollouts, hyper);
  ASSERT_TRUE(gradient) << gradient.error().message;

  Reference at(theta);
  std::vector<std::vector<Frozen>> frozen;
  for (const auto& rollout : rollouts) {
    frozen.push_back(freeze(at, rollout, hyper));
  }
  constexpr double kH = 1e-6;
  std::vector<std::size_t> picks = {0, spec::kParameters - 1, spec::kParameters - 2 - spec::kHidden};
  for (int i = 0; i < 120; ++i) {
    picks.push_back(random() % spec::kParameters);
  }
  // The heads are a small part of theta: make sure that they are met.
  for (std::size_t i = 0; i < 60; ++i) {
    picks.push_back(spec::kParameters - 1 - i * 6);
  }
  for (const std::size_t i : picks) {
    const double kept = at.theta[i];
    at.theta[i] = kept + kH;
    const double above = loss(at, rollouts, frozen, hyper);
    at.theta[i] = kept - kH;
    const double below = loss(at, rollouts, frozen, hyper);
    at.theta[i] = kept;
    const double slope = (above - below) / (2 * kH);
    EXPECT_NEAR(static_cast<double>(gradient->flat[i]), slope, 1e-4 + 2e-3 * std::abs(slope))
        << "parameter " << i;
  }
}

TEST(ActorCritic, StoresWhatItLoads) {
  std::mt19937 random(1);
  const auto theta = random_theta(random, 0.3F);
  ActorCritic network;
  EXPECT_EQ(network.store(), std::vector<float>(spec::kParameters, 0.0F));
  ASSERT_TRUE(network.load(theta));
  EXPECT_EQ(network.store(), theta);
  const Status refused = network.load(std::vector<float>(spec::kParameters - 1));
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find(std::to_string(spec::kParameters)), std::string::npos);
  EXPECT_EQ(network.store(), theta);
}

TEST(ActorCritic, EqualsTheHandWrittenForwardPass) {
  std::mt19937 random(2);
  std::size_t cases = 0;
  for (int n = 0; n < 100; ++n) {
    const float scale = 0.02F + 0.2F * static_cast<float>(n % 10) / 10.0F;
    const auto theta = random_theta(random, scale);
    ActorCritic network;
    ASSERT_TRUE(network.load(theta));
    const auto forward = policy::ForwardNetwork::create({1, 1, theta});
    ASSERT_TRUE(forward);
    std::vector<spec::Observation> inputs(20);
    std::generate(inputs.begin(), inputs.end(), [&] { return random_observation(random); });
    const auto logits = network.logits(inputs);
    const auto values = network.values(inputs);
    for (std::size_t i = 0; i < inputs.size(); ++i, ++cases) {
      const auto by_hand = (*forward)->logits(inputs[i]);
      for (std::size_t a = 0; a < spec::kActions; ++a) {
        ASSERT_NEAR(logits[i][a], by_hand[a], 1e-5F * std::max(1.0F, std::abs(by_hand[a])));
      }
      const float value = (*forward)->value(inputs[i]);
      ASSERT_NEAR(values[i], value, 1e-5F * std::max(1.0F, std::abs(value)));
    }
  }
  EXPECT_GE(cases, 1000U);
}

TEST(ActorCritic, GradientMatchesFiniteDifferences) {
  std::mt19937 random(3);
  const auto theta = random_theta(random, 0.12F);
  expect_gradient_matches(theta, {random_rollout(random, 7)}, {}, random);
}

TEST(ActorCritic, GradientOfSeveralRolloutsIsTheirMean) {
  std::mt19937 random(4);
  const auto theta = random_theta(random, 0.12F);
  std::vector<spec::Rollout> rollouts = {random_rollout(random, 3), random_rollout(random, 8)};
  rollouts[0].terminal = true;
  expect_gradient_matches(theta, rollouts, {.gamma = 0.9, .entropy_bonus = 0.3}, random);
}

TEST(ActorCritic, ReturnsBootstrapEveryTMaxSteps) {
  std::mt19937 random(5);
  const auto theta = random_theta(random, 0.12F);
  expect_gradient_matches(theta, {random_rollout(random, 11)}, {.gamma = 0.95, .t_max = 4}, random);
}

TEST(ActorCritic, ImportanceWeightIsOneOnPolicyAndNeverAbove) {
  ActorCritic network;  // theta = 0: pi is uniform
  std::mt19937 random(6);
  auto rollout = random_rollout(random, 4);
  const auto weight_at = [&](float behaviour) {
    for (auto& step : rollout.steps) {
      step.behaviour_probability = behaviour;
    }
    const auto gradient = network.gradient({&rollout, 1}, {});
    return gradient ? gradient->statistics.importance_weight : -1.0;
  };
  EXPECT_NEAR(weight_at(0.2F), 1.0, 1e-6);
  EXPECT_NEAR(weight_at(0.4F), 0.5, 1e-6);
  EXPECT_NEAR(weight_at(0.1F), 1.0, 1e-6);
}

TEST(ActorCritic, StatisticsDescribeTheGradient) {
  ActorCritic network;
  std::mt19937 random(7);
  auto rollout = random_rollout(random, 5);
  double reward = 0;
  for (const auto& step : rollout.steps) {
    reward += static_cast<double>(step.reward) / 5;
  }
  const auto gradient = network.gradient({&rollout, 1}, {});
  ASSERT_TRUE(gradient);
  EXPECT_EQ(gradient->statistics.steps, 5U);
  EXPECT_EQ(gradient->statistics.rollouts, 1U);
  EXPECT_NEAR(gradient->statistics.reward, reward, 1e-6);
  EXPECT_NEAR(gradient->statistics.entropy, std::log(5.0), 1e-6);
  double squares = 0;
  for (const float g : gradient->flat) {
    squares += static_cast<double>(g) * static_cast<double>(g);
  }
  EXPECT_NEAR(gradient->statistics.norm, std::sqrt(squares), 1e-6 * std::sqrt(squares));
  EXPECT_GT(squares, 0.0);
}

TEST(ActorCritic, RefusesWhatCannotBeLearnedFrom) {
  std::mt19937 random(8);
  const auto good = random_rollout(random, 3);
  ASSERT_TRUE(check(good));
  const auto refused = [&](auto&& spoil) {
    auto rollout = good;
    spoil(rollout);
    const ActorCritic network;
    return !check(rollout) && !network.gradient({&rollout, 1}, {});
  };
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(refused([](auto& r) { r.steps.clear(); }));
  EXPECT_TRUE(refused([](auto& r) { r.steps[1].action = spec::kActions; }));
  EXPECT_TRUE(refused([](auto& r) { r.steps[1].behaviour_probability = 0; }));
  EXPECT_TRUE(refused([](auto& r) { r.steps[1].behaviour_probability = 1.5F; }));
  EXPECT_TRUE(refused([](auto& r) { r.steps[1].behaviour_probability = kNan; }));
  EXPECT_TRUE(refused([](auto& r) { r.steps[1].reward = kNan; }));
  EXPECT_TRUE(refused([](auto& r) { r.steps[1].observation[3] = kNan; }));
  EXPECT_TRUE(refused([](auto& r) { r.steps[1].context[3] = std::numeric_limits<float>::infinity(); }));
  EXPECT_TRUE(refused([](auto& r) { r.bootstrap_context[0] = kNan; }));
  EXPECT_FALSE(ActorCritic().gradient({}, {}));
}

}  // namespace
}  // namespace ballast::net
