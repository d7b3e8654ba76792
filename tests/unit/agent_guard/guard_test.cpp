// SPDX-License-Identifier: Apache-2.0
#include "agent/guard/guard.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <type_traits>

#include "refused.h"
#include "views.h"

namespace ballast::guard {
namespace {

using testing::kTick;
using testing::kWeb;
using testing::view;
using Weights = std::vector<std::uint32_t>;

static_assert(!std::is_default_constructible_v<GuardedWeights>, "nobody but the guard makes weights");

Weights weights(const GuardedWeights& g) {
  Weights out;
  for (const WeightedEndpoint& e : g.endpoints()) {
    out.push_back(e.weight);
  }
  return out;
}

std::uint32_t reasons(const GuardedWeights& g) {
  std::uint32_t all = 0;
  for (const WeightedEndpoint& e : g.endpoints()) {
    all |= e.reasons;
  }
  return all;
}

struct Bench {
  Guard guard{GuardOptions{.hold_claims = false}};  // these views count no requests; Claims does
  MonotonicNs now = 1'000'000'000ULL;
  GuardedWeights apply(const ServiceView& v, int ticks = 1) {
    for (int i = 1; i < ticks; ++i) {
      guard.apply(v, now += kTick);
    }
    return guard.apply(v, now += kTick);
  }
};

TEST(Guard, PassesProportions) {
  Bench bench;
  const GuardedWeights g = bench.apply(view({4, 2, 1, 1}), 5);
  EXPECT_EQ(weights(g), (Weights{2000, 1000, 500, 500}));
  EXPECT_FALSE(g.neutral());
  EXPECT_EQ(reasons(g), 0U);
  EXPECT_EQ(g.why(), "weighted");
  EXPECT_EQ(g.endpoints()[1].address, "127.1.0.1");
  EXPECT_EQ(g.endpoints()[1].port, 8080);
  EXPECT_DOUBLE_EQ(g.endpoints()[0].proposed_share, 0.5);
  EXPECT_NEAR(g.endpoints()[0].guarded_share, 0.5, 1e-9);
}

TEST(Guard, AHalvedPodNeedsOneTick) {
  Bench bench;
  EXPECT_EQ(weights(bench.apply(view({1, 2, 2, 2}))), weights(bench.apply(view({1, 2, 2, 2}))));
  const Weights w = weights(bench.apply(view({1, 2, 2, 2})));
  EXPECT_NEAR(w[0], 571, 1);
}

TEST(Guard, StepsAreBounded) {
  Bench bench;
  const GuardedWeights first = bench.apply(view({4, 1, 1, 1, 1, 1, 1, 1, 1, 1}));
  EXPECT_TRUE(reasons(first) & kStep);
  EXPECT_LE(first.endpoints()[0].weight, 1000 * std::exp(0.7) + 1);
  EXPECT_NEAR(bench.apply(view({4, 1, 1, 1, 1, 1, 1, 1, 1, 1}), 3).endpoints()[0].weight, 3077, 2);
}

TEST(Guard, FloorAndCap) {
  Bench bench;
  const GuardedWeights g = bench.apply(view({1000, 1, 1, 1, 1, 1, 1, 1, 1, 0.001}), 10);
  EXPECT_EQ(g.endpoints()[0].weight, 4000U);
  EXPECT_TRUE(g.endpoints()[0].reasons & kCap);
  EXPECT_GE(g.endpoints()[9].weight, 100U);
  EXPECT_TRUE(g.endpoints()[9].reasons & kFloor);
}

TEST(Guard, DeadbandHoldsSmallChangesBack) {
  Bench bench;
  const Weights before = weights(bench.apply(view({2, 1, 1}), 5));
  const GuardedWeights held = bench.apply(view({2.05, 1, 1}));
  EXPECT_FALSE(held.changed());
  EXPECT_EQ(weights(held), before);
  EXPECT_TRUE(reasons(held) & kDeadband);
  const GuardedWeights pushed = bench.apply(view({2.3, 1, 1}));
  EXPECT_TRUE(pushed.changed());
  EXPECT_NE(weights(pushed), before);
  EXPECT_FALSE(bench.apply(view({2.3, 1, 1})).changed());
}

TEST(Guard, SlowDriftIsPushedOnceItAddsUp) {
  Bench bench;
  bench.apply(view({1.5, 1}), 5);
  int pushes = 0;
  for (int i = 1; i <= 100; ++i) {
    pushes += bench.apply(view({1.5 * std::exp(0.004 * i), 1})).changed();
  }
  EXPECT_GT(pushes, 2);
  EXPECT_LT(pushes, 10);
}

TEST(Guard, GarbageIsNeutralForThisTick) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double inf = std::numeric_limits<double>::infinity();
  for (const double bad : {nan, inf, -inf, -0.1}) {
    Bench bench;
    bench.apply(view({4, 1, 1}), 5);
    auto v = view({4, 1, 1});
    v.endpoints[1].share = bad;
    const GuardedWeights g = bench.apply(v);
    EXPECT_TRUE(g.neutral());
    EXPECT_TRUE(g.changed());
    EXPECT_EQ(weights(g), (Weights{1000, 1000, 1000}));
    EXPECT_TRUE(reasons(g) & kGarbage);
    EXPECT_TRUE(std::isfinite(g.endpoints()[1].proposed_share));
    EXPECT_FALSE(bench.apply(view({4, 1, 1})).neutral());
  }
  Bench zero;
  auto v = view({1, 1});
  v.endpoints[0].share = v.endpoints[1].share = 0;
  EXPECT_TRUE(reasons(zero.apply(v)) & kGarbage);
}

TEST(Guard, PolicyNeutralIsReachedByBoundedSteps) {
  Bench bench;
  bench.apply(view({8, 1, 1, 1, 1, 1, 1, 1, 1, 1}), 10);
  auto v = view({1, 1, 1, 1, 1, 1, 1, 1, 1, 1});
  v.neutral = true;
  v.why = "neutral: small differences";
  const GuardedWeights first = bench.apply(v);
  EXPECT_FALSE(first.neutral());
  EXPECT_TRUE(reasons(first) & kStep);
  const GuardedWeights last = bench.apply(v, 5);
  EXPECT_TRUE(last.neutral());
  EXPECT_EQ(weights(last), Weights(10, 1000));
  EXPECT_TRUE(reasons(last) & kNeutral);
  EXPECT_EQ(last.why(), v.why);
}

TEST(Guard, StaleEndpointsFollowTheirPriorAlone) {
  Bench bench;
  auto v = view({std::exp(0.5), 1, 1});
  v.endpoints[0].offset = 0.5;
  v.endpoints[0].age_s = 3;
  const GuardedWeights g = bench.apply(v, 3);
  EXPECT_TRUE(g.endpoints()[0].reasons & kStale);
  EXPECT_FALSE(g.endpoints()[1].reasons & kStale);
  EXPECT_NEAR(g.endpoints()[0].weight, g.endpoints()[1].weight, 2) << "exp(0.5) was all offset";
}

TEST(Guard, AMajorityOfOldTelemetryIsNeutral) {
  Bench bench;
  auto v = view({4, 1, 1, 1});
  bench.apply(v, 5);
  v.endpoints[0].age_s = 11;
  v.endpoints[1].age_s = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(bench.apply(v).neutral()) << "half is no majority";
  v.endpoints[2].known = false;
  const GuardedWeights g = bench.apply(v);
  EXPECT_TRUE(g.neutral());
  EXPECT_TRUE(reasons(g) & kStale);
}

TEST(Guard, NearEqualIsNotEqual) {
  Bench bench;
  const GuardedWeights g = bench.apply(view({1, 1, 1, 1}));
  EXPECT_FALSE(g.neutral());
  EXPECT_EQ(weights(g), (Weights{999, 1000, 1000, 1001}));
}

TEST(Guard, BlendGoesPartOfTheWay) {
  Guard guard(GuardOptions{.blend = 0.5});
  const GuardedWeights g = guard.apply(view({3, 2, 1}), 1);
  EXPECT_EQ(weights(g), (Weights{1250, 1000, 750}));
  EXPECT_TRUE(reasons(g) & kBlend);
}

TEST(Guard, ShadowAndOffWriteEqualWeightsAndSayWhatTheyWould) {
  for (const Mode mode : {Mode::kShadow, Mode::kOff}) {
    Bench bench;
    bench.apply(view({3, 1}), 5);
    auto labelled = view({3, 1});
    labelled.word = {.mode = mode, .why = "its label"};
    const GuardedWeights g = bench.apply(labelled);
    EXPECT_EQ(g.mode(), mode);
    EXPECT_THAT(g.why(), ::testing::HasSubstr("its label"));
    EXPECT_TRUE(g.neutral());
    EXPECT_TRUE(g.changed());
    EXPECT_EQ(weights(g), (Weights{1000, 1000}));
    EXPECT_THAT(g.why(), ::testing::HasSubstr("mode"));
    EXPECT_NEAR(g.endpoints()[0].guarded_share, 0.75, 1e-9);
    labelled.word.mode = Mode::kActive;
    EXPECT_FALSE(bench.apply(labelled).neutral());
  }
}

TEST(Guard, AServiceReleasedByHandIsNeutral) {
  Bench bench;
  bench.apply(view({3, 1}), 5);
  auto released = view({3, 1});
  released.word = {.released = true, .why = "ballastctl release"};
  const GuardedWeights g = bench.apply(released);
  EXPECT_TRUE(g.neutral());
  EXPECT_TRUE(reasons(g) & kKillSwitch);
  EXPECT_THAT(g.why(), ::testing::HasSubstr("ballastctl release"));
  EXPECT_FALSE(bench.apply(view({3, 1})).neutral());
}

TEST(Guard, AServicesOwnWordIsNeverMoreThanTheOptions) {
  Guard guard(GuardOptions{.mode = Mode::kShadow});
  auto labelled = view({3, 1});
  labelled.word = {.mode = Mode::kActive, .why = "its label"};
  const GuardedWeights g = guard.apply(labelled, kTick);
  EXPECT_TRUE(g.neutral());
  EXPECT_EQ(g.mode(), Mode::kShadow);
  EXPECT_EQ(g.why(), "neutral: mode shadow, nothing is acted on") << "the label is not the cause";
}

TEST(Guard, ReleaseGivesEqualWeightsForWhatIsInForce) {
  Bench bench;
  bench.apply(view({3, 1}), 5);
  const GuardedWeights g = bench.guard.release(kWeb);
  EXPECT_TRUE(g.neutral());
  EXPECT_TRUE(g.changed());
  EXPECT_EQ(weights(g), (Weights{1000, 1000}));
  EXPECT_FALSE(bench.guard.release(kWeb).changed());
  EXPECT_EQ(weights(bench.apply(view({3, 1}))).size(), 2U);
  EXPECT_TRUE(bench.guard.release({"no", "such"}).endpoints().empty());
}

TEST(Guard, MembershipChangesAreAlwaysPushed) {
  Bench bench;
  bench.apply(view({2, 1, 1}), 5);
  const GuardedWeights joined = bench.apply(view({2, 1, 1, 1}));
  EXPECT_TRUE(joined.changed());
  EXPECT_EQ(joined.endpoints().size(), 4U);
  EXPECT_TRUE(bench.apply(view({2, 1, 1})).changed());
  auto moved = view({2, 1, 1});
  moved.endpoints[1].address = "127.1.0.99";
  EXPECT_TRUE(bench.apply(moved).changed()) << "a pod at another address is another endpoint";
  auto neutral = view({1, 1});
  neutral.neutral = true;
  Bench other;
  EXPECT_TRUE(other.apply(neutral).changed()) << "the first weights of a service";
  EXPECT_FALSE(other.apply(neutral).changed());
  neutral.endpoints.pop_back();
  EXPECT_TRUE(other.apply(neutral).changed());
}

TEST(Guard, AnEmptyViewForgetsTheService) {
  Bench bench;
  bench.apply(view({2, 1}));
  EXPECT_EQ(bench.guard.services(), std::vector<spec::ServiceId>{kWeb});
  const GuardedWeights g = bench.apply(view({}));
  EXPECT_TRUE(g.changed());
  EXPECT_TRUE(g.endpoints().empty());
  EXPECT_TRUE(bench.guard.services().empty());
  EXPECT_FALSE(bench.apply(view({})).changed());
}

TEST(Guard, OneEndpointIsNeutral) {
  Bench bench;
  const GuardedWeights g = bench.apply(view({1}));
  EXPECT_TRUE(g.neutral());
  EXPECT_EQ(weights(g), Weights{1000});
}

TEST(Guard, HarmTripsAndComesBackAfterTheHold) {
  Bench bench;
  auto v = view({3, 1});
  v.neutral = true;
  bench.apply(v, 4 * 60);
  v.neutral = false;
  v.p99_ns = 3e8;
  ASSERT_FALSE(bench.apply(v).neutral());
  const GuardedWeights g = bench.apply(v, 4 * 21);
  EXPECT_TRUE(g.neutral());
  EXPECT_EQ(weights(g), (Weights{1000, 1000}));
  EXPECT_TRUE(reasons(g) & kTripped);
  EXPECT_THAT(g.why(), ::testing::HasSubstr("tripped"));
  EXPECT_FALSE(bench.apply(v, 4 * 32).neutral()) << "30 s later it is tried again";
}

// A neutral past of 1.5, 6 or 9 s, then p99 of 5 s and 90 % errors at weights 3700:100:100:100.
TEST(Guard, HarmAfterAShortNeutralPastTripsWithinTwentySeconds) {
  for (const double neutral_s : {1.5, 6.0, 9.0}) {
    Bench bench;
    auto v = view({37, 1, 1, 1});
    v.neutral = true;
    v.p99_ns = 2e7;
    bench.apply(v, static_cast<int>(4 * neutral_s));
    v.neutral = false;
    ASSERT_FALSE(bench.apply(v).neutral()) << "weights are not kept waiting";
    v.p99_ns = 5e9;
    v.error_rate = 0.9;
    const GuardedWeights g = bench.apply(v, 4 * 20);
    EXPECT_TRUE(reasons(g) & kTripped) << neutral_s << ": " << g.why();
    EXPECT_EQ(weights(g), (Weights{1000, 1000, 1000, 1000}));
  }
}

// Slow since it is weighted: equal weights are asked where the heavy endpoint is the slow one.
TEST(Guard, AsksEqualWeightsWhereTheHeavyOnesAreSlow) {
  for (const bool heavy_slow : {true, false}) {
    Bench bench;
    auto v = view({3, 1});
    v.neutral = true;
    v.p99_ns = 2e7;
    bench.apply(v, 6);
    v.neutral = false;
    v.p99_ns = 3e8;
    v.endpoints[heavy_slow ? 0 : 1].p99_ns = 3e8;
    v.endpoints[heavy_slow ? 1 : 0].p99_ns = 2e7;
    const GuardedWeights g = bench.apply(v, 4 * 22);
    EXPECT_EQ(g.neutral(), heavy_slow) << g.why();
    EXPECT_FALSE(reasons(g) & kTripped);
  }
}

TEST(Guard, ServicesAreApart) {
  Bench bench;
  bench.apply(view({3, 1}), 5);
  auto other = view({1, 3});
  other.service.name = "cart";
  bench.apply(other, 5);
  EXPECT_EQ(bench.guard.services().size(), 2U);
  EXPECT_FALSE(bench.apply(view({3, 1})).changed());
}

TEST(GuardOptions, ValidateNamesTheKey) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  ballast::testing::expect_refused<GuardOptions>({
      {{.floor = 1.1}, "guard.floor"},
      {{.floor = 0}, "guard.floor"},
      {{.floor = nan}, "guard.floor"},
      {{.floor = 0.5, .cap = 0.4}, "guard.cap"},
      {{.max_step = 0.09}, "guard.deadband"},
      {{.cap = 0.9}, "guard.cap"},
      {{.max_step = 0}, "guard.max_step"},
      {{.deadband = -0.1}, "guard.deadband"},
      {{.max_step = 0.04}, "guard.deadband"},
      {{.stale_after_s = 0}, "guard.stale_after_s"},
      {{.neutral_after_s = 1}, "guard.stale_after_s"},
      {{.blend = 1.1}, "guard.blend"},
      {{.trip_ratio = 1}, "guard.trip_ratio"},
      {{.trip_windows = 0}, "guard.trip_windows"},
      {{.window_s = 0}, "guard.window_s"},
  });
}

}  // namespace
}  // namespace ballast::guard
