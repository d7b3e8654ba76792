// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/rollout.h"

#include <gtest/gtest.h>

#include <limits>

#include "observations.h"

namespace ballast::decide {
namespace {

using testing::observation;

/// Drives a recorder; tick t shows feature 0 = t and pays reward t / 100.
struct Bench {
  RolloutRecorder recorder;
  spec::ServiceObservation seen = observation({0, 0});
  ServiceProposal proposal = [] {
    ServiceProposal p{.service = {"shop", "web"}, .neutral = false};
    for (const char* pod : {"web-0", "web-1"}) {
      p.endpoints.push_back({.id = {{"shop", "web"}, pod}, .action = 3, .behaviour_probability = 0.5F});
    }
    return p;
  }();
  std::uint64_t version = 1;
  MonotonicNs now = 1'000'000'000ULL;
  int t = 0;

  void tick(int count = 1) {
    for (int i = 0; i < count; ++i) {
      for (auto& e : seen.endpoints) {
        e.features[0] = static_cast<float>(t);
        e.features[spec::kFeatures] = static_cast<float>(t) + 0.5F;
      }
      recorder.record(seen, proposal, 7, version, static_cast<float>(t) / 100, now);
      now += 250'000'000ULL;
      ++t;
    }
  }
};

TEST(Rollout, HoldsNStepsWithTheRewardOfTheFollowingTick) {
  Bench bench{.recorder = RolloutRecorder(5)};
  bench.tick(5);
  EXPECT_EQ(bench.recorder.ready(), 0U) << "the fifth reward has not come";
  bench.tick();
  const auto rollouts = bench.recorder.take();
  ASSERT_EQ(rollouts.size(), 2U) << "one for each endpoint";
  const spec::Rollout& r = rollouts[0];
  EXPECT_EQ(r.endpoint, "shop/web/web-0");
  EXPECT_EQ(rollouts[1].endpoint, "shop/web/web-1");
  EXPECT_EQ(r.epoch, 7U);
  EXPECT_EQ(r.version, 1U);
  EXPECT_FALSE(r.terminal);
  ASSERT_EQ(r.steps.size(), 5U);
  for (int i = 0; i < 5; ++i) {
    const spec::Step& step = r.steps[static_cast<std::size_t>(i)];
    EXPECT_EQ(step.observation[0], static_cast<float>(i));
    EXPECT_EQ(step.context[0], static_cast<float>(i) + 0.5F) << "own features are the mean";
    EXPECT_EQ(step.reward, static_cast<float>(i + 1) / 100);
    EXPECT_EQ(step.action, 3);
    EXPECT_EQ(step.behaviour_probability, 0.5F);
  }
  EXPECT_EQ(r.bootstrap_observation[0], 5.0F);
  EXPECT_EQ(r.bootstrap_context[0], 5.5F);
  EXPECT_EQ(bench.recorder.ready(), 0U);
}

TEST(Rollout, TheNextBeginsWhereTheLastEnded) {
  Bench bench{.recorder = RolloutRecorder(3)};
  bench.tick(7);
  const auto rollouts = bench.recorder.take();
  ASSERT_EQ(rollouts.size(), 4U);
  EXPECT_EQ(rollouts[0].bootstrap_observation, rollouts[2].steps[0].observation);
}

TEST(Rollout, AChangeOfThetaCuts) {
  Bench bench{.recorder = RolloutRecorder(10)};
  bench.tick(4);
  bench.version = 2;
  bench.tick(1);
  auto rollouts = bench.recorder.take();
  ASSERT_EQ(rollouts.size(), 2U);
  EXPECT_EQ(rollouts[0].steps.size(), 4U);
  EXPECT_EQ(rollouts[0].version, 1U);
  bench.tick(10);
  rollouts = bench.recorder.take();
  ASSERT_EQ(rollouts.size(), 2U);
  EXPECT_EQ(rollouts[0].version, 2U);
  EXPECT_EQ(rollouts[0].steps[0].observation[0], 4.0F);
}

TEST(Rollout, LeavingCutsAtTheLastPaidStep) {
  Bench bench{.recorder = RolloutRecorder(10)};
  bench.tick(4);
  bench.seen.endpoints.pop_back();
  bench.proposal.endpoints.pop_back();
  bench.tick(1);
  const auto rollouts = bench.recorder.take();
  ASSERT_EQ(rollouts.size(), 1U);
  EXPECT_EQ(rollouts[0].endpoint, "shop/web/web-1");
  EXPECT_FALSE(rollouts[0].terminal);
  ASSERT_EQ(rollouts[0].steps.size(), 3U);
  EXPECT_EQ(rollouts[0].steps.back().reward, 0.03F);
  EXPECT_EQ(rollouts[0].bootstrap_observation[0], 3.0F) << "the state of the unpaid action";
}

TEST(Rollout, NeutralTicksAreNotRecorded) {
  Bench bench{.recorder = RolloutRecorder(10)};
  bench.tick(3);
  bench.proposal.neutral = true;
  bench.tick(20);
  const auto rollouts = bench.recorder.take();
  ASSERT_EQ(rollouts.size(), 2U);
  EXPECT_EQ(rollouts[0].steps.size(), 3U);
  EXPECT_EQ(rollouts[0].bootstrap_observation[0], 3.0F);
}

TEST(Rollout, APauseAndABadRewardCut) {
  Bench bench{.recorder = RolloutRecorder(10)};
  bench.tick(3);
  bench.now += 60'000'000'000ULL;
  bench.tick(1);
  auto rollouts = bench.recorder.take();
  ASSERT_EQ(rollouts.size(), 2U);
  EXPECT_EQ(rollouts[0].steps.size(), 2U);
  bench.tick(2);
  bench.recorder.record(bench.seen, bench.proposal, 7, 1, std::numeric_limits<float>::quiet_NaN(), bench.now);
  rollouts = bench.recorder.take();
  ASSERT_EQ(rollouts.size(), 2U);
  EXPECT_EQ(rollouts[0].steps.size(), 2U);
}

TEST(Rollout, RewardsAreClipped) {
  Bench bench{.recorder = RolloutRecorder(1)};
  bench.recorder.record(bench.seen, bench.proposal, 7, 1, 0, bench.now);
  bench.recorder.record(bench.seen, bench.proposal, 7, 1, -1e9F, bench.now);
  EXPECT_EQ(bench.recorder.take()[0].steps[0].reward, -spec::kRewardBound);
}

TEST(Rollout, NobodyTakesThemTheOldestAreDroppedAndCounted) {
  Bench bench{.recorder = RolloutRecorder(1, 10)};
  bench.tick(101);  // 100 complete rollouts of each endpoint
  EXPECT_EQ(bench.recorder.ready(), 10U);
  EXPECT_EQ(bench.recorder.dropped(), 190U);
  EXPECT_EQ(bench.recorder.take().back().steps[0].observation[0], 99.0F);
}

TEST(Rollout, AServiceMayBeForgotten) {
  Bench bench{.recorder = RolloutRecorder(10)};
  bench.tick(3);
  bench.recorder.forget({"shop", "web"});
  bench.recorder.forget({"shop", "never"});
  const auto rollouts = bench.recorder.take();
  ASSERT_EQ(rollouts.size(), 2U);
  EXPECT_EQ(rollouts[0].steps.size(), 2U);
  bench.tick(1);
  EXPECT_EQ(bench.recorder.ready(), 0U);
}

TEST(Rollout, ServicesThatFellSilentAreCut) {
  Bench bench{.recorder = RolloutRecorder(10)};
  bench.tick(3);
  auto other = observation({});
  other.aggregate.service = {"shop", "cart"};
  ServiceProposal none{.service = {"shop", "cart"}};
  bench.recorder.record(other, none, 7, 1, 0, bench.now + 60'000'000'000ULL);
  EXPECT_EQ(bench.recorder.ready(), 2U);
}

TEST(Rollout, WhatDoesNotAgreeIsLeftOut) {
  Bench bench{.recorder = RolloutRecorder(1)};
  std::swap(bench.proposal.endpoints[0], bench.proposal.endpoints[1]);
  bench.tick(5);
  EXPECT_EQ(bench.recorder.ready(), 0U);
  std::swap(bench.proposal.endpoints[0], bench.proposal.endpoints[1]);
  bench.seen.endpoints[0].features[5] = std::numeric_limits<float>::quiet_NaN();
  bench.seen.endpoints[1].telemetry.id = bench.seen.endpoints[0].telemetry.id;
  bench.tick(5);
  EXPECT_EQ(bench.recorder.ready(), 0U);
}

}  // namespace
}  // namespace ballast::decide
