// SPDX-License-Identifier: Apache-2.0
#include "bpf/wire/histogram.h"

#include <gtest/gtest.h>

#include <bit>
#include <cstdint>
#include <random>

namespace {

TEST(Histogram, EveryBucketHoldsItsOwnBounds) {
  for (unsigned bucket = 0; bucket + 1 < BALLAST_HIST_BUCKETS; ++bucket) {
    const auto lower = ballast_hist_lower(bucket);
    const auto upper = ballast_hist_lower(bucket + 1);
    ASSERT_LT(lower, upper);
    EXPECT_EQ(ballast_hist_bucket(lower), bucket);
    EXPECT_EQ(ballast_hist_bucket(upper - 1), bucket);
  }
}

TEST(Histogram, Ends) {
  EXPECT_EQ(ballast_hist_bucket(0), 0U);
  EXPECT_EQ(ballast_hist_bucket(1023), 0U);
  EXPECT_EQ(ballast_hist_bucket(1024), 1U);
  EXPECT_EQ(ballast_hist_bucket(1ULL << 37), BALLAST_HIST_BUCKETS - 1U);
  EXPECT_EQ(ballast_hist_bucket(~0ULL), BALLAST_HIST_BUCKETS - 1U);
  EXPECT_EQ(ballast_hist_lower(BALLAST_HIST_BUCKETS - 1), 1ULL << 37);
}

TEST(Histogram, BucketsAreNarrow) {
  for (unsigned bucket = 1; bucket + 1 < BALLAST_HIST_BUCKETS; ++bucket) {
    const double lower = static_cast<double>(ballast_hist_lower(bucket));
    const double upper = static_cast<double>(ballast_hist_lower(bucket + 1));
    EXPECT_LE((upper - lower) / lower, 0.125);
  }
}

TEST(Histogram, Log2) {
  std::mt19937_64 random(5);
  for (int i = 0; i < 100'000; ++i) {
    const std::uint64_t value = (random() >> (random() % 64)) | 1U;
    ASSERT_EQ(ballast_log2(value), static_cast<unsigned>(std::bit_width(value) - 1));
  }
}

}  // namespace
