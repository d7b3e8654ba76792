// SPDX-License-Identifier: Apache-2.0
#include "agent/guard/trip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

namespace ballast::guard {
namespace {

struct Bench {
  TripWatch watch;
  TripOptions options;
  MonotonicNs now = 1'000'000'000ULL;

  /// Seconds of ticks; true when it was tripped at the end.
  bool run(double seconds, bool neutral, double p99_ms, double errors = 0, double qps = 100) {
    bool tripped = false;
    for (int i = 0; i < static_cast<int>(seconds * 4); ++i) {
      now += 250'000'000ULL;
      tripped = watch.update(p99_ms * 1e6, errors, qps, neutral, now, options);
    }
    return tripped;
  }
};

TEST(TripWatch, ThreeBadWindowsTrip) {
  Bench bench;
  ASSERT_FALSE(bench.run(60, true, 100));
  EXPECT_FALSE(bench.run(5, false, 200)) << "the first window settles";
  EXPECT_FALSE(bench.run(14, false, 200));
  EXPECT_TRUE(bench.run(2, false, 200));
  EXPECT_THAT(bench.watch.why(), ::testing::HasSubstr("200.0 ms"));
  EXPECT_THAT(bench.watch.why(), ::testing::HasSubstr("100.0 ms"));
}

TEST(TripWatch, ErrorsTripToo) {
  Bench bench;
  bench.run(60, true, 100, 0.01);
  EXPECT_FALSE(bench.run(60, false, 100, 0.029));
  EXPECT_TRUE(bench.run(20, false, 100, 0.032));
}

TEST(TripWatch, AGoodWindowBetweenStartsTheCountAnew) {
  Bench bench;
  bench.run(60, true, 100);
  bench.run(5, false, 100);
  for (int i = 0; i < 10; ++i) {
    ASSERT_FALSE(bench.run(10, false, 200));
    ASSERT_FALSE(bench.run(5, false, 100));
  }
}

TEST(TripWatch, BelowTheRatioNothingTrips) {
  Bench bench;
  bench.run(60, true, 100);
  EXPECT_FALSE(bench.run(300, false, 149));
}

TEST(TripWatch, WithoutAReferenceNothingTrips) {
  Bench bench;
  EXPECT_FALSE(bench.run(300, false, 5000, 0.9));
}

TEST(TripWatch, IdleOrUnmeasuredWindowsSayNothing) {
  Bench bench;
  bench.run(60, true, 100);
  EXPECT_FALSE(bench.run(100, false, 500, 0, 0));
  EXPECT_FALSE(bench.run(100, false, std::numeric_limits<double>::quiet_NaN()));
  EXPECT_FALSE(bench.run(100, false, std::numeric_limits<double>::infinity()));
  EXPECT_FALSE(bench.run(100, false, 0));
}

TEST(TripWatch, HoldsLongerEachTimeUpToTheMaximum) {
  Bench bench;
  bench.run(60, true, 100);
  for (const double hold : {30.0, 60.0, 120.0, 240.0, 480.0, 600.0, 600.0}) {
    ASSERT_TRUE(bench.run(20.5, false, 300));
    ASSERT_TRUE(bench.run(hold - 1, true, 100)) << hold;
    ASSERT_FALSE(bench.run(1.25, true, 100)) << hold;
    ASSERT_EQ(bench.watch.why(), "");
  }
}

TEST(TripWatch, HealthForLongResetsTheHold) {
  Bench bench;
  bench.run(60, true, 100);
  for (int i = 0; i < 3; ++i) {
    ASSERT_TRUE(bench.run(20.5, false, 300));
    while (bench.run(0.25, true, 100)) {
    }
  }
  ASSERT_FALSE(bench.run(620, false, 100));
  ASSERT_TRUE(bench.run(20.5, false, 300));
  EXPECT_THAT(bench.watch.why(), ::testing::HasSubstr("neutral for 30 s"));
}

TEST(TripWatch, TheReferenceFollowsNeutralWindows) {
  Bench bench;
  bench.run(60, true, 100);
  bench.run(120, true, 400);
  EXPECT_FALSE(bench.run(60, false, 500)) << "the load grew, not the harm";
}

}  // namespace
}  // namespace ballast::guard
