// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "tools/bench/distance_command.h"

namespace ballast::bench {
namespace {

constexpr std::uint64_t kSteps = 4000;

TEST(Distance, TheSameSeedGivesTheSameRunAndBatchesMakeFewerVersions) {
  const DistanceRun one{.staleness = 4, .workers = 4};
  const DistanceResult a = learn_at_distance(one, kSteps);
  const DistanceResult b = learn_at_distance(one, kSteps);
  EXPECT_EQ(a.final_return, b.final_return);
  EXPECT_EQ(a.accepted, 200U) << "a gradient every twenty steps";
  EXPECT_EQ(a.rejected, 0U);
  const DistanceResult many = learn_at_distance({.staleness = 4, .workers = 64}, kSteps);
  EXPECT_LT(many.versions, a.versions);
}

TEST(Distance, PoisonReachesTheNetworkAndIsRefused) {
  const DistanceResult nan =
      learn_at_distance({.staleness = 9, .workers = 10, .poison = "nan", .rules = true}, kSteps);
  EXPECT_EQ(nan.accepted + nan.rejected, 200U);
  EXPECT_EQ(nan.rejected, 20U) << "of every tenth worker";
  EXPECT_GT(nan.quarantines, 0U);
  const DistanceResult flipped =
      learn_at_distance({.staleness = 9, .workers = 10, .poison = "flipped", .rules = false}, kSteps);
  EXPECT_EQ(flipped.rejected, 0U) << "those look honest one by one";
}

}  // namespace
}  // namespace ballast::bench
