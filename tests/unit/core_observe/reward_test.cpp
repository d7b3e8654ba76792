// SPDX-License-Identifier: Apache-2.0
#include "core/observe/reward.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ballast::observe {
namespace {

spec::ServiceAggregate service(double p50_ms, double p99_ms) {
  spec::ServiceAggregate a;
  a.p50_ns = p50_ms * 1e6;
  a.p99_ns = p99_ms * 1e6;
  return a;
}

TEST(Reward, IsMinusTheWeighedCosts) {
  auto a = service(std::exp(1.0), std::exp(2.0));
  EXPECT_FLOAT_EQ(reward(a, 0, {}, {}), -2.0F) << "-(1 + 2 / 2)";
  EXPECT_FLOAT_EQ(reward(a, 0, {1, 2}, {}), 0.0F);
  EXPECT_FLOAT_EQ(reward(a, 0, {1.5, 2}, {}), 0.5F) << "faster than of late";
  a.error_rate = 0.1;
  EXPECT_FLOAT_EQ(reward(a, 0, {1, 2}, {}), -1.0F);
  a.error_rate = 0;
  a.cpu_imbalance = 0.4;
  a.memory_imbalance = 0.2;
  EXPECT_FLOAT_EQ(reward(a, 0, {1, 2}, {}), -0.3F);
  EXPECT_FLOAT_EQ(reward(a, 0.25, {1, 2}, {}), -0.55F);
  EXPECT_FLOAT_EQ(reward(a, 0.25, {1, 2}, {.imbalance = 1, .churn = 2}), -1.1F);
}

TEST(Reward, IsClippedAndTotal) {
  EXPECT_FLOAT_EQ(reward(service(1e9, 1e9), 0, {}, {}), -spec::kRewardBound);
  EXPECT_FLOAT_EQ(reward(service(1e-9, 1e-9), 0, {}, {}), spec::kRewardBound);
  EXPECT_FLOAT_EQ(reward(service(0, 0), 0, {}, {}), 0.0F);
  EXPECT_FLOAT_EQ(reward(service(std::nan(""), INFINITY), std::nan(""), {std::nan(""), -INFINITY}, {}), 0.0F);
  EXPECT_FLOAT_EQ(reward(service(1, 1), INFINITY, {}, {.p50 = std::nanf("")}), 0.0F);
}

TEST(RunningReference, BeginsWithTheFirstTickAndFollowsSlowly) {
  RunningReference reference(60);
  const double log10 = std::log(10.0);
  EXPECT_DOUBLE_EQ(reference.next(service(0, 0), 0.25).log_p50, 0) << "no traffic yet";
  EXPECT_DOUBLE_EQ(reference.next(service(10, 100), 0.25).log_p50, log10);
  EXPECT_DOUBLE_EQ(reference.next(service(10, 100), 0.25).log_p99, 2 * log10);
  reference.next(service(1000, 100), 60);
  const auto later = reference.next(service(1000, 100), 60);
  EXPECT_NEAR(later.log_p50, log10 + 2 * log10 * (1 - std::exp(-1.0)), 1e-12);
  EXPECT_NEAR(later.log_p99, 2 * log10, 1e-12);
}

TEST(RunningReference, GarbageLeavesItAsItWas) {
  RunningReference reference;
  reference.next(service(10, 100), 0.25);
  const auto before = reference.next(service(10, 100), 0.25);
  reference.next(service(std::nan(""), INFINITY), 0.25);
  reference.next(service(1, 1), std::nan(""));
  reference.next(service(1, 1), -3);
  const auto after = reference.next(service(10, 100), 0.25);
  EXPECT_DOUBLE_EQ(after.log_p50, before.log_p50);
  EXPECT_DOUBLE_EQ(after.log_p99, before.log_p99);
}

}  // namespace
}  // namespace ballast::observe
