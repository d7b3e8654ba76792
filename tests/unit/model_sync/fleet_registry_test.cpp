// SPDX-License-Identifier: Apache-2.0
#include "model/sync/fleet/fleet_registry.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "telemetry.h"

namespace ballast::fleet {
namespace {

constexpr MonotonicNs kMs = 1'000'000ULL;
constexpr MonotonicNs kSecond = 1000 * kMs;
const spec::ServiceId kWeb{"shop", "web"};

EndpointReport endpoint(const std::string& pod, double capacity_qps, MonotonicNs taken,
                        const spec::ServiceId& service = kWeb) {
  EndpointReport e;
  e.telemetry.id = {service, pod};
  e.telemetry.known = true;
  e.telemetry.taken = taken;
  e.telemetry.qps = 50;
  e.telemetry.p50_ns = 1e6;
  e.telemetry.p99_ns = 2e7;
  e.telemetry.capacity_qps = capacity_qps;
  return e;
}

// A node whose clock is not ours.
struct Node {
  std::string name;
  MonotonicNs ahead;  // its clock before ours
  std::uint64_t session = 1;
  std::uint64_t sequence = 0;

  NodeReport report(MonotonicNs now, const std::vector<std::pair<std::string, double>>& pods,
                    MonotonicNs age = 0) {
    NodeReport out{.node = name, .session = session, .sequence = ++sequence, .sent = now + ahead};
    for (const auto& [pod, capacity] : pods) {
      out.endpoints.push_back(endpoint(pod, capacity, out.sent - age));
    }
    return out;
  }
};

TEST(FleetRegistry, JoinsTheEndpointsOfAllNodesByService) {
  FleetRegistry registry;
  Node a{"a", 0};
  Node b{"b", 900 * kSecond};
  const MonotonicNs now = 100 * kSecond;
  ASSERT_EQ(registry.report(a.report(now, {{"web-0", 100}}), now), ReportVerdict::kAccepted);
  ASSERT_EQ(registry.report(b.report(now, {{"web-1", 300}}, 200 * kMs), now), ReportVerdict::kAccepted);

  const FleetView part = registry.view("a", false, now);
  ASSERT_EQ(part.services.size(), 1U);
  EXPECT_EQ(part.nodes, 2U);
  EXPECT_EQ(part.services[0].aggregate.endpoints, 2U);
  EXPECT_DOUBLE_EQ(part.services[0].aggregate.mean_capacity_qps, 200);
  EXPECT_TRUE(part.services[0].others.empty());

  const FleetView whole = registry.view("a", true, now);
  ASSERT_EQ(whole.services.at(0).others.size(), 1U);
  EXPECT_EQ(whole.services[0].others[0].telemetry.id.pod, "web-1");
  EXPECT_EQ(whole.services[0].others[0].telemetry.taken, now - 200 * kMs) << "in our clock";
}

TEST(FleetRegistry, DuplicatesReplaysAndEarlierLivesAreRefused) {
  FleetRegistry registry;
  Node a{"a", 0};
  const MonotonicNs now = 100 * kSecond;
  const NodeReport first = a.report(now, {{"web-0", 100}});
  const NodeReport second = a.report(now, {{"web-0", 200}});
  ASSERT_EQ(registry.report(second, now), ReportVerdict::kAccepted);
  EXPECT_EQ(registry.report(second, now), ReportVerdict::kReplay) << "a duplicate";
  EXPECT_EQ(registry.report(first, now), ReportVerdict::kReplay) << "out of order";
  Node reborn{"a", 500 * kSecond, 2};
  EXPECT_EQ(registry.report(reborn.report(now + kSecond, {{"web-0", 400}}), now + kSecond),
            ReportVerdict::kAccepted);
  NodeReport old = a.report(now + kSecond, {{"web-0", 1}});
  EXPECT_EQ(registry.report(old, now + kSecond), ReportVerdict::kSession);
  EXPECT_DOUBLE_EQ(registry.view("a", false, now + kSecond).services.at(0).aggregate.mean_capacity_qps, 400);
  const FleetRegistryStats stats = registry.stats(now + kSecond);
  EXPECT_EQ(stats.verdicts[static_cast<std::size_t>(ReportVerdict::kReplay)], 2U);
  EXPECT_EQ(stats.verdicts[static_cast<std::size_t>(ReportVerdict::kSession)], 1U);
}

TEST(FleetRegistry, AReportThatWasHeldUpIsAsOldAsItIs) {
  FleetRegistry registry;
  Node a{"a", 12345 * kSecond};
  MonotonicNs now = 100 * kSecond;
  ASSERT_EQ(registry.report(a.report(now, {{"web-0", 100}}), now + kMs), ReportVerdict::kAccepted);
  Node asks{"b", 0};
  ASSERT_EQ(registry.report(asks.report(now, {}), now), ReportVerdict::kAccepted);

  const NodeReport held = a.report(now + kSecond, {{"web-0", 100}});
  now += 4 * kSecond;  // three seconds under way
  ASSERT_EQ(registry.report(held, now + kMs), ReportVerdict::kAccepted);
  const auto seen = registry.view("b", true, now + kMs).services.at(0).others.at(0).telemetry;
  EXPECT_NEAR(static_cast<double>(now - seen.taken), 3e9, 1e7);

  const NodeReport lost = a.report(now, {{"web-0", 100}});
  EXPECT_EQ(registry.report(lost, now + 8 * kSecond), ReportVerdict::kLate);
}

TEST(FleetRegistry, ASilentNodeLeavesAndANewNodeMayTakeItsPods) {
  FleetRegistry registry;
  Node a{"a", 0};
  Node b{"b", 0};
  MonotonicNs now = 100 * kSecond;
  ASSERT_EQ(registry.report(a.report(now, {{"web-0", 100}}), now), ReportVerdict::kAccepted);
  ASSERT_EQ(registry.report(b.report(now, {{"web-0", 900}, {"web-1", 300}}), now), ReportVerdict::kAccepted);
  EXPECT_EQ(registry.stats(now).claimed, 1U) << "another's, while it lives";
  EXPECT_DOUBLE_EQ(registry.view("a", false, now).services.at(0).aggregate.mean_capacity_qps, 200);

  now += 16 * kSecond;
  ASSERT_EQ(registry.report(b.report(now, {{"web-0", 900}, {"web-1", 300}}), now), ReportVerdict::kAccepted);
  EXPECT_EQ(registry.stats(now).nodes, 1U);
  EXPECT_DOUBLE_EQ(registry.view("b", false, now).services.at(0).aggregate.mean_capacity_qps, 600);
}

TEST(FleetRegistry, ANodeWhoseClockJumpedBackBeforeItRestartedIsNotShutOutForLong) {
  FleetRegistry registry;
  MonotonicNs now = 100 * kSecond;
  Node before{"a", 0, 1000};
  ASSERT_EQ(registry.report(before.report(now, {{"web-0", 100}}), now), ReportVerdict::kAccepted);
  Node after{"a", 0, 999};
  int refused = 0;
  for (; refused < 100; ++refused) {
    now += kSecond;
    if (registry.report(after.report(now, {{"web-0", 100}}), now) == ReportVerdict::kAccepted) {
      break;
    }
  }
  EXPECT_EQ(refused, 15) << "until the earlier life is forgotten";
}

TEST(FleetRegistry, APodThatMovesIsTheOtherNodesAtOnce) {
  FleetRegistry registry;
  Node a{"a", 0};
  Node b{"b", 0};
  const MonotonicNs now = 100 * kSecond;
  ASSERT_EQ(registry.report(a.report(now, {{"web-0", 100}, {"web-1", 100}}), now), ReportVerdict::kAccepted);
  ASSERT_EQ(registry.report(a.report(now, {{"web-1", 100}}), now), ReportVerdict::kAccepted);
  ASSERT_EQ(registry.report(b.report(now, {{"web-0", 300}}), now), ReportVerdict::kAccepted);
  EXPECT_EQ(registry.stats(now).claimed, 0U);
  EXPECT_EQ(registry.stats(now).endpoints, 2U);
  ASSERT_EQ(registry.report(a.report(now, {}), now), ReportVerdict::kAccepted);
  ASSERT_EQ(registry.report(b.report(now, {}), now), ReportVerdict::kAccepted);
  EXPECT_EQ(registry.stats(now).services, 0U) << "nothing is kept of what has gone";
}

TEST(FleetRegistry, WhatIsNotFiniteIsNotUsedAndTheRestIs) {
  FleetRegistry registry;
  Node a{"a", 0};
  const MonotonicNs now = 100 * kSecond;
  const double nan = std::numeric_limits<double>::quiet_NaN();
  ASSERT_EQ(registry.report(a.report(now, {{"web-0", nan}, {"web-1", 300}}), now), ReportVerdict::kAccepted);
  EXPECT_EQ(registry.stats(now).not_finite, 1U);
  const auto aggregate = registry.view("a", false, now).services.at(0).aggregate;
  EXPECT_EQ(aggregate.known, 1U);
  EXPECT_DOUBLE_EQ(aggregate.mean_capacity_qps, 300);
  NodeReport one = a.report(now, {{"web-0", 100}});
  const std::size_t numbers = testing::numbers(one.endpoints.at(0).telemetry).size();
  for (std::size_t i = 0; i < numbers; ++i) {
    NodeReport wrong = a.report(now, {{"web-0", 100}});
    *testing::numbers(wrong.endpoints[0].telemetry)[i] = nan;
    ASSERT_EQ(registry.report(std::move(wrong), now), ReportVerdict::kAccepted);
    EXPECT_EQ(registry.stats(now).not_finite, 2U + i) << "of testing::numbers, " << i;
  }
}

TEST(FleetRegistry, ItsSizeIsBounded) {
  FleetRegistry registry({.most_nodes = 2, .most_endpoints = 2});
  Node a{"a", 0};
  Node b{"b", 0};
  Node c{"c", 0};
  Node nameless{"", 0};
  const MonotonicNs now = 100 * kSecond;
  std::string why;
  EXPECT_EQ(registry.report(a.report(now, {{"0", 1}, {"1", 1}, {"2", 1}}), now, &why),
            ReportVerdict::kTooMany);
  EXPECT_NE(why.find("3 endpoints where 2 are the most"), std::string::npos) << why;
  EXPECT_EQ(registry.report(a.report(now, {}), now), ReportVerdict::kAccepted);
  EXPECT_EQ(registry.report(b.report(now, {}), now), ReportVerdict::kAccepted);
  EXPECT_EQ(registry.report(c.report(now, {}), now), ReportVerdict::kTooMany);
  EXPECT_EQ(registry.report(nameless.report(now, {}), now), ReportVerdict::kMalformed);
  EXPECT_TRUE(registry.view("nobody", true, now).services.empty());
}

}  // namespace
}  // namespace ballast::fleet
