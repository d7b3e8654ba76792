// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/statistics.h"

#include <gtest/gtest.h>

#include "model/sim/random.h"

namespace ballast::bench {
namespace {

TEST(InterquartileMean, CutsTheOuterQuarters) {
  EXPECT_DOUBLE_EQ(interquartile_mean({}), 0);
  EXPECT_DOUBLE_EQ(interquartile_mean({7}), 7);
  EXPECT_DOUBLE_EQ(interquartile_mean({100, 2, 4, -50}), 3);
  // Of five, 1.25 places go on either side: .75 of the second, the third, .75 of the fourth.
  EXPECT_DOUBLE_EQ(interquartile_mean({0, 1, 2, 4, 99}), (0.75 * 1 + 2 + 0.75 * 4) / 2.5);
}

TEST(Bootstrap, IntervalHoldsTheMeanAndShrinksWithTheSample) {
  sim::Rng random(1);
  std::vector<double> small;
  std::vector<double> large;
  for (int i = 0; i < 400; ++i) {
    const double value = 5 + random.normal();
    large.push_back(value);
    if (i < 16) {
      small.push_back(value);
    }
  }
  const Estimate a = bootstrap_mean(small);
  const Estimate b = bootstrap_mean(large);
  EXPECT_LT(a.low, a.value);
  EXPECT_LT(a.value, a.high);
  // 2 * 1.96 * sigma / sqrt(n), with sigma estimated from the sample.
  EXPECT_NEAR(b.high - b.low, 2 * 1.96 / 20, 0.04);
  EXPECT_GT(a.high - a.low, 2 * (b.high - b.low));
  EXPECT_EQ(bootstrap_mean(small).low, a.low) << "the same each time";
}

TEST(PairedRatio, SeesThroughWhatThePairsShare) {
  // Runs differ by a factor of ten between seeds, the ratio is .5 within a few per cent in each.
  const std::vector<double> a = {51, 500, 4900, 248, 26};
  const std::vector<double> b = {100, 1000, 10000, 500, 50};
  const Estimate ratio = paired_ratio(a, b);
  EXPECT_NEAR(ratio.value, 0.5, 0.01);
  EXPECT_GT(ratio.low, 0.48);
  EXPECT_LT(ratio.high, 0.52);
}

TEST(PairedRatio, ZerosAreFinite) {
  EXPECT_DOUBLE_EQ(paired_ratio({0, 0}, {0, 0}).value, 1);
  EXPECT_DOUBLE_EQ(paired_ratio({5, 5}, {0, 0}).value, 1000);
  EXPECT_DOUBLE_EQ(paired_ratio({}, {}).high, 1);
}

}  // namespace
}  // namespace ballast::bench
