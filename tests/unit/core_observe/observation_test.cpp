// SPDX-License-Identifier: Apache-2.0
#include "core/observe/observation.h"

#include <gtest/gtest.h>

#include <cmath>

#include "core/observe/aggregate.h"
#include "telemetry.h"

namespace ballast::observe {
namespace {

using testing::endpoint;

spec::ServiceAggregate plain() {
  spec::ServiceAggregate a;
  a.service = {"shop", "web"};
  a.endpoints = 4;
  a.known = 4;
  a.median_p50_ns = 10e6;
  a.median_p99_ns = 40e6;
  a.median_in_flight = 1;
  a.median_wait_share = 0.1;
  a.mean_qps = 50;
  a.mean_utilisation = 0.4;
  a.median_speed = 1;
  a.median_capacity_qps = 75;
  a.mean_capacity_qps = 100;
  a.persistence_s = 4;
  return a;
}

TEST(OwnFeatures, AreTheSpecsLogsAndRatios) {
  auto e = endpoint("a", 200);
  e.taken = 2'000'000'000;
  e.p50_ns = 20e6;
  e.p99_ns = 20e6;
  e.tick_p50_ns = 40e6;
  e.in_flight = 5;
  e.wait_share = 0.6;
  e.qps = 25;
  e.memory_share = 0.7;
  e.error_rate = 0.2;
  e.speed = 0.5;
  const spec::LoopTiming loop{.now = 2'750'000'000, .tick_s = 0.25, .loop_delay_s = 0.5};
  const auto own = own_features(e, plain(), loop, 0.15);
  const float log2 = std::log(2.0F);
  EXPECT_FLOAT_EQ(own[spec::kLatency], log2);
  EXPECT_FLOAT_EQ(own[spec::kTailLatency], -log2);
  EXPECT_FLOAT_EQ(own[spec::kInFlight], std::log(3.0F));
  EXPECT_FLOAT_EQ(own[spec::kRunQueue], 0.5F);
  EXPECT_FLOAT_EQ(own[spec::kQpsShare], -log2);
  EXPECT_FLOAT_EQ(own[spec::kUtilisation], 0.1F);
  EXPECT_FLOAT_EQ(own[spec::kLoad], 0.4F);
  EXPECT_FLOAT_EQ(own[spec::kMemory], 0.7F);
  EXPECT_FLOAT_EQ(own[spec::kErrors], 0.2F);
  EXPECT_FLOAT_EQ(own[spec::kTrend], log2);
  EXPECT_FLOAT_EQ(own[spec::kAge], std::log(4.0F));
  EXPECT_FLOAT_EQ(own[spec::kPersistence], std::log(8.0F));
  EXPECT_FLOAT_EQ(own[spec::kLoopDelay], -log2);
  EXPECT_FLOAT_EQ(own[spec::kLogWeight], 0.15F);
  EXPECT_FLOAT_EQ(own[spec::kSpeed], -log2);
  EXPECT_FLOAT_EQ(own[spec::kPrior], log2);
}

TEST(OwnFeatures, WhatWasNotMeasuredIsZeroAndNoTrafficIsTheLeast) {
  auto e = endpoint("a");
  e.p50_ns = e.p99_ns = e.tick_p50_ns = 0;
  e.qps = 0;
  auto a = plain();
  a.persistence_s = 0;
  const auto own = own_features(e, a, {}, 0);
  EXPECT_FLOAT_EQ(own[spec::kLatency], 0);
  EXPECT_FLOAT_EQ(own[spec::kTailLatency], 0);
  EXPECT_FLOAT_EQ(own[spec::kTrend], 0);
  EXPECT_FLOAT_EQ(own[spec::kQpsShare], -spec::kFeatureBound);
  EXPECT_FLOAT_EQ(own[spec::kPersistence], -spec::kFeatureBound);
}

TEST(OwnFeatures, UnknownEndpointShowsOnlyTheService) {
  auto e = endpoint("a", 200);
  e.known = false;
  e.p50_ns = 1e9;
  const auto own = own_features(e, plain(), {}, 0.1);
  EXPECT_FLOAT_EQ(own[spec::kLatency], 0);
  EXPECT_FLOAT_EQ(own[spec::kLoad], 0.4F);
  EXPECT_FLOAT_EQ(own[spec::kLogWeight], 0.1F);
  EXPECT_FLOAT_EQ(own[spec::kPrior], std::log(0.75F)) << "the median's";
}

TEST(LogPrior, IsRelativeToTheMeanAndZeroWhereNothingIsKnown) {
  EXPECT_NEAR(log_prior(endpoint("a", 50), plain()), std::log(0.5), 1e-12);
  EXPECT_NEAR(log_prior(endpoint("a", 0), plain()), std::log(0.75), 1e-12);
  EXPECT_NEAR(log_prior(endpoint("a", std::nan("")), plain()), std::log(0.75), 1e-12);
  EXPECT_DOUBLE_EQ(log_prior(endpoint("a", 50), spec::ServiceAggregate{}), 0);
  EXPECT_DOUBLE_EQ(log_prior(endpoint("a", 1e12), plain()), static_cast<double>(spec::kFeatureBound));
}

TEST(MakeObservation, IsOwnMeanMaxAndLogN) {
  auto a = plain();
  a.mean[spec::kErrors] = 0.5F;
  a.max[spec::kErrors] = 99.0F;
  OwnFeatures own{};
  own[spec::kErrors] = 0.25F;
  own[spec::kAge] = std::numeric_limits<float>::quiet_NaN();
  const auto o = make_observation(own, a);
  EXPECT_FLOAT_EQ(o[spec::kErrors], 0.25F);
  EXPECT_FLOAT_EQ(o[spec::kAge], 0);
  EXPECT_FLOAT_EQ(o[spec::kFeatures + spec::kErrors], 0.5F);
  EXPECT_FLOAT_EQ(o[2 * spec::kFeatures + spec::kErrors], spec::kFeatureBound);
  EXPECT_FLOAT_EQ(o[spec::kObservation - 1], std::log(4.0F));
}

}  // namespace
}  // namespace ballast::observe
