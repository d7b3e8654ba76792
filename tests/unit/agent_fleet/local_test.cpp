// SPDX-License-Identifier: Apache-2.0
#include "agent/fleet/local.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace ballast::fleet {
namespace {

constexpr MonotonicNs kSecond = 1'000'000'000ULL;
const spec::ServiceId kWeb{"shop", "web"};
const spec::ServiceId kCart{"shop", "cart"};

Member member(const std::string& pod, double capacity_qps, const spec::ServiceId& service = kWeb) {
  Member m;
  spec::EndpointTelemetry& t = m.telemetry;
  t.id = {service, pod};
  t.address = "127.1.0.1";
  t.port = 8080;
  t.known = capacity_qps > 0;
  t.taken = 10 * kSecond;
  t.qps = 50;
  t.capacity_qps = capacity_qps;
  return m;
}

std::vector<Service> exchange(LocalFleet& fleet, std::vector<Member> endpoints,
                              MonotonicNs now = 10 * kSecond) {
  return fleet.exchange({.loop = {.now = now}, .endpoints = std::move(endpoints)});
}

TEST(LocalFleet, AnswersByService) {
  LocalFleet fleet;
  const auto services =
      exchange(fleet, {member("web-1", 300), member("cart-0", 50, kCart), member("web-0", 100)});
  ASSERT_EQ(services.size(), 2U);
  EXPECT_EQ(services[0].aggregate.service, kCart);
  EXPECT_EQ(services[1].aggregate.service, kWeb);
  EXPECT_EQ(services[1].aggregate.endpoints, 2U);
  EXPECT_DOUBLE_EQ(services[1].aggregate.mean_capacity_qps, 200);
  ASSERT_EQ(services[1].endpoints.size(), 2U);
  EXPECT_EQ(services[1].endpoints[0].id.pod, "web-0");
  EXPECT_EQ(services[1].own, (std::vector{true, true}));
}

TEST(LocalFleet, AnEndpointOrAServiceThatIsNotReportedIsGoneAtOnce) {
  LocalFleet fleet;
  exchange(fleet, {member("web-0", 100), member("web-1", 100), member("cart-0", 100, kCart)});
  const auto services = exchange(fleet, {member("web-1", 100)}, 11 * kSecond);
  ASSERT_EQ(services.size(), 1U);
  ASSERT_EQ(services[0].endpoints.size(), 1U);
  EXPECT_EQ(services[0].endpoints[0].id.pod, "web-1");
}

TEST(LocalFleet, TheOffsetsInForceReachTheFeatures) {
  LocalFleet fleet;
  auto moved = member("web-0", 100);
  moved.offset = 0.25;
  const auto services = exchange(fleet, {moved, member("web-1", 100)});
  EXPECT_FLOAT_EQ(services[0].aggregate.max[spec::kLogWeight], 0.25F);
  EXPECT_EQ(services[0].offsets, (std::vector{0.25, 0.0}));
}

TEST(LocalFleet, TheLoopsTimingReachesTheFeatures) {
  LocalFleet fleet;
  const auto services = fleet.exchange({.loop = {.now = 10 * kSecond, .tick_s = 0.25, .loop_delay_s = 2.0},
                                        .endpoints = {member("web-0", 100)}});
  EXPECT_NEAR(services[0].aggregate.mean[spec::kLoopDelay], std::log(2.0), 1e-5);
}

TEST(LocalFleet, DifferencesThatLastAreLearntOverTheExchanges) {
  LocalFleet fleet;
  double first = 0;
  double last = 0;
  for (int i = 0; i < 200; ++i) {
    const MonotonicNs now = (10 + static_cast<MonotonicNs>(i)) * kSecond;
    const auto services = exchange(fleet, {member("web-0", 100), member("web-1", 300)}, now);
    (i == 0 ? first : last) = services[0].aggregate.persistence_s;
  }
  EXPECT_GT(last, first + 10);
}

TEST(LocalFleet, TheLastReportOfAnIdHolds) {
  LocalFleet fleet;
  const auto services = exchange(fleet, {member("web-0", 100), member("web-0", 300)});
  EXPECT_EQ(services[0].aggregate.endpoints, 1U);
  EXPECT_DOUBLE_EQ(services[0].aggregate.mean_capacity_qps, 300);
}

}  // namespace
}  // namespace ballast::fleet
