// SPDX-License-Identifier: Apache-2.0
#include "agent/fleet/local.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "agent/fleet/join.h"

namespace ballast::fleet {
namespace {

constexpr MonotonicNs kSecond = 1'000'000'000ULL;
const spec::ServiceId kWeb{"shop", "web"};
const spec::ServiceId kCart{"shop", "cart"};

spec::EndpointTelemetry telemetry(const std::string& pod, double capacity_qps,
                                  const spec::ServiceId& service = kWeb) {
  spec::EndpointTelemetry t;
  t.id = {service, pod};
  t.address = "127.1.0.1";
  t.port = 8080;
  t.known = capacity_qps > 0;
  t.taken = 10 * kSecond;
  t.qps = 50;
  t.p50_ns = 1e6;
  t.p99_ns = 2e7;
  t.utilisation = 0.5;
  t.cpu_limit_cores = 1;
  t.cpu_cores = 0.5;
  t.capacity_qps = capacity_qps;
  return t;
}

decide::ServiceProposal proposal(const std::vector<std::pair<std::string, double>>& log_priors) {
  decide::ServiceProposal p{.service = kWeb, .neutral = false, .why = "weighted"};
  for (const auto& [pod, log_prior] : log_priors) {
    p.endpoints.push_back({.id = {kWeb, pod}, .log_prior = log_prior});
  }
  return p;
}

double total(const ServiceView& view) {
  double sum = 0;
  for (const EndpointView& e : view.endpoints) {
    sum += e.share;
  }
  return sum;
}

TEST(LocalFleet, AggregatesByService) {
  LocalFleet fleet;
  const auto aggregates = fleet.report(
      {telemetry("web-0", 100), telemetry("web-1", 300), telemetry("cart-0", 50, kCart)}, 10 * kSecond);
  ASSERT_EQ(aggregates.size(), 2U);
  EXPECT_EQ(aggregates[0].service, kCart);
  EXPECT_EQ(aggregates[1].service, kWeb);
  EXPECT_EQ(aggregates[1].endpoints, 2U);
  EXPECT_DOUBLE_EQ(aggregates[1].mean_capacity_qps, 200);
}

TEST(LocalFleet, SharesFollowThePriorAndTheOffset) {
  LocalFleet fleet;
  fleet.report({telemetry("web-0", 100), telemetry("web-1", 100)}, 10 * kSecond);
  auto p = proposal({{"web-0", std::log(2)}, {"web-1", 0}});
  p.endpoints[1].offset = std::log(0.5);
  const auto views = fleet.join({p}, 10 * kSecond + kSecond / 2);
  ASSERT_EQ(views.size(), 1U);
  const ServiceView& v = views[0];
  EXPECT_FALSE(v.neutral);
  EXPECT_EQ(v.why, "weighted");
  EXPECT_NEAR(v.endpoints[0].share, 0.8, 1e-12);
  EXPECT_NEAR(v.endpoints[1].share, 0.2, 1e-12);
  EXPECT_NEAR(v.endpoints[0].age_s, 0.5, 1e-9);
  EXPECT_NEAR(v.endpoints[1].offset, std::log(0.5), 1e-12);
  EXPECT_EQ(v.endpoints[0].address, "127.1.0.1");
  EXPECT_EQ(v.endpoints[0].port, 8080);
  EXPECT_DOUBLE_EQ(v.qps, 100);
  EXPECT_GT(v.p99_ns, 0);
}

TEST(LocalFleet, AnUnknownEndpointHasTheMedianCapacity) {
  LocalFleet fleet;
  fleet.report(
      {telemetry("web-0", 400), telemetry("web-1", 100), telemetry("web-2", 100), telemetry("web-3", 0)},
      10 * kSecond);
  const double mean = 175;  // the unknown one counted with the median
  auto p = proposal({{"web-0", std::log(400 / mean)},
                     {"web-1", std::log(100 / mean)},
                     {"web-2", std::log(100 / mean)},
                     {"web-3", 3.0}});
  p.endpoints[3].offset = 0.5;
  const ServiceView v = fleet.join({p}, 10 * kSecond)[0];
  EXPECT_NEAR(v.endpoints[3].share, v.endpoints[1].share, 1e-9);
  EXPECT_NEAR(v.endpoints[0].share / v.endpoints[3].share, 4, 1e-9);
  EXPECT_FALSE(v.endpoints[3].known);
  EXPECT_EQ(v.endpoints[3].offset, 0);
  EXPECT_NEAR(total(v), 1, 1e-12);
}

TEST(LocalFleet, AnEndpointNobodyDecidedForHasItsCapacity) {
  LocalFleet fleet;
  fleet.report({telemetry("web-0", 300), telemetry("web-1", 100)}, 10 * kSecond);
  const ServiceView v = fleet.join({proposal({{"web-1", std::log(0.5)}})}, 10 * kSecond)[0];
  EXPECT_NEAR(v.endpoints[0].share / v.endpoints[1].share, 3, 1e-9);
}

TEST(LocalFleet, NeutralPassesWithEqualShares) {
  LocalFleet fleet;
  fleet.report({telemetry("web-0", 300), telemetry("web-1", 100)}, 10 * kSecond);
  auto p = proposal({{"web-0", 1.0}, {"web-1", -1.0}});
  p.neutral = true;
  p.why = "neutral: short";
  const ServiceView v = fleet.join({p}, 10 * kSecond)[0];
  EXPECT_TRUE(v.neutral);
  EXPECT_EQ(v.why, "neutral: short");
  EXPECT_DOUBLE_EQ(v.endpoints[0].share, 0.5);
  EXPECT_EQ(v.endpoints[0].log_prior, 1.0) << "kept for explain";
}

TEST(LocalFleet, WithoutAProposalNeutral) {
  LocalFleet fleet;
  fleet.report({telemetry("web-0", 300)}, 10 * kSecond);
  const ServiceView v = fleet.join({}, 10 * kSecond)[0];
  EXPECT_TRUE(v.neutral);
  EXPECT_FALSE(v.why.empty());
}

TEST(LocalFleet, VanishedEndpointsLeaveInTheSameTick) {
  LocalFleet fleet;
  fleet.report({telemetry("web-0", 100), telemetry("web-1", 100)}, 10 * kSecond);
  fleet.report({telemetry("web-1", 100)}, 11 * kSecond);
  const ServiceView v = fleet.join({proposal({{"web-0", 0}, {"web-1", 0}})}, 11 * kSecond)[0];
  ASSERT_EQ(v.endpoints.size(), 1U);
  EXPECT_EQ(v.endpoints[0].id.pod, "web-1");
  EXPECT_DOUBLE_EQ(v.endpoints[0].share, 1);
}

TEST(LocalFleet, AVanishedServiceHasOneLastEmptyView) {
  LocalFleet fleet;
  fleet.report({telemetry("web-0", 100), telemetry("cart-0", 100, kCart)}, 10 * kSecond);
  EXPECT_EQ(fleet.join({}, 10 * kSecond).size(), 2U);
  fleet.report({telemetry("web-0", 100)}, 11 * kSecond);
  const auto views = fleet.join({}, 11 * kSecond);
  ASSERT_EQ(views.size(), 2U);
  EXPECT_EQ(views[0].service, kCart);
  EXPECT_TRUE(views[0].endpoints.empty());
  EXPECT_EQ(fleet.join({}, 12 * kSecond).size(), 1U);
}

TEST(LocalFleet, AServiceThatCameBackBeforeTheJoinIsNotGone) {
  LocalFleet fleet;
  fleet.report({telemetry("web-0", 100)}, 10 * kSecond);
  fleet.report({}, 11 * kSecond);
  fleet.report({telemetry("web-0", 100)}, 12 * kSecond);
  const auto views = fleet.join({}, 12 * kSecond);
  ASSERT_EQ(views.size(), 1U);
  EXPECT_EQ(views[0].endpoints.size(), 1U);
}

TEST(LocalFleet, TheOffsetsInForceReachTheNextFeatures) {
  LocalFleet fleet;
  const std::vector<spec::EndpointTelemetry> endpoints = {telemetry("web-0", 100), telemetry("web-1", 100)};
  EXPECT_EQ(fleet.report(endpoints, 10 * kSecond)[0].max[spec::kLogWeight], 0);
  auto p = proposal({{"web-0", 0}, {"web-1", 0}});
  p.endpoints[0].offset = 0.25;
  fleet.join({p}, 10 * kSecond);
  EXPECT_FLOAT_EQ(fleet.report(endpoints, 11 * kSecond)[0].max[spec::kLogWeight], 0.25F);
}

TEST(LocalFleet, TheLoopsNumbersReachTheFeatures) {
  LocalFleet fleet;
  fleet.set_loop(0.25, 2.0);
  const auto aggregates = fleet.report({telemetry("web-0", 100)}, 10 * kSecond);
  EXPECT_NEAR(aggregates[0].mean[spec::kLoopDelay], std::log(2.0), 1e-5);
}

TEST(LocalFleet, TheLastReportOfAnIdHolds) {
  LocalFleet fleet;
  const auto aggregates = fleet.report({telemetry("web-0", 100), telemetry("web-0", 300)}, 10 * kSecond);
  EXPECT_EQ(aggregates[0].endpoints, 1U);
  EXPECT_DOUBLE_EQ(aggregates[0].mean_capacity_qps, 300);
}

TEST(LocalFleet, TelemetryFromTheFutureHasNoAge) {
  LocalFleet fleet;
  fleet.report({telemetry("web-0", 100)}, 9 * kSecond);
  EXPECT_EQ(fleet.join({}, 9 * kSecond)[0].endpoints[0].age_s, 0);
}

TEST(LocalFleet, GarbageIsPassedOnForTheGuardToJudge) {
  LocalFleet fleet;
  auto bad = telemetry("web-0", 100);
  bad.qps = std::numeric_limits<double>::quiet_NaN();
  fleet.report({bad, telemetry("web-1", 100)}, 10 * kSecond);
  const ServiceView v = fleet.join(
      {proposal({{"web-0", std::numeric_limits<double>::quiet_NaN()}, {"web-1", 0}})}, 10 * kSecond)[0];
  ASSERT_EQ(v.endpoints.size(), 2U);
  EXPECT_FALSE(std::isfinite(v.endpoints[1].share));
  EXPECT_DOUBLE_EQ(v.qps, 50);
}

}  // namespace
}  // namespace ballast::fleet
