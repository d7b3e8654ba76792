// SPDX-License-Identifier: Apache-2.0
#include "core/spec/latency.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace ballast::spec {
namespace {

void record(Latency& latency, std::uint64_t ns) {
  ++latency.count;
  latency.sum_ns += ns;
  ++latency.buckets[ballast_hist_bucket(ns)];
}

TEST(Latency, EmptyHasNoQuantile) {
  EXPECT_EQ(Latency{}.quantile_ns(0.5), 0);
}

TEST(Latency, QuantilesAreWithinABucket) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> durations(std::log(3e6), 1.2);
  Latency latency;
  std::vector<double> exact;
  for (int i = 0; i < 50'000; ++i) {
    const double ns = durations(random);
    exact.push_back(ns);
    record(latency, static_cast<std::uint64_t>(ns));
  }
  std::sort(exact.begin(), exact.end());
  for (const double q : {0.01, 0.1, 0.5, 0.9, 0.99, 0.999}) {
    const double truth = exact[static_cast<std::size_t>(q * static_cast<double>(exact.size()))];
    EXPECT_NEAR(latency.quantile_ns(q) / truth, 1.0, 0.065) << "q " << q;
  }
}

TEST(Latency, QuantilesNeverFall) {
  Latency latency;
  for (const std::uint64_t ns : {500U, 2'000U, 2'100U, 900'000U, 4'000'000'000U}) {
    record(latency, ns);
  }
  record(latency, 1ULL << 60);
  double last = 0;
  for (int i = 0; i <= 1000; ++i) {
    const double value = latency.quantile_ns(i / 1000.0);
    EXPECT_GE(value, last);
    last = value;
  }
  EXPECT_TRUE(std::isfinite(last));
  EXPECT_EQ(latency.quantile_ns(2.0), last) << "q is clamped";
}

TEST(Latency, AddPools) {
  Latency one;
  Latency two;
  record(one, 1'000'000);
  record(two, 9'000'000);
  one.add(two);
  EXPECT_EQ(one.count, 2U);
  EXPECT_EQ(one.sum_ns, 10'000'000U);
  EXPECT_GT(one.quantile_ns(0.99), 8'000'000);
}

TEST(Latency, WhatIsStoredAddsUpToTheSame) {
  Latency latency;
  record(latency, 500);
  record(latency, 3'000'000);
  record(latency, 3'000'000);
  latency.buckets.back() = 1ULL << 40;
  LatencyBuckets stored = {{1, 1}};
  latency.store(stored);
  EXPECT_EQ(stored, (LatencyBuckets{{0, 1},
                                    {static_cast<std::uint16_t>(ballast_hist_bucket(3'000'000)), 2},
                                    {BALLAST_HIST_BUCKETS - 1, 0xFFFFFFFF}}));
  Latency sum;
  sum.add(stored);
  sum.add(stored);
  EXPECT_EQ(sum.buckets[0], 2U);
  EXPECT_EQ(sum.buckets.back(), 2ULL * 0xFFFFFFFF);
  EXPECT_EQ(sum.count, 2 * (3ULL + 0xFFFFFFFF));
}

}  // namespace
}  // namespace ballast::spec
