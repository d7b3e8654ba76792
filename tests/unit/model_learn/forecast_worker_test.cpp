// SPDX-License-Identifier: Apache-2.0
#include "model/learn/forecast_worker.h"

#include <gtest/gtest.h>

#include <cmath>

#include "forecast_samples.h"

namespace ballast::learn {
namespace {

policy::Parameters untrained() {
  return {7, 0, spec::initial_forecast(1)};
}

/// The pairs of `seconds` to learn from, and gradients applied by a global network in between.
double learn_for(ForecastWorker& worker, sync::GlobalNetwork& network, double seconds) {
  Habit habit(1);
  for (double now = 0; now < seconds; now += 0.2) {
    worker.take(habit.pairs(20), now);
    if (auto gradient = worker.learn(now)) {
      EXPECT_EQ(network.push("node", std::move(*gradient)), sync::Verdict::kAccepted);
      worker.hold(network.state().parameters);
    }
  }
  const auto from = worker.learned_from();
  return static_cast<double>(from.error) / static_cast<double>(from.as_now);
}

std::unique_ptr<sync::GlobalNetwork> network_from(policy::Parameters first) {
  auto network =
      sync::GlobalNetwork::create({std::move(first), std::vector<float>(spec::kForecastParameters, 0)},
                                  {.rms_prop = {.learning_rate = 1e-3},
                                   .parameters = spec::kForecastParameters,
                                   .workers = {.pushes_per_s = 0}});
  EXPECT_TRUE(network);
  return std::move(*network);
}

TEST(ForecastWorker, LearnsAHabitThroughTheGlobalNetwork) {
  ForecastWorker worker({}, 3);
  worker.hold(untrained());
  const auto network = network_from(untrained());
  EXPECT_LT(learn_for(worker, *network, 240), 0.5);
  EXPECT_GT(worker.gradients(), 500U);
  EXPECT_EQ(network->version().version, worker.gradients());
  const auto from = worker.learned_from();
  EXPECT_GT(from.samples, 20'000U);
  EXPECT_NEAR(from.span_s, 240, 2);
}

TEST(ForecastWorker, DrawsEachPairSoOftenAndForgetsWhatIsOld) {
  ForecastWorker worker({.span_s = 10, .batch = 100, .reuse = 2, .pushes_per_s = 1000}, 3);
  worker.hold(untrained());
  worker.take(Habit(1).pairs(200), 0);
  int gradients = 0;
  for (int i = 1; i < 50; ++i) {
    gradients += worker.learn(i * 0.1).has_value() ? 1 : 0;
  }
  EXPECT_EQ(gradients, 4) << "200 pairs, drawn twice each, 100 a gradient";
  worker.take(Habit(1).pairs(5), 11);
  EXPECT_EQ(worker.learned_from().samples, 5U);
}

TEST(ForecastWorker, TooFewPairsGiveNothing) {
  ForecastWorker worker({}, 3);
  worker.hold(untrained());
  worker.take(Habit(1).pairs(31), 0);
  EXPECT_FALSE(worker.learn(1));
  EXPECT_TRUE(worker.stopped().empty());
}

TEST(ForecastWorker, AnExplodedLossStopsItWithStepAndLastGoodVersion) {
  for (const float broken : {1e6F, std::nanf("")}) {
    ForecastWorker worker({}, 3);
    worker.hold(untrained());
    worker.take(Habit(1).pairs(200), 0);
    ASSERT_TRUE(worker.learn(1));
    // Pairs of a pod whose numbers are beside all measure, as a broken counter gives them.
    auto pairs = Habit(1).pairs(200);
    for (auto& [input, came] : pairs) {
      input.guesses.fill(broken);
    }
    auto mad = untrained();
    mad.version = 1;
    for (float& each : mad.theta) {
      each += 0.5F;
    }
    worker.hold(mad);
    worker.take(pairs, 2);
    EXPECT_FALSE(worker.learn(3));
    EXPECT_NE(worker.stopped().find("gradient 2 at version 1"), std::string::npos) << worker.stopped();
    ASSERT_TRUE(worker.last_good());
    EXPECT_EQ(worker.last_good()->version, 0U);
    worker.hold(untrained());
    worker.take(Habit(1).pairs(200), 4);
    EXPECT_FALSE(worker.learn(5)) << "it stays stopped";
  }
}

TEST(ForecastWorker, WorkersDifferAndAWorkerIsAlwaysTheSame) {
  const auto of = [](const char* name) { return ForecastWorker::settings_of({}, name).span_s; };
  EXPECT_EQ(of("node-1"), of("node-1"));
  EXPECT_NE(of("node-1"), of("node-2"));
  for (const char* name : {"a", "b", "c", "node-1"}) {
    EXPECT_GE(of(name), ForecastSettings{}.span_s / 2);
    EXPECT_LE(of(name), ForecastSettings{}.span_s * 2);
  }
}

}  // namespace
}  // namespace ballast::learn
