// SPDX-License-Identifier: Apache-2.0
// The prior's turn, from capacities to weights.
#include <gtest/gtest.h>

#include <algorithm>

#include "agent/decide/prior.h"
#include "agent/fleet/local.h"
#include "agent/turn/turn.h"

namespace ballast::turn {
namespace {

class TurnOfThePrior : public ::testing::Test {
 protected:
  /// One tick over pods with these capacities; the guarded weights of the one service.
  guard::GuardedWeights tick(const std::vector<double>& capacities) {
    loop_.now += 250'000'000ULL;
    std::vector<spec::EndpointTelemetry> telemetry;
    for (std::size_t i = 0; i < capacities.size(); ++i) {
      spec::EndpointTelemetry t;
      t.id = {{"shop", "web"}, "web-" + std::to_string(i)};
      t.known = true;
      t.taken = loop_.now;
      t.qps = 20;
      t.p50_ns = 1e6;
      t.p99_ns = 1e7;
      t.capacity_qps = capacities[i];
      telemetry.push_back(t);
    }
    return turn_.decide(fleet_.exchange(turn_.report(std::move(telemetry), loop_)), loop_, policy_)
        .at(0)
        .weights;
  }
  int pushes(const std::vector<double>& capacities, int ticks) {
    int n = 0;
    for (int i = 0; i < ticks; ++i) {
      n += tick(capacities).changed();
    }
    return n;
  }

  spec::LoopTiming loop_{.now = 1'000'000'000ULL, .subscribers = 20};
  decide::PriorPolicy policy_;
  fleet::LocalFleet fleet_;
  Turn turn_{guard::GuardOptions{}};
};

TEST_F(TurnOfThePrior, EqualPodsAndManyProxiesStayNeutral) {
  EXPECT_EQ(pushes({100, 100, 100, 100}, 200), 1);
  EXPECT_TRUE(tick({100, 100, 100, 100}).neutral());
}

TEST_F(TurnOfThePrior, EqualPodsAndOneProxyGetWeightsThatHardlyDifferOnce) {
  loop_.subscribers = 1;
  EXPECT_EQ(pushes({100, 100, 100, 100}, 200), 2) << "equal at first, then level";
  const guard::GuardedWeights g = tick({100, 100, 100, 100});
  EXPECT_FALSE(g.neutral());
  const auto [low, high] =
      std::minmax_element(g.endpoints().begin(), g.endpoints().end(),
                          [](const auto& a, const auto& b) { return a.weight < b.weight; });
  EXPECT_GE(high->weight, low->weight + 1);
  EXPECT_LE(high->weight, low->weight + 4);
}

TEST_F(TurnOfThePrior, LastingDifferencesBecomeWeights) {
  pushes({400, 200, 100, 100}, 40);
  const guard::GuardedWeights g = tick({400, 200, 100, 100});
  EXPECT_FALSE(g.neutral());
  EXPECT_NEAR(g.endpoints()[0].weight, 2000, 5);
  EXPECT_NEAR(g.endpoints()[3].weight, 500, 5);
}

TEST_F(TurnOfThePrior, AHalvedPodIsFollowedWithinTwoTicks) {
  pushes({400, 200, 100, 100}, 40);
  tick({200, 200, 100, 100});
  const guard::GuardedWeights g = tick({200, 200, 100, 100});
  EXPECT_NEAR(g.endpoints()[0].weight, 1333, 10);
}

TEST_F(TurnOfThePrior, AHalvedPodAmongEqualOnesIsFollowedWithinASecond) {
  loop_.subscribers = 1;
  pushes({100, 100, 100, 100}, 40);
  pushes({50, 100, 100, 100}, 3);
  const guard::GuardedWeights g = tick({50, 100, 100, 100});
  EXPECT_NEAR(g.endpoints()[0].weight, 571, 10);
}

}  // namespace
}  // namespace ballast::turn
