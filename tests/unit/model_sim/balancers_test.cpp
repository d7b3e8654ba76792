// SPDX-License-Identifier: Apache-2.0
// Envoy's balancers and the oracles against sequences computed by hand.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "model/sim/balancers/edf.h"
#include "model/sim/balancers/envoy.h"
#include "model/sim/balancers/hashing.h"
#include "model/sim/balancers/reported.h"
#include "view.h"

namespace ballast::sim {
namespace {

using ::testing::ElementsAre;

std::vector<std::size_t> edf_picks(EdfScheduler& edf, const std::vector<double>& weights, int n) {
  std::vector<std::size_t> picks;
  for (int i = 0; i < n; ++i) {
    picks.push_back(edf.pick([&](std::size_t each) { return weights[each]; }));
  }
  return picks;
}

TEST(Edf, FollowsDeadlinesAndBreaksTiesByInsertion) {
  // a is due at .5, 1, ...; b at .25, .5, .75, 1: b, then a (there first), b, b, a, b.
  EdfScheduler edf;
  const std::vector<double> weights = {2, 4};
  edf.build(weights, 0);
  EXPECT_THAT(edf_picks(edf, weights, 9), ElementsAre(1, 0, 1, 1, 0, 1, 1, 0, 1));
}

TEST(Edf, SkippedPicksAreThePicksThatWouldHaveBeenMade) {
  const std::vector<double> weights = {1, M_SQRT2, M_E, 0.3137};  // no two deadlines are equal
  EdfScheduler whole;
  whole.build(weights, 0);
  const auto all = edf_picks(whole, weights, 240);
  for (std::uint64_t skipped = 0; skipped < 200; skipped += 7) {
    EdfScheduler edf;
    edf.build(weights, skipped);
    const std::vector<std::size_t> expected(all.begin() + static_cast<std::ptrdiff_t>(skipped),
                                            all.begin() + static_cast<std::ptrdiff_t>(skipped) + 40);
    EXPECT_EQ(edf_picks(edf, weights, 40), expected) << "after " << skipped;
  }
}

TEST(RoundRobin, GoesInTurnFromARandomStart) {
  Proxy proxy(3);
  std::vector<int> starts(3, 0);
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    RoundRobin balancer(proxy.view(seed), Weights::kNone);
    balancer.set_endpoints(endpoints({5, 1, 1}));
    const std::uint32_t first = balancer.pick({});
    ++starts[first];
    for (std::uint32_t i = 1; i < 7; ++i) {
      EXPECT_EQ(balancer.pick({}), (first + i) % 3);
    }
  }
  EXPECT_GT(*std::min_element(starts.begin(), starts.end()), 8);
}

TEST(WeightedRoundRobin, KeepsStrictRatios) {
  Proxy proxy(3);
  RoundRobin balancer(proxy.view(), Weights::kOperator);
  balancer.set_endpoints(endpoints({4, 2, 1}));
  EXPECT_THAT(shares(balancer, 3, 700),
              ElementsAre(::testing::DoubleNear(4 / 7., 0.003), ::testing::DoubleNear(2 / 7., 0.003),
                          ::testing::DoubleNear(1 / 7., 0.003)));
}

TEST(WeightedRoundRobin, FirstPicksDifferBetweenProxies) {
  Proxy proxy(4);
  std::vector<int> firsts(4, 0);
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    RoundRobin balancer(proxy.view(seed), Weights::kOperator);
    balancer.set_endpoints(endpoints({1, 1, 1, 2}));
    ++firsts[balancer.pick({})];
  }
  // Without the random start all 200 would begin with the heaviest.
  EXPECT_GT(firsts[0], 15);
  EXPECT_NEAR(firsts[3], 80, 30);
}

TEST(LeastRequest, DrawsTwoWithReplacementWhenWeightsAreEqual) {
  Proxy proxy(2);
  proxy.active = {9, 0};
  LeastRequest balancer(proxy.view(), Weights::kEds);
  balancer.set_endpoints(endpoints({1, 1}));
  // The loaded one only when both draws hit it: 1/4. EDF would give it 1/11, draws without
  // replacement 0.
  EXPECT_NEAR(shares(balancer, 2, 20000)[0], 0.25, 0.01);
}

TEST(LeastRequest, SecondDrawNeedsFewerNotEqual) {
  Proxy proxy(4);
  LeastRequest balancer(proxy.view(), Weights::kEds);
  balancer.set_endpoints(endpoints({1, 1, 1, 1}));
  for (const double share : shares(balancer, 4, 20000)) {
    EXPECT_NEAR(share, 0.25, 0.015);
  }
}

TEST(LeastRequest, LeavesChoicesForTheScheduleWhenWeightsDifferByOne) {
  Proxy proxy(2);
  proxy.active = {9, 0};
  LeastRequest balancer(proxy.view(), Weights::kEds);
  balancer.set_endpoints(endpoints({1000, 999}));
  // 1000/10 against 999/1.
  EXPECT_NEAR(shares(balancer, 2, 11000)[0], 100 / 1099., 0.002);
}

TEST(LeastRequest, ScheduleRemembersTheLoadOfTheLastPick) {
  Proxy proxy(2);
  LeastRequest balancer(proxy.view(), Weights::kEds);
  balancer.set_endpoints(endpoints({3, 1}));
  while (balancer.pick({}) != 1) {
  }
  // 1 was put back at weight 1: three picks of 0 are due before it, whatever 1's load becomes.
  proxy.active[1] = 50;
  int before = 0;
  while (balancer.pick({}) == 0) {
    ++before;
  }
  EXPECT_NEAR(before, 3, 1);
  // Now it was put back at 1/51.
  before = 0;
  while (balancer.pick({}) == 0) {
    ++before;
  }
  EXPECT_NEAR(before, 153, 1);
}

TEST(LeastRequest, BiasBendsTheSchedule) {
  Proxy proxy(2);
  proxy.active = {3, 0};
  LeastRequestOptions options;
  options.active_request_bias = 2;
  LeastRequest balancer(proxy.view(), Weights::kEds, options);
  balancer.set_endpoints(endpoints({16, 2}));
  EXPECT_NEAR(shares(balancer, 2, 9000)[0], 1 / 3., 0.002);  // 16/16 against 2/1
}

TEST(LeastRequest, FullScanTakesTheLeastAndTiesAtRandom) {
  Proxy proxy(4);
  proxy.active = {2, 1, 1, 7};
  LeastRequestOptions options;
  options.full_scan = true;
  LeastRequest balancer(proxy.view(), Weights::kNone, options);
  balancer.set_endpoints(endpoints({1, 1, 1, 1}));
  const auto picked = shares(balancer, 4, 10000);
  EXPECT_EQ(picked[0] + picked[3], 0);
  EXPECT_NEAR(picked[1], 0.5, 0.02);
}

TEST(SlowStart, WeighsByAgeAndKeepsTheScheduleUntilEndpointsChange) {
  Proxy proxy(2);
  LeastRequestOptions options;
  options.slow_start_window_s = 60;
  LeastRequest balancer(proxy.view(), Weights::kNone, options);
  auto list = endpoints({1, 1});
  list[1].joined_s = 100;
  proxy.now = 100 + 3;  // 3/60 is below the least of 10 %
  balancer.set_endpoints(list);
  EXPECT_NEAR(shares(balancer, 2, 11000)[1], 0.1 / 1.1, 0.002);
  proxy.now = 100 + 30;
  shares(balancer, 2, 100);
  EXPECT_NEAR(shares(balancer, 2, 9000)[1], 0.5 / 1.5, 0.002);
  proxy.now = 100 + 61;
  shares(balancer, 2, 100);
  proxy.active = {9, 0};
  shares(balancer, 2, 100);
  EXPECT_NEAR(shares(balancer, 2, 11000)[0], 1 / 11., 0.002);  // still the schedule
  balancer.set_endpoints(list);
  EXPECT_NEAR(shares(balancer, 2, 20000)[0], 0.25, 0.01);  // two choices again
}

TEST(Random, IgnoresWeightsAndLoad) {
  Proxy proxy(4);
  proxy.active = {9, 0, 0, 0};
  Random balancer(proxy.view());
  balancer.set_endpoints(endpoints({8, 1, 1, 1}));
  for (const double share : shares(balancer, 4, 20000)) {
    EXPECT_NEAR(share, 0.25, 0.015);
  }
}

TEST(LeastConnections, FewestOverWeightTiesInTurn) {
  Proxy proxy(3);
  LeastConnections balancer(proxy.view());
  balancer.set_endpoints(endpoints({2, 1, 1}));
  // 0/2, 0/1, 0/1: ties in turn after the first listed.
  std::vector<std::uint32_t> picks;
  for (int i = 0; i < 8; ++i) {
    picks.push_back(balancer.pick({}));
    ++proxy.active[picks.back()];
  }
  EXPECT_THAT(picks, ElementsAre(1, 2, 0, 0, 1, 2, 0, 0));
}

TEST(Ring, EntriesGoByWeightAndAKeyStaysWhenOthersLeave) {
  const auto all = endpoints({2, 1, 1});
  const Ring ring(all, Ring::kMinimumSize);
  EXPECT_EQ(ring.size(), 1024U);
  const Ring fewer({all[0], all[1]}, Ring::kMinimumSize);
  std::vector<int> counts(3, 0);
  int moved = 0;
  for (std::uint64_t key = 0; key < 20000; ++key) {
    const auto before = ring.find(mix(key));
    const auto after = fewer.find(mix(key));
    ++counts[before];
    moved += before != 2 && before != after ? 1 : 0;
  }
  EXPECT_NEAR(counts[0] / 20000., 0.5, 0.06);
  // The ring is sized anew (a heavier endpoint has more entries), so a few keys move.
  EXPECT_LT(moved, 20000 / 4);
}

TEST(Maglev, FillsTheTableOfThePaper) {
  // Eisenbud 2016, section 3.4: size 7, (offset, skip) = (3,4), (0,2), (3,1).
  const std::vector<MaglevTable::Permutation> three = {{0, 3, 4, 1}, {1, 0, 2, 1}, {2, 3, 1, 1}};
  EXPECT_THAT(MaglevTable::fill(three, 7), ElementsAre(1, 0, 1, 0, 2, 2, 0));
  EXPECT_THAT(MaglevTable::fill({three[0], three[2]}, 7), ElementsAre(0, 0, 0, 0, 2, 2, 2));
}

TEST(Maglev, WeightsSitRoundsOut) {
  const MaglevTable table(endpoints({3, 1}));
  int first = 0;
  for (std::uint64_t place = 0; place < MaglevTable::kSize; ++place) {
    first += table.find(place) == 0 ? 1 : 0;
  }
  EXPECT_NEAR(first / 65537., 0.75, 0.001);
}

TEST(SquareRootSplit, IsTheRule) {
  // C = 5, sum of roots 3: 4 - 2 * 1.5 / 3 and 1 - 1 * 1.5 / 3.
  EXPECT_THAT(square_root_split({4, 1}, 3.5), ElementsAre(3, 0.5));
  // At a load of 1 the small one would get a negative share: it is left out.
  const auto split = square_root_split({4, 1}, 1);
  EXPECT_DOUBLE_EQ(split[0], 1);
  EXPECT_DOUBLE_EQ(split[1], 0.5 / 1000);
}

TEST(SquareRootSplit, NoOtherSplitHasALowerMean) {
  const std::vector<double> c = {4, 2, 1};
  const double load = 4;
  const auto mean = [&](double a, double b) {
    const double rest = load - a - b;
    return a / (c[0] - a) + b / (c[1] - b) + rest / (c[2] - rest);
  };
  const auto best = square_root_split(c, load);
  for (const double step : {-0.01, 0.01}) {
    EXPECT_LT(mean(best[0], best[1]), mean(best[0] + step, best[1]));
    EXPECT_LT(mean(best[0], best[1]), mean(best[0], best[1] + step));
    EXPECT_LT(mean(best[0], best[1]), mean(best[0] + step, best[1] - step));
  }
}

TEST(OracleWeights, FollowTheTrueCapacitiesByTheSquareRootRule) {
  using ::testing::DoubleNear;
  Proxy proxy(2);
  proxy.world.capacities = {4, 1};
  LeastRequest balancer(proxy.view(), Weights::kNow, {}, 3.5);
  balancer.set_endpoints(endpoints({1, 1}));
  EXPECT_THAT(shares(balancer, 2, 700), ElementsAre(DoubleNear(6 / 7., 0.003), DoubleNear(1 / 7., 0.003)));
  EXPECT_GT(balancer.period_s(), 0);
  proxy.world.capacities = {1, 4};
  balancer.on_tick();
  EXPECT_THAT(shares(balancer, 2, 700), ElementsAre(DoubleNear(1 / 7., 0.003), DoubleNear(6 / 7., 0.003)));
  proxy.world.capacities = {0, 4};  // the first stands still
  balancer.on_tick();
  EXPECT_GT(shares(balancer, 2, 1000)[1], 0.99);
}

TEST(ShortestExpectedDelay, LooksAtAllAndAtSpeeds) {
  Proxy proxy(3);
  proxy.world.capacities = {1, 0.5, 0.25};
  proxy.world.flights = {2, 0, 0};
  ShortestExpectedDelay balancer(proxy.view());
  balancer.set_endpoints(endpoints({1, 1, 1}));
  EXPECT_EQ(balancer.pick({}), 1U);  // 3, 2, 4
  proxy.world.flights = {0, 0, 0};
  EXPECT_EQ(balancer.pick({}), 0U);
  proxy.world.capacities[0] = 0;  // stands still
  EXPECT_EQ(balancer.pick({}), 1U);
}

}  // namespace
}  // namespace ballast::sim
