// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/neutral_gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "refused.h"

namespace ballast::decide {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

spec::ServiceAggregate aggregate(double persistence_s, double spread) {
  spec::ServiceAggregate a;
  a.endpoints = a.known = 4;
  a.persistence_s = persistence_s;
  a.capacity_spread = spread;
  return a;
}

const LoopContext kMany{.loop_delay_s = 0.4, .subscribers = 20};
constexpr int kLeave = 2;
const LoopContext kOne{.loop_delay_s = 0.4, .subscribers = 1};

bool after(NeutralGate& gate, const spec::ServiceAggregate& a, const LoopContext& loop, int ticks,
           const GateOptions& options = {}) {
  bool neutral = true;
  for (int i = 0; i < ticks; ++i) {
    neutral = gate.neutral(a, a.capacity_spread, loop, options);
  }
  return neutral;
}

TEST(NeutralGate, LeavesOnlyForLastingAndMaterialDifferences) {
  NeutralGate brief;
  EXPECT_TRUE(after(brief, aggregate(3.9, 0.5), kMany, 100));
  NeutralGate small;
  EXPECT_TRUE(after(small, aggregate(60, 0.09), kMany, 100));
  NeutralGate both;
  EXPECT_FALSE(after(both, aggregate(4.1, 0.11), kMany, kLeave));
}

TEST(NeutralGate, OneTickIsNotEnoughToLeave) {
  NeutralGate gate;
  EXPECT_TRUE(after(gate, aggregate(60, 0.5), kMany, kLeave - 1));
  EXPECT_TRUE(after(gate, aggregate(60, 0.01), kMany, 1));
  EXPECT_TRUE(after(gate, aggregate(60, 0.5), kMany, kLeave - 1)) << "the count begins anew";
  EXPECT_FALSE(after(gate, aggregate(60, 0.5), kMany, 1));
}

TEST(NeutralGate, ASlowLoopWaitsForFourDelays) {
  const LoopContext slow{.tick_s = 2, .loop_delay_s = 2.15, .subscribers = 20};
  NeutralGate other;
  EXPECT_TRUE(after(other, aggregate(60, 0.5), slow, 3));
  EXPECT_FALSE(after(other, aggregate(60, 0.5), slow, 1));
}

TEST(NeutralGate, HysteresisHoldsBetweenTheThresholds) {
  NeutralGate gate;
  ASSERT_FALSE(after(gate, aggregate(60, 0.5), kMany, kLeave));
  EXPECT_FALSE(after(gate, aggregate(2.5, 0.06), kMany, 1000)) << "below leave, above return";
  NeutralGate fresh;
  EXPECT_TRUE(after(fresh, aggregate(2.5, 0.06), kMany, 1000));
}

TEST(NeutralGate, ReturnsAfterSomeTicksOfSmallOrShortDifferences) {
  const GateOptions options;
  for (const auto& low : {aggregate(1.9, 0.5), aggregate(60, 0.04)}) {
    NeutralGate gate;
    ASSERT_FALSE(after(gate, aggregate(60, 0.5), kMany, kLeave));
    EXPECT_FALSE(after(gate, low, kMany, options.return_ticks - 1));
    EXPECT_TRUE(after(gate, low, kMany, 1));
  }
}

TEST(NeutralGate, OneSubscriberLeavesWhenEndpointsProveAlike) {
  const GateOptions options;
  NeutralGate gate;
  spec::ServiceAggregate blind = aggregate(0, 0);
  blind.known = 0;
  EXPECT_TRUE(after(gate, blind, kOne, 10));
  EXPECT_TRUE(after(gate, aggregate(0, 0), kOne, options.return_ticks - 1));
  EXPECT_FALSE(after(gate, aggregate(0, 0), kOne, 1));
  EXPECT_TRUE(after(gate, blind, kOne, 1)) << "blind again";
  EXPECT_TRUE(after(gate, aggregate(0, 0), kOne, options.return_ticks - 1)) << "it proves itself anew";
}

TEST(NeutralGate, DifferencesThatDoNotLastAreNoProofOfLikeness) {
  NeutralGate gate;
  EXPECT_TRUE(after(gate, aggregate(0, 0.287), kOne, 100));
  ASSERT_FALSE(after(gate, aggregate(0, 0.1), kOne, 8));
  ASSERT_TRUE(gate.level());
  EXPECT_FALSE(after(gate, aggregate(0, 0.287), kOne, 1));
  EXPECT_TRUE(after(gate, aggregate(0, 0.287), kOne, 1));
  for (const double bad : {kNan, kInf, -kInf}) {
    NeutralGate fresh;
    EXPECT_TRUE(after(fresh, aggregate(0, bad), kOne, 50)) << bad;
  }
}

TEST(NeutralGate, OneSubscriberIsStrictWhereTheOptionSaysSo) {
  NeutralGate gate;
  EXPECT_TRUE(after(gate, aggregate(0, 0), kOne, 100, {.single_subscriber_leaves = false}));
}

TEST(NeutralGate, OneSubscriberIsLevelUntilDifferencesLast) {
  NeutralGate gate;
  ASSERT_FALSE(after(gate, aggregate(0, 0), kOne, 8));
  EXPECT_TRUE(gate.level());
  ASSERT_FALSE(after(gate, aggregate(60, 0.5), kOne, kLeave));
  EXPECT_FALSE(gate.level()) << "weighted";
  ASSERT_FALSE(after(gate, aggregate(60, 0.01), kOne, 8));
  EXPECT_TRUE(gate.level());
}

TEST(NeutralGate, MoreSubscribersMakeALevelServiceNeutral) {
  NeutralGate gate;
  ASSERT_FALSE(after(gate, aggregate(0, 0), kOne, 8));
  EXPECT_TRUE(after(gate, aggregate(0, 0), kMany, 1));
  EXPECT_FALSE(gate.level());
}

TEST(NeutralGate, UnknownSubscribersAreMany) {
  NeutralGate gate;
  EXPECT_TRUE(after(gate, aggregate(0, 0), {.loop_delay_s = 0.4, .subscribers = 0}, 100));
}

TEST(NeutralGate, OneEndpointIsNeutral) {
  NeutralGate gate;
  spec::ServiceAggregate a = aggregate(60, 0.5);
  a.endpoints = a.known = 1;
  EXPECT_TRUE(after(gate, a, kOne, 10));
}

TEST(NeutralGate, GarbageStaysNeutral) {
  for (const double bad : {kNan, kInf, -kInf, -1.0}) {
    NeutralGate gate;
    EXPECT_TRUE(after(gate, aggregate(bad, bad), kMany, 50)) << bad;
  }
  for (const double delay : {kNan, kInf, 0.0, -1.0}) {
    NeutralGate gate;
    EXPECT_TRUE(after(gate, aggregate(1, 0.5), {.tick_s = 0.25, .loop_delay_s = delay}, 50)) << delay;
  }
}

TEST(NeutralGate, ValidateNamesTheKey) {
  ballast::testing::expect_refused<GateOptions>({
      {{.leave_ratio = 0}, "gate.leave_ratio"},
      {{.return_ratio = 11}, "gate.return_ratio"},
      {{.return_ratio = kNan}, "gate.return_ratio"},
      {{.leave_spread = -1}, "gate.leave_spread"},
      {{.return_spread = 0.2}, "gate.return_spread"},
      {{.leave_ticks = 0}, "gate.leave_ticks"},
      {{.return_ticks = 0}, "gate.return_ticks"},
      {{.level_spread = -1}, "gate.level_spread"},
  });
}

}  // namespace
}  // namespace ballast::decide
