// SPDX-License-Identifier: Apache-2.0
#include "agent/guard/bounds.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <random>

namespace ballast::guard {
namespace {

double sum(const std::vector<double>& v) {
  return std::accumulate(v.begin(), v.end(), 0.0);
}

TEST(WaterFill, LeavesWhatHoldsAlone) {
  const auto out = water_fill({2, 1, 0.5, 0.5}, std::vector<Bound>(4, {0.1, 4}));
  EXPECT_NEAR(out[0], 2, 1e-9);
  EXPECT_NEAR(out[3], 0.5, 1e-9);
}

TEST(WaterFill, WhatTheCapTakesFlowsInProportion) {
  const auto out = water_fill({8, 1.5, 0.3, 0.1, 0.1}, std::vector<Bound>(5, {0.01, 2}));
  EXPECT_DOUBLE_EQ(out[0], 2);
  EXPECT_NEAR(sum(out), 5, 1e-9);
  EXPECT_NEAR(out[2] / out[3], 3, 1e-6);
}

TEST(WaterFill, OneTakesAllStillGivesTheOthersTheirFloor) {
  const auto out = water_fill({10, 0, 0, 0, 0, 0, 0, 0, 0, 0}, std::vector<Bound>(10, {0.1, 4}));
  EXPECT_DOUBLE_EQ(out[0], 4);
  for (std::size_t i = 1; i < 10; ++i) {
    EXPECT_NEAR(out[i], 6.0 / 9, 1e-6);
  }
}

TEST(WaterFill, HoldsEveryBoundAtOnce) {
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> uniform(0, 1);
  for (int round = 0; round < 3000; ++round) {
    const std::size_t n = 1 + random() % 40;
    std::vector<double> weights(n);
    std::vector<Bound> bounds(n);
    for (std::size_t i = 0; i < n; ++i) {
      weights[i] = std::pow(uniform(random), 8) * 100 * static_cast<double>(random() % 3);
      bounds[i] = {0.001 + 0.999 * uniform(random), 1 + 5 * uniform(random)};
    }
    const auto out = water_fill(weights, bounds);
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_GE(out[i], bounds[i].low);
      ASSERT_LE(out[i], bounds[i].high);
    }
    ASSERT_NEAR(sum(out), static_cast<double>(n), 1e-6);
  }
}

TEST(ToUnits, SumsExactlyAndRoundsByLessThanOne) {
  std::mt19937_64 random(2);
  std::uniform_real_distribution<double> uniform(0.01, 4);
  for (int round = 0; round < 2000; ++round) {
    std::vector<double> weights(1 + random() % 300);
    for (double& w : weights) {
      w = uniform(random);
    }
    const double scale = static_cast<double>(weights.size()) / sum(weights);
    for (double& w : weights) {
      w *= scale;
    }
    const auto units = to_units(weights, 1000);
    ASSERT_EQ(std::accumulate(units.begin(), units.end(), std::uint64_t{0}), 1000 * weights.size());
    for (std::size_t i = 0; i < units.size(); ++i) {
      ASSERT_GE(units[i], 1U);
      ASSERT_LE(std::abs(units[i] - weights[i] * 1000), 1.001);
    }
  }
}

TEST(ToUnits, NoneIsZero) {
  EXPECT_EQ(to_units({1.9999, 1.0, 0.0001}, 1000), (std::vector<std::uint32_t>{1999, 1000, 1}));
}

TEST(ToUnits, FairSharesAreEqual) {
  for (const std::size_t n : {1, 3, 7, 1000}) {
    EXPECT_EQ(to_units(std::vector<double>(n, 1.0), 1000), std::vector<std::uint32_t>(n, 1000));
  }
}

}  // namespace
}  // namespace ballast::guard
