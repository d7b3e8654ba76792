// SPDX-License-Identifier: Apache-2.0
#include "agent/export/route_stats.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "agent/export/metrics.h"

namespace ballast::telemetry {
namespace {

constexpr MonotonicNs kSecond = 1'000'000'000ULL;

ExportSpan span_of(const std::string& target, std::uint16_t status, const std::string& user = "") {
  ExportSpan one;
  one.pod.ns = "shop";
  one.pod.service = "web";
  one.span.role = BALLAST_ROLE_SERVER;
  one.span.status = status;
  one.span.start = kSecond;
  one.span.end = kSecond + 20'000'000;
  one.span.head.target = target;
  one.span.head.user = user;
  return one;
}

const spec::ServiceId kWeb{"shop", "web"};

TEST(RouteStats, NamesTheRoutesOfAService) {
  RouteStats stats;
  EXPECT_EQ(stats.route_of(span_of("/users/1", 200)), "") << "of a service that nothing was seen of";
  ExportSpan client = span_of("/users/1", 200);
  client.span.role = BALLAST_ROLE_CLIENT;
  stats.add({client}, kSecond);
  EXPECT_TRUE(stats.users().empty());
  stats.add({span_of("/users/1", 200), span_of("/users/2", 200)}, kSecond);
  EXPECT_EQ(stats.route_of(span_of("/users/3", 404)), "/users/{id}");
  EXPECT_EQ(stats.users().at(kWeb), 0);
  for (char c = 'a'; c <= 'z'; ++c) {
    stats.add({span_of(std::string("/items/x") + c, 200)}, kSecond);
  }
  EXPECT_EQ(stats.route_of(span_of("/items/xq", 200)), "/items/{name}");
}

TEST(RouteStats, UsersAreCountedOnceAndForgotten) {
  RouteStats stats;
  std::uint64_t hash = 0;
  for (int i = 0; i < 5000; ++i) {
    hash += 0x9e3779b97f4a7c15ULL;
    std::uint64_t mixed = (hash ^ (hash >> 30)) * 0xbf58476d1ce4e5b9ULL;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
    const std::string user = sample::hex(std::string_view(reinterpret_cast<const char*>(&mixed), 8));
    stats.add({span_of("/", 200, user), span_of("/", 200, user)}, kSecond);
  }
  EXPECT_NEAR(stats.users().at(kWeb), 5000, 5000 * 0.1);
  stats.add({span_of("/", 200, "00000000000000aa")}, kSecond + 3 * RouteStats::kUsersNs);
  EXPECT_NEAR(stats.users().at(kWeb), 1, 0.1);
}

TEST(RouteStats, UsersStandInTheMetrics) {
  RouteStats stats;
  stats.add({span_of("/users/1", 200, "00000000000000aa")}, kSecond);
  Metrics metrics;
  metrics.set_users(stats.users());
  const auto families = metrics.collect();
  EXPECT_TRUE(
      std::ranges::any_of(families, [](const auto& one) { return one.metric->name == "ballast_users"; }));
}

}  // namespace
}  // namespace ballast::telemetry
