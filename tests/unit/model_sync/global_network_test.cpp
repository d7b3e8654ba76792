// SPDX-License-Identifier: Apache-2.0
#include "model/sync/network/global_network.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <thread>
#include <vector>

namespace ballast::sync {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInf = std::numeric_limits<float>::infinity();

std::unique_ptr<GlobalNetwork> make(const GlobalOptions& options = {}, Version at = {7, 100}) {
  GlobalState state{{at.epoch, at.version, std::vector<float>(spec::kParameters, 0.5F)},
                    std::vector<float>(spec::kParameters, 0.0F)};
  auto network = GlobalNetwork::create(std::move(state), options);
  EXPECT_TRUE(network);
  return network ? std::move(*network) : nullptr;
}

// All zero but for the first value.
Gradient spike(float value, Version acted = {7, 100}) {
  Gradient gradient{acted, 20, std::abs(static_cast<double>(value)),
                    std::vector<float>(spec::kParameters, 0.0F)};
  gradient.values[0] = value;
  return gradient;
}

TEST(GlobalNetwork, RmsPropGivesTheNumbersComputedByHand) {
  // lr 0.1, alpha 0.9, epsilon 0.01; gradients 1, then -2:
  //   s1 = .1 * 1 = .1             theta1 = .5 - .1 * 1 / sqrt(.11)
  //   s2 = .9 * .1 + .1 * 4 = .49  theta2 = theta1 + .1 * 2 / sqrt(.50)
  auto network = make({.rms_prop = {.learning_rate = 0.1, .alpha = 0.9, .epsilon = 0.01}});
  ASSERT_EQ(network->push(spike(1.0F)), Verdict::kAccepted);
  auto state = network->state();
  EXPECT_NEAR(state.mean_square[0], 0.1, 1e-7);
  EXPECT_NEAR(state.parameters.theta[0], 0.5 - 0.301511345, 1e-6);
  EXPECT_EQ(state.parameters.theta[1], 0.5F);
  EXPECT_EQ(network->version(), (Version{7, 101}));

  ASSERT_EQ(network->push(spike(-2.0F, {7, 101})), Verdict::kAccepted);
  state = network->state();
  EXPECT_NEAR(state.mean_square[0], 0.49, 1e-7);
  EXPECT_NEAR(state.parameters.theta[0], 0.5 - 0.301511345 + 0.282842712, 1e-6);
  EXPECT_EQ(network->version(), (Version{7, 102}));
}

TEST(GlobalNetwork, ClipsByTheNormOfTheWholeGradient) {
  // (60, 80) has norm 100; clipped to 40 it is (24, 32).
  const GlobalOptions options{.rms_prop = {.learning_rate = 1, .alpha = 0, .epsilon = 1}, .clip_norm = 40};
  auto network = make(options);
  auto gradient = spike(60.0F);
  gradient.values[1] = 80.0F;
  gradient.norm = 100;
  ASSERT_EQ(network->push(gradient), Verdict::kAccepted);
  const auto state = network->state();
  EXPECT_NEAR(state.mean_square[0], 24.0 * 24, 1e-3);
  EXPECT_NEAR(state.mean_square[1], 32.0 * 32, 1e-3);
  EXPECT_NEAR(state.parameters.theta[0], 0.5 - 24 / std::sqrt(24.0 * 24 + 1), 1e-5);
}

struct Refused {
  const char* name;
  Gradient gradient;
  Verdict verdict;
};

TEST(GlobalNetwork, RefusalsChangeNothingAndAreCounted) {
  auto network = make({.staleness_limit = 10});
  auto shorter = spike(1);
  shorter.values.pop_back();
  auto longer = spike(1);
  longer.values.push_back(0);
  auto norm_nan = spike(1);
  norm_nan.norm = static_cast<double>(kNan);
  auto norm_off = spike(1);
  norm_off.norm = 3;
  auto hidden_nan = spike(1);
  hidden_nan.values.back() = kNan;
  const std::vector<Refused> cases = {
      {"nothing", Gradient{{7, 100}, 1, 0, {}}, Verdict::kShape},
      {"short", shorter, Verdict::kShape},
      {"long", longer, Verdict::kShape},
      {"NaN", spike(kNan), Verdict::kNotFinite},
      {"infinity", spike(kInf), Verdict::kNotFinite},
      {"NaN at the end", hidden_nan, Verdict::kNotFinite},
      {"NaN as norm", norm_nan, Verdict::kNotFinite},
      {"another norm", norm_off, Verdict::kNorm},
      {"former epoch", spike(1, {6, 100}), Verdict::kEpoch},
      {"epoch to come", spike(1, {8, 100}), Verdict::kEpoch},
      {"version to come", spike(1, {7, 101}), Verdict::kVersion},
      {"stale", spike(1, {7, 89}), Verdict::kStale},
  };
  const GlobalState before = network->state();
  for (const auto& c : cases) {
    const auto count = network->verdicts()[static_cast<std::size_t>(c.verdict)];
    EXPECT_EQ(network->push(c.gradient), c.verdict) << c.name;
    EXPECT_EQ(network->verdicts()[static_cast<std::size_t>(c.verdict)], count + 1) << c.name;
    EXPECT_EQ(network->state(), before) << c.name;
  }
  EXPECT_EQ(network->push(spike(1, {7, 90})), Verdict::kAccepted) << "exactly at the limit";
}

TEST(GlobalNetwork, HugeButFiniteGradientsLeaveFiniteParameters) {
  auto gradient = spike(std::numeric_limits<float>::max());
  auto believing = make({.robust = false});
  ASSERT_EQ(believing->push(gradient), Verdict::kAccepted);
  EXPECT_TRUE(policy::check(believing->state().parameters));
  auto network = make();
  const GlobalState before = network->state();
  EXPECT_EQ(network->push(gradient), Verdict::kNorm);
  EXPECT_EQ(network->state(), before);
}

TEST(GlobalNetwork, ServesTheParametersFileOfItsVersion) {
  auto network = make();
  ASSERT_EQ(network->push(spike(1.0F)), Verdict::kAccepted);
  const auto [version, bytes] = network->parameters();
  EXPECT_EQ(version, (Version{7, 101}));
  const auto parsed = policy::parse(bytes);
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(*parsed, network->state().parameters);
  EXPECT_EQ(network->parameters().second, bytes);
}

TEST(GlobalNetwork, AppliesEveryAcceptedGradientOfManyThreadsOnce) {
  constexpr int kThreads = 4;
  constexpr int kEach = 200;
  auto network = make({.staleness_limit = kThreads * kEach});
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) {
        network->push(spike(1.0F));
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(network->version(), (Version{7, 100 + kThreads * kEach}));
  EXPECT_EQ(network->verdicts()[0], static_cast<std::uint64_t>(kThreads * kEach));
}

TEST(GlobalNetwork, RefusesAStateThatItCannotServe) {
  const GlobalState good{policy::initial(1), std::vector<float>(spec::kParameters, 0.0F)};
  ASSERT_TRUE(GlobalNetwork::create(good, {}));
  auto state = good;
  state.parameters.theta[5] = kNan;
  EXPECT_FALSE(GlobalNetwork::create(state, {}));
  state = good;
  state.mean_square[5] = -1;
  EXPECT_FALSE(GlobalNetwork::create(state, {}));
  state = good;
  state.mean_square.pop_back();
  EXPECT_FALSE(GlobalNetwork::create(state, {}));
}

}  // namespace
}  // namespace ballast::sync
