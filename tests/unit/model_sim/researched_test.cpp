// SPDX-License-Identifier: Apache-2.0
// The balancers that go by latency, probes or reports, against values computed by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/sim/balancers/latency.h"
#include "model/sim/balancers/reported.h"
#include "view.h"

namespace ballast::sim {
namespace {

Response answer(std::uint32_t server, double sent, double latency) {
  return {server, sent, latency, true, false, 0, 0.01};
}

TEST(PeakEwma, JumpsUpAndDecays) {
  Proxy proxy(2);
  PeakEwma balancer(proxy.view());
  balancer.set_endpoints(endpoints({1, 1}));
  EXPECT_DOUBLE_EQ(balancer.load(0), 0.030);  // nothing known
  balancer.on_response(answer(0, 0, 0.100));
  EXPECT_DOUBLE_EQ(balancer.load(0), 0.100);
  proxy.active[0] = 2;
  EXPECT_DOUBLE_EQ(balancer.load(0), 0.300);
  proxy.now = 10;  // one time constant
  EXPECT_NEAR(balancer.load(0), 0.300 / M_E, 1e-12);
  balancer.on_response(answer(0, 9, 0.500));
  EXPECT_DOUBLE_EQ(balancer.load(0), 1.5);
  proxy.now = 15;
  balancer.on_response(answer(0, 14, 0.020));
  const double past = std::exp(-0.5);
  EXPECT_NEAR(balancer.load(0), 3 * (0.5 * past + 0.020 * (1 - past)), 1e-12);
}

TEST(PeakEwma, TheLowerOfTwoDistinctWins) {
  Proxy proxy(2);
  PeakEwma balancer(proxy.view());
  balancer.set_endpoints(endpoints({1, 1}));
  balancer.on_response(answer(0, 0, 0.010));
  balancer.on_response(answer(1, 0, 0.025));
  EXPECT_DOUBLE_EQ(shares(balancer, 2, 64)[0], 1);  // with replacement 1 would win a quarter
  proxy.active[0] = 2;                              // 0.030 against 0.025
  EXPECT_DOUBLE_EQ(shares(balancer, 2, 64)[1], 1);
}

TEST(C3, ScoreIsTheFormula) {
  Proxy proxy(2);
  proxy.clients = 20;
  C3 balancer(proxy.view());
  balancer.set_endpoints(endpoints({1, 1}));
  balancer.on_response({0, 0, 0.050, true, false, 4, 0.010});
  proxy.active[0] = 2;
  // R - 1/mu + q^3/mu with q = 1 + 2 * 20 + 4.
  EXPECT_NEAR(balancer.score(0), 0.050 - 0.010 + 45. * 45 * 45 * 0.010, 1e-9);
  balancer.on_response({0, 0, 0.150, true, false, 14, 0.020});
  const double mu_inverse = 0.9 * 0.010 + 0.1 * 0.020;
  EXPECT_NEAR(balancer.score(0), 0.060 - mu_inverse + 46. * 46 * 46 * mu_inverse, 1e-9);
  EXPECT_EQ(balancer.pick({}), 1U);  // never seen: score 0
}

TEST(Prequal, HotColdLexicographic) {
  using Pool = std::vector<Prequal::Entry>;
  // Cold (at most 4 in flight): the least latency.
  EXPECT_EQ(Prequal::choose(Pool{{0, 5, 0.001, 0, 1}, {1, 4, 0.030, 0, 1}, {2, 2, 0.020, 0, 1}}, 4), 2U);
  // All hot: the fewest in flight, latency does not matter.
  EXPECT_EQ(Prequal::choose(Pool{{0, 9, 0.001, 0, 1}, {1, 6, 0.900, 0, 1}, {2, 7, 0.002, 0, 1}}, 4), 1U);
}

TEST(Prequal, FollowsItsProbes) {
  Proxy proxy(3);
  proxy.world.probes = {{1, 0.5}, {1, 0.1}, {1, 0.9}};
  Prequal balancer(proxy.view());
  balancer.set_endpoints(endpoints({1, 1, 1}));
  balancer.pick({});  // fills the pool
  for (int i = 0; i < 20; ++i) {
    EXPECT_EQ(balancer.pick({}), 1U);
  }
  proxy.now = 2;  // every entry is too old: a random pick, then probes again
  proxy.world.probes = {{1, 0.05}, {1, 0.1}, {1, 0.9}};
  balancer.pick({});
  EXPECT_EQ(balancer.pick({}), 0U);
}

TEST(L3, WeightIsTheFormula) {
  L3Controller::State state;
  EXPECT_EQ(L3Controller::weight(state), 1);
  state = {true, 20, 40, 0.3, 0.75, 1};
  // (20/40 + 1)^2 = 2.25; .3 + .6 * (1/.75 - 1) = .5
  EXPECT_NEAR(L3Controller::weight(state), 100 / (2.25 * 0.5), 1e-9);
  state.p99_s = 1000;
  EXPECT_EQ(L3Controller::weight(state), 1);
}

TEST(L3, ControllerSmoothsOverItsLoops) {
  Proxy proxy(1);
  proxy.active = {8};
  L3Controller controller;
  controller.add_client(proxy.view());
  controller.set_servers(1);
  const auto loop = [&](double now, double latency, int answers) {
    for (int i = 0; i < answers; ++i) {
      controller.record(answer(0, 0, latency));
    }
    controller.run(now);
  };
  loop(5, 0.1, 50);  // 10/s, P99 .1, 8 in flight
  EXPECT_NEAR(controller.weight_of(0), 100 / (1.8 * 1.8 * 0.1), 1e-3);
  controller.run(7);  // too early: nothing happens
  EXPECT_EQ(controller.version(), 1U);
  loop(10, 0.3, 100);
  const double fast = std::exp(-1);
  const double slow = std::exp(-0.5);
  const double p99 = fast * 0.1 + (1 - fast) * 0.3;
  const double rps = slow * 10 + (1 - slow) * 20;
  EXPECT_NEAR(controller.weight_of(0), 100 / (std::pow(8 / rps + 1, 2) * p99), 1e-3);
}

TEST(LocalityAware, WeightIsQpsOverSquaredLatency) {
  Proxy proxy(2);
  LocalityAware balancer(proxy.view());
  balancer.set_endpoints(endpoints({1, 1}));
  EXPECT_DOUBLE_EQ(balancer.weight(0), balancer.weight(1));
  for (int i = 0; i <= 10; ++i) {  // 10 gaps in 1 s, 20 ms each
    proxy.now = 0.1 * i;
    balancer.on_sent(0);
    balancer.on_response(answer(0, proxy.now, 0.020));
  }
  EXPECT_NEAR(balancer.weight(0), 10 / (0.020 * 0.020), 1e-6);
}

TEST(LocalityAware, OverdueRequestsPullTheWeightDownAndItStaysAboveZero) {
  Proxy proxy(2);
  LocalityAware balancer(proxy.view());
  balancer.set_endpoints(endpoints({1, 1}));
  for (const std::uint32_t server : {0U, 1U}) {
    for (int i = 0; i <= 100; ++i) {
      proxy.now = 0.01 * i;
      balancer.on_sent(server);
      balancer.on_response(answer(server, proxy.now, 0.010));
    }
  }
  EXPECT_NEAR(shares(balancer, 2, 4000)[0], 0.5, 0.05);
  balancer.on_sent(0);
  proxy.now += 1;  // out for 100 times the mean
  shares(balancer, 2, 100);
  EXPECT_NEAR(balancer.weight(0) / balancer.weight(1), 0.010 / 1, 1e-3);
  proxy.now += 1e9;
  shares(balancer, 2, 4000);
  EXPECT_GT(balancer.weight(0), 0);
}

class Cswrr : public ::testing::Test {
 protected:
  Cswrr() : proxy(3), balancer(proxy.view(), false) {
    proxy.world.reports = {{100, 0, 0.5, 0.9}, {100, 0, 0.25, 0.9}, {0, 0, 0, 0}};
    balancer.set_endpoints(endpoints({1, 1, 1}));
  }
  void answers() {
    for (const std::uint32_t server : {0U, 1U, 2U}) {
      balancer.on_response(answer(server, proxy.now, 0.01));
    }
  }
  Proxy proxy;
  ClientSideWeightedRoundRobin balancer;
};

TEST_F(Cswrr, BlackoutThenQpsOverUtilisationAndMeanForTheSilent) {
  answers();
  proxy.now = 9.9;
  answers();
  balancer.on_tick();
  EXPECT_EQ(balancer.weight(0), 0);
  EXPECT_NEAR(shares(balancer, 3, 3000)[0], 1 / 3., 0.002);
  proxy.now = 10.1;
  answers();
  balancer.on_tick();
  EXPECT_EQ(balancer.weight(0), 200);
  EXPECT_EQ(balancer.weight(1), 400);
  const auto picked = shares(balancer, 3, 9000);
  EXPECT_NEAR(picked[0], 2 / 9., 0.002);
  EXPECT_NEAR(picked[1], 4 / 9., 0.002);
  EXPECT_NEAR(picked[2], 3 / 9., 0.002);  // no report: the mean of 200 and 400
}

TEST_F(Cswrr, ErrorsArePenalisedAndWeightsExpire) {
  proxy.world.reports[0].eps = 50;
  answers();
  proxy.now = 11;
  answers();
  EXPECT_EQ(balancer.weight(0), 100);  // 100 / (.5 + .5)
  proxy.now = 11 + 181;
  EXPECT_EQ(balancer.weight(0), 0);
  answers();
  EXPECT_EQ(balancer.weight(0), 0);  // the blackout begins anew
}

}  // namespace
}  // namespace ballast::sim
