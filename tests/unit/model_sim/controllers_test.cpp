// SPDX-License-Identifier: Apache-2.0
// Controllers of others, and the oracles in the same loop, against values computed by hand.
#include "model/sim/balancers/controllers.h"

#include <gtest/gtest.h>

#include <cmath>

#include "model/sim/simulation.h"

namespace ballast::sim {
namespace {

TEST(Robinhood, TwoStepsByHand) {
  RobinhoodController::Pid a;
  RobinhoodController::Pid b;
  std::vector<RobinhoodController::Pid*> both = {&a, &b};
  RobinhoodController::step(both, {0.9, 0.3}, 5);
  // Error -.3 and +.3, integral -1.5 and +1.5, no derivative yet: -.15 - .03.
  EXPECT_NEAR(a.weight, 0.82, 1e-12);
  EXPECT_NEAR(b.weight, 1.18, 1e-12);
  RobinhoodController::step(both, {0.7, 0.5}, 5);
  // Error -.1, integral -2, derivative +.04: -.05 - .04 + .004.
  EXPECT_NEAR(a.weight, 0.734, 1e-12);
  EXPECT_NEAR(b.weight, 1.266, 1e-12);
}

ServerTelemetry telemetry(std::uint32_t server, double seconds, double on_cpu, double latency = 0) {
  ServerTelemetry t;
  t.server = server;
  t.interval_s = seconds;
  t.on_cpu_s = on_cpu;
  t.limit_cores = 1;
  t.requests = t.responses = 100;
  t.latency_sum_s = 100 * latency;
  return t;
}

TEST(Robinhood, ActsOncePerLoopOnWhatItAddedUp) {
  RobinhoodController controller;
  EXPECT_FALSE(controller.tick(2.5, {0, 1}, {telemetry(0, 2.5, 2.5), telemetry(1, 2.5, 0.75)}).has_value());
  const auto weights = controller.tick(5, {0, 1}, {telemetry(0, 2.5, 2), telemetry(1, 2.5, 0.75)});
  ASSERT_TRUE(weights.has_value());
  EXPECT_NEAR((*weights)[0], 0.82, 1e-12);  // .9 and .3 of a core
  EXPECT_NEAR((*weights)[1], 1.18, 1e-12);
}

TEST(Knapsack, FitsLatencyOverTheSquareOfTheWeight) {
  const auto curve = KnapsackController::fit({{1, 0.012}, {2, 0.018}});
  EXPECT_NEAR(curve.base, 0.010, 1e-12);
  EXPECT_NEAR(curve.slope, 0.002, 1e-12);
  EXPECT_NEAR(curve.at(3), 0.028, 1e-12);
  EXPECT_EQ(KnapsackController::fit({{1, 0.018}, {2, 0.012}}).slope, 0)
      << "latency does not fall in the weight";
}

TEST(Knapsack, PicksTheLeastSum) {
  // .01 w + .002 w^3 and .01 w + .008 w^3: the marginal costs meet at 4/3 and 2/3, between units of
  // 1/20: 1.35 and .65 cost .007118, 1.3 and .7 cost .007138.
  const auto weights = KnapsackController::knapsack({{0.010, 0.002, 1}, {0.010, 0.008, 1}});
  EXPECT_NEAR(weights[0], 1.35, 1e-12);
  EXPECT_NEAR(weights[1], 0.65, 1e-12);
  const auto one_far = KnapsackController::knapsack({{0.010, 0, 1}, {1, 0, 1}});
  EXPECT_NEAR(one_far[1], 0.05, 1e-12) << "never nothing";
}

TEST(Knapsack, TriesWeightsFirstAndThenChooses) {
  KnapsackController controller;
  std::vector<double> first;
  for (int loop = 1; loop <= 6; ++loop) {
    const auto weights =
        controller.tick(5. * loop, {0, 1}, {telemetry(0, 5, 1, 0.010), telemetry(1, 5, 1, 0.010)});
    ASSERT_TRUE(weights.has_value());
    EXPECT_NEAR((*weights)[0] + (*weights)[1], 2, 1e-9);
    first.push_back((*weights)[0]);
  }
  EXPECT_NEAR(std::abs(first[0] - 1), 0.3, 1e-9);
  EXPECT_NE(first[0], first[1]);
}

Scenario rotating() {
  Scenario scenario;
  scenario.servers.assign(6, ServerSpec{});
  scenario.clients = 10;
  scenario.arrivals.rho = 0.7;
  scenario.duration_s = 120;
  scenario.warmup_s = 10;
  Slowness slow;
  slow.kind = Slowness::Kind::kRotate;
  slow.count = 2;
  slow.factor = 0.4;
  slow.every_s = 4;
  scenario.slowness = {slow};
  return scenario;
}

TEST(Oracles, WhatIsKnownEarlierIsWorthMore) {
  const auto p99 = [](const char* policy) {
    return Simulation(rotating(), **find_technique(policy), 3, *find_loop("istio")).run().p99_ms;
  };
  const double loop = p99("oracle_loop");
  const double foresight = p99("oracle_foresight");
  EXPECT_LT(foresight, loop);
}

TEST(Loops, AreKnownByName) {
  EXPECT_EQ(find_loop("eds")->tick_s, 0.047);
  EXPECT_EQ(find_loop("istio")->apply_delay_s, 0.12);
  const auto none = find_loop("fast");
  ASSERT_FALSE(none.ok());
  EXPECT_NE(none.error().message.find("eds, istio_fast, istio"), std::string::npos);
}

TEST(RandomWorlds, AreGoodAndOfEveryKind) {
  int pools = 0;
  int outside = 0;
  int periodic = 0;
  for (std::uint64_t seed = 1; seed <= 100; ++seed) {
    const auto world = load_scenario("random:" + std::to_string(seed));
    ASSERT_TRUE(world.ok());
    EXPECT_LT(mean_load(*world), 0.95) << seed;
    EXPECT_GT(base_rate(*world), 0);
    pools += world->servers[0].workers > 1 ? 1 : 0;
    outside += world->wait.mean_s > 0 ? 1 : 0;
    periodic += !world->slowness.empty() && world->slowness[0].kind == Slowness::Kind::kPeriodic ? 1 : 0;
  }
  EXPECT_GT(pools, 10);
  EXPECT_GT(outside, 20);
  EXPECT_GT(periodic, 10);
}

}  // namespace
}  // namespace ballast::sim
