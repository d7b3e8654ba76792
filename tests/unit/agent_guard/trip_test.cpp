// SPDX-License-Identifier: Apache-2.0
#include "agent/guard/trip.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <utility>

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

/// A guard that is obeyed: weighted from `from_s` on wherever the watch lets it. `weighted` and `neutral`
/// give the p99 in ms and the error rate. Seconds from the first weighted tick to the trip; negative: none.
struct Obeyed {
  TripWatch watch;
  TripOptions options;
  double first_weighted_s = -1;
  double neutral_s = 0;
  int trips = 0;

  template <typename Weighted, typename Neutral>
  double run(double from_s, double seconds, Weighted weighted, Neutral neutral) {
    bool is_neutral = true;
    double tripped_at = -1;
    bool was = false;
    for (double now = 0.25; now <= seconds; now += 0.25) {
      const auto [p99_ms, errors] = is_neutral ? neutral(now) : weighted(now);
      const bool tripped = watch.update(p99_ms * 1e6, errors, 100, is_neutral,
                                        1'000'000'000ULL + static_cast<MonotonicNs>(now * 1e9), options);
      trips += tripped && !was ? 1 : 0;
      was = tripped;
      if (tripped && tripped_at < 0) {
        tripped_at = now;
      }
      is_neutral = now < from_s || tripped || watch.measuring();
      neutral_s += now >= from_s && is_neutral ? 0.25 : 0;
      if (!is_neutral && first_weighted_s < 0) {
        first_weighted_s = now;
      }
    }
    return tripped_at < 0 ? -1 : tripped_at - first_weighted_s;
  }
};

using Had = std::pair<double, double>;

// The harm that nothing noticed: 1.5, 6 or 9 s neutral, then p99 of 5 s and 90 % errors for ten minutes.
TEST(TripWatch, HarmIsNoticedWhateverTheNeutralPast) {
  for (const double from_s : {0.0, 1.5, 6.0, 9.0, 11.0, 60.0}) {
    Obeyed guard;
    const double after = guard.run(
        from_s, 600,
        [](double) {
          return Had{5000, 0.9};
        },
        [](double) {
          return Had{20, 0};
        });
    EXPECT_GT(after, 0) << from_s;
    EXPECT_LE(after, 20.25) << from_s;
    EXPECT_LE(guard.first_weighted_s, std::max(from_s, 0.25)) << "weights are not kept waiting";
  }
}

// Weights that were in force before anything was seen.
TEST(TripWatch, WithoutAReferenceOneIsMade) {
  Bench bench;
  EXPECT_FALSE(bench.run(9.5, false, 5000, 0.9));
  EXPECT_FALSE(bench.watch.measuring());
  EXPECT_FALSE(bench.run(1, false, 5000, 0.9)) << "the first window that says something";
  EXPECT_TRUE(bench.watch.measuring());
  EXPECT_TRUE(bench.run(10.5, true, 20, 0)) << bench.watch.why();
  EXPECT_FALSE(bench.watch.measuring());
}

// Two and a half times the p99, as weights by a CPU limit that limits nothing have it: the first reference
// cannot settle it, the block does.
TEST(TripWatch, ModerateHarmIsSettledByABlock) {
  Obeyed guard;
  const double after = guard.run(
      2, 900,
      [](double) {
        return Had{250, 0};
      },
      [](double) {
        return Had{100, 0};
      });
  EXPECT_GT(after, 0);
  EXPECT_LE(after, 60);
}

// Slowness that came with the weights and not by them: a second and a half of neutral had a better p99.
TEST(TripWatch, AShortNeutralPastCondemnsNoP99) {
  Obeyed guard;
  const auto rises = [](double now) { return Had{now < 3 ? 20 : 300, 0}; };
  EXPECT_LT(guard.run(1.5, 190, rises, rises), 0);
  EXPECT_GT(guard.neutral_s, 0) << "a block asks";
  EXPECT_LE(guard.neutral_s, 15.5);
}

TEST(TripWatch, WhereTheLightOnesAreAsSlowNoBlockAsks) {
  for (const bool excused : {true, false}) {
    Bench bench;
    bench.run(1.5, true, 20);
    for (int i = 0; i < 40 * 4 && !bench.watch.measuring(); ++i) {
      bench.now += 250'000'000ULL;
      ASSERT_FALSE(bench.watch.update(300e6, 0, 100, false, bench.now, bench.options, excused));
    }
    EXPECT_NE(bench.watch.measuring(), excused);
  }
}

TEST(TripWatch, ErrorsAreNotExcused) {
  Bench bench;
  bench.run(1.5, true, 20);
  bool tripped = false;
  for (int i = 0; i < 81 && !tripped; ++i) {
    bench.now += 250'000'000ULL;
    tripped = bench.watch.update(300e6, 0.9, 100, false, bench.now, bench.options, true);
  }
  EXPECT_TRUE(tripped);
}

TEST(TripWatch, ALoadThatGrewCostsABlockAndNoTrip) {
  Obeyed guard;
  const auto grows = [](double now) { return Had{now < 300 ? 100 : 400, 0}; };
  EXPECT_LT(guard.run(2, 900, grows, grows), 0);
  EXPECT_LE(guard.neutral_s, 4 + 3 * 10.5);
}

// Forty hours in which the weights change nothing, of a p99 that wanders by half about its mean and
// remembers it for eight seconds: less than one false trip in ten hours, and what the watching costs.
TEST(TripWatch, WhatWandersByItselfDoesNotTrip) {
  double trips = 0;
  double neutral_s = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    double x = 0;
    double seen = 1;
    const auto wanders = [&](double) {
      const double keep = std::exp(-0.25 / 8);
      x = keep * x + std::sqrt(1 - keep * keep) * 0.5 * normal(random);
      seen += 0.05 * (std::exp(x) - seen);  // telemetry's window
      return Had{20 * seen, 0};
    };
    Obeyed hours;
    hours.run(2, 36'000, wanders, wanders);
    trips += hours.trips;
    neutral_s += hours.neutral_s;
  }
  EXPECT_LT(trips, 4);
  EXPECT_LT(neutral_s / (4 * 36'000), 0.01);
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
  ASSERT_FALSE(bench.run(20.5, false, 300)) << "the reference is ten minutes old";
  ASSERT_TRUE(bench.watch.measuring());
  ASSERT_TRUE(bench.run(10.5, true, 100));
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
