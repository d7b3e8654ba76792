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

Latency answers(std::initializer_list<std::pair<double, std::uint64_t>> ms) {
  Latency latency;
  for (const auto& [each, count] : ms) {
    latency.buckets[ballast_hist_bucket(static_cast<std::uint64_t>(each * 1e6))] += count;
  }
  return latency;
}

TEST(Stretch, IsNoneWhereAnswersEndAsTheyBegin) {
  EXPECT_EQ(stretch_of({}, {}).p50, 1);
  EXPECT_EQ(stretch_of({}, {}).mean, 1);
  const Latency all = answers({{1, 700}, {10, 200}, {60'000, 300}});
  EXPECT_EQ(stretch_of(all, all).p50, 1);
  EXPECT_EQ(stretch_of(all, all).mean, 1);
}

TEST(Stretch, OfHeadsThatGoOutAtOnce) {
  const Stretch all = stretch_of(answers({{0.02, 1000}}), answers({{10, 1000}}));
  EXPECT_NEAR(all.p50, 500, 50);
  EXPECT_NEAR(all.mean, 500, 50);
  // A tenth that waits a hundred times as long, and hides it.
  const Stretch tail = stretch_of(answers({{1, 900}, {0.02, 100}}), answers({{1, 900}, {100, 100}}));
  EXPECT_NEAR(tail.p50, 1, 0.15);
  EXPECT_NEAR(tail.mean, 12, 1.5);
}

TEST(Stretch, OfFewStreamsIsLittle) {
  const Stretch few = stretch_of(answers({{10, 1000}}), answers({{10, 999}, {60'000, 1}}));
  EXPECT_NEAR(few.p50, 1, 0.001);
  EXPECT_NEAR(few.mean, 1.1, 0.02);
}

TEST(Stretch, AnswersThatNeverEndAreLong) {
  const Latency begun = answers({{1, 1000}});
  EXPECT_GT(stretch_of(begun, {}).p50, 1e4);
  EXPECT_GT(stretch_of(begun, {}).mean, 1e4);
  EXPECT_EQ(stretch_of(begun, answers({{1, 950}})).mean, 1) << "began in one time and ended in the next";
  EXPECT_GT(stretch_of(begun, answers({{1, 800}})).mean, 5);
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
