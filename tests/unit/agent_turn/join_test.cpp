// SPDX-License-Identifier: Apache-2.0
#include "agent/turn/join.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "agent/fleet/local.h"

namespace ballast::turn {
namespace {

constexpr MonotonicNs kSecond = 1'000'000'000ULL;
const spec::ServiceId kWeb{"shop", "web"};

spec::EndpointTelemetry telemetry(const std::string& pod, double capacity_qps) {
  spec::EndpointTelemetry t;
  t.id = {kWeb, pod};
  t.address = "127.1.0.1";
  t.port = 8080;
  t.known = capacity_qps > 0;
  t.taken = 10 * kSecond;
  t.qps = 50;
  t.p50_ns = 1e6;
  t.p99_ns = 2e7;
  t.latency = {{100, 40}, {120, 1}};
  t.capacity_qps = capacity_qps;
  return t;
}

fleet::Service service(const std::vector<spec::EndpointTelemetry>& endpoints) {
  fleet::LocalReport report{.loop = {.now = 10 * kSecond}};
  for (const auto& endpoint : endpoints) {
    report.endpoints.push_back({endpoint});
  }
  return fleet::LocalFleet().exchange(std::move(report)).at(0);
}

decide::ServiceProposal proposal(const std::vector<std::pair<std::string, double>>& log_priors) {
  decide::ServiceProposal p{.service = kWeb, .neutral = false, .why = "weighted"};
  for (const auto& [pod, log_prior] : log_priors) {
    p.endpoints.push_back({.id = {kWeb, pod}, .log_prior = log_prior});
  }
  return p;
}

TEST(Join, SharesFollowThePriorAndTheOffset) {
  auto p = proposal({{"web-0", std::log(2)}, {"web-1", 0}});
  p.endpoints[1].offset = std::log(0.5);
  const auto v =
      join(service({telemetry("web-0", 100), telemetry("web-1", 100)}), p, 10 * kSecond + kSecond / 2);
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

TEST(Join, AnUnknownEndpointHasTheMedianCapacity) {
  const double mean = 175;  // the unknown one counted with the median
  auto p = proposal({{"web-0", std::log(400 / mean)},
                     {"web-1", std::log(100 / mean)},
                     {"web-2", std::log(100 / mean)},
                     {"web-3", 3.0}});
  p.endpoints[3].offset = 0.5;
  const auto v = join(service({telemetry("web-0", 400), telemetry("web-1", 100), telemetry("web-2", 100),
                               telemetry("web-3", 0)}),
                      p, 10 * kSecond);
  EXPECT_NEAR(v.endpoints[3].share, v.endpoints[1].share, 1e-9);
  EXPECT_NEAR(v.endpoints[0].share / v.endpoints[3].share, 4, 1e-9);
  EXPECT_FALSE(v.endpoints[3].known);
  EXPECT_EQ(v.endpoints[3].offset, 0);
  double total = 0;
  for (const auto& e : v.endpoints) {
    total += e.share;
  }
  EXPECT_NEAR(total, 1, 1e-12);
}

TEST(Join, AnEndpointNobodyDecidedForHasItsCapacity) {
  const auto v = join(service({telemetry("web-0", 300), telemetry("web-1", 100)}),
                      proposal({{"web-1", std::log(0.5)}}), 10 * kSecond);
  EXPECT_NEAR(v.endpoints[0].share / v.endpoints[1].share, 3, 1e-9);
}

TEST(Join, WhoIsOnlyInTheProposalHasLeft) {
  const auto v =
      join(service({telemetry("web-1", 100)}), proposal({{"web-0", 0}, {"web-1", 0}}), 11 * kSecond);
  ASSERT_EQ(v.endpoints.size(), 1U);
  EXPECT_EQ(v.endpoints[0].id.pod, "web-1");
  EXPECT_DOUBLE_EQ(v.endpoints[0].share, 1);
}

TEST(Join, NeutralPassesWithEqualShares) {
  auto p = proposal({{"web-0", 1.0}, {"web-1", -1.0}});
  p.neutral = true;
  p.why = "neutral: short";
  const auto v = join(service({telemetry("web-0", 300), telemetry("web-1", 100)}), p, 10 * kSecond);
  EXPECT_TRUE(v.neutral);
  EXPECT_EQ(v.why, "neutral: short");
  EXPECT_DOUBLE_EQ(v.endpoints[0].share, 0.5);
}

TEST(Join, TelemetryFromTheFutureHasNoAge) {
  EXPECT_EQ(join(service({telemetry("web-0", 100)}), {}, 9 * kSecond).endpoints[0].age_s, 0);
}

TEST(Join, GarbageIsPassedOnForTheGuardToJudge) {
  auto bad = telemetry("web-0", 100);
  bad.qps = std::numeric_limits<double>::quiet_NaN();
  const auto v =
      join(service({bad, telemetry("web-1", 100)}),
           proposal({{"web-0", std::numeric_limits<double>::quiet_NaN()}, {"web-1", 0}}), 10 * kSecond);
  ASSERT_EQ(v.endpoints.size(), 2U);
  EXPECT_FALSE(std::isfinite(v.endpoints[1].share));
  EXPECT_DOUBLE_EQ(v.qps, 50);
}

}  // namespace
}  // namespace ballast::turn
