// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <limits>

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

TEST(Distance, WorkersInThreadsStopWhereTheTaskIsSolvedOrTheStepsAreOver) {
  const DistanceResult run = learn_at_distance({.workers = 3, .threads = true}, kSteps);
  EXPECT_EQ(run.solved_at, 0U) << "not in so few steps";
  EXPECT_EQ(run.seconds, 0);
  EXPECT_GE(run.accepted + run.rejected, kSteps / 20);
}

TEST(Distance, TheTableIsReadAsItWasWrittenAndAnythingElseIsRefused) {
  DistanceResult result = learn_at_distance({.staleness = 4, .workers = 4}, kSteps);
  result.curve[3] = std::numeric_limits<double>::quiet_NaN();
  const DistanceRun run{.staleness = 4,
                        .workers = 4,
                        .poison = "nan",
                        .rules = false,
                        .seed = 7,
                        .environment = "acrobot",
                        .learning_rate = 5e-4};
  const std::string csv = distance_csv({{run, result}});
  const auto read = distance_from_csv(csv);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(distance_csv(*read), csv);
  EXPECT_EQ(read->front().first.environment, "acrobot");
  EXPECT_FALSE(read->front().first.rules);
  EXPECT_FALSE(distance_from_csv("a,b\n1,2\n"));
  const auto torn = distance_from_csv(csv.substr(0, csv.size() - 9));
  ASSERT_FALSE(torn);
  EXPECT_NE(torn.error().message.find("line 2"), std::string::npos) << torn.error().message;
}

}  // namespace
}  // namespace ballast::bench
