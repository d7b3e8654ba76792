// SPDX-License-Identifier: Apache-2.0
#include "model/net/forecast_net.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

namespace ballast::net {
namespace {

std::mt19937 random_numbers(3);
std::normal_distribution<float> normal;

/// Half of the pods do what they did a period ago, as feature 0 shows, the others stay as they are.
std::vector<spec::ForecastSample> samples(std::size_t n) {
  std::vector<spec::ForecastSample> all(n);
  for (auto& [input, came] : all) {
    for (float& feature : input.features) {
      feature = normal(random_numbers);
    }
    for (float& guess : input.guesses) {
      guess = normal(random_numbers);
    }
    input.now = normal(random_numbers);
    input.lowest = -100;
    input.highest = 100;
    came = input.now + (input.features[0] > 0 ? input.guesses[spec::kShared] : 0);
  }
  return all;
}

std::vector<float> some_theta() {
  auto theta = spec::initial_forecast(5);
  for (float& each : theta) {
    each += 0.1F * normal(random_numbers);
  }
  return theta;
}

TEST(ForecastNet, IsTheForwardPass) {
  const auto all = samples(50);
  const auto theta = some_theta();
  const auto tensors = forecasts(theta, all);
  for (std::size_t i = 0; i < all.size(); ++i) {
    EXPECT_NEAR(tensors[i], spec::forecast(theta, all[i].input), 1e-5);
  }
}

TEST(ForecastNet, UntrainedItSaysAsNow) {
  const auto theta = spec::initial_forecast(1);
  for (const auto& sample : samples(20)) {
    EXPECT_EQ(spec::forecast(theta, sample.input), sample.input.now);
  }
}

TEST(ForecastNet, TheGradientIsThatOfFiniteDifferences) {
  const auto all = samples(16);
  const auto theta = some_theta();
  const auto gradient = forecast_gradient(theta, all);
  ASSERT_TRUE(gradient) << gradient.error().message;
  const auto loss = [&](const std::vector<float>& at) {
    double sum = 0;
    for (const auto& sample : all) {
      sum += std::pow(spec::forecast(at, sample.input) - static_cast<double>(sample.came), 2) / 16;
    }
    return sum;
  };
  EXPECT_NEAR(gradient->loss.loss, loss(theta), 1e-4);
  for (std::size_t i = 0; i < theta.size(); i += 97) {
    auto up = theta;
    auto down = theta;
    up[i] += 1e-2F;
    down[i] -= 1e-2F;
    EXPECT_NEAR(gradient->flat[i], (loss(up) - loss(down)) / 2e-2, 2e-3) << i;
  }
}

TEST(ForecastNet, LearnsWhichGuessToBelieve) {
  const auto all = samples(8000);
  const FitOptions options{.steps = 1500, .batch = 128, .learning_rate = 5e-3};
  const auto theta = fit_forecast(all, options);
  ASSERT_TRUE(theta) << theta.error().message;
  const auto loss = forecast_gradient(*theta, samples(1000));
  ASSERT_TRUE(loss);
  EXPECT_LT(loss->loss.loss, 0.4 * loss->loss.as_now);
  EXPECT_EQ(*theta, *fit_forecast(all, options));
}

TEST(ForecastNet, RefusesWhatCannotBeLearnedFrom) {
  EXPECT_FALSE(forecast_gradient(spec::initial_forecast(1), {}));
  EXPECT_FALSE(forecast_gradient(std::vector<float>(3), samples(1)));
  auto broken = samples(6000);
  EXPECT_FALSE(fit_forecast(std::span(broken).first(10), {}));
  for (auto& each : broken) {
    each.came = std::numeric_limits<float>::infinity();
  }
  EXPECT_FALSE(forecast_gradient(spec::initial_forecast(1), broken));
  const auto fitted = fit_forecast(broken, {.steps = 10});
  ASSERT_FALSE(fitted);
  EXPECT_NE(fitted.error().message.find("step 1"), std::string::npos) << fitted.error().message;
}

}  // namespace
}  // namespace ballast::net
