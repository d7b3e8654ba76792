// SPDX-License-Identifier: Apache-2.0
#include "agent/export/route_stats.h"

#include <gtest/gtest.h>

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

TEST(RouteStats, RoutesAndStatusesOfAService) {
  RouteStats stats;
  ExportSpan client = span_of("/users/1", 200);
  client.span.role = BALLAST_ROLE_CLIENT;
  stats.add({span_of("/users/1", 200), span_of("/users/2", 200), span_of("/users/3", 404), client}, kSecond);
  const auto services = stats.services();
  ASSERT_EQ(services.size(), 1U);
  const auto& routes = services.at(kWeb).routes;
  ASSERT_EQ(routes.size(), 1U);
  const auto& route = routes.at("/users/{id}");
  EXPECT_EQ(route.statuses, (std::map<std::uint16_t, std::uint64_t>{{200, 2}, {404, 1}}));
  EXPECT_NEAR(route.duration.sum_s, 0.06, 1e-9);
  EXPECT_EQ(services.at(kWeb).users, 0);
}

TEST(RouteStats, NothingIsLostWhereRoutesBecomeOne) {
  RouteStats stats;
  for (char c = 'a'; c <= 'z'; ++c) {
    stats.add({span_of(std::string("/items/x") + c, 200)}, kSecond);
  }
  const auto routes = stats.services().at(kWeb).routes;
  ASSERT_EQ(routes.size(), 1U);
  EXPECT_EQ(routes.at("/items/{name}").statuses.at(200), 26U);
}

TEST(RouteStats, StatusesAreBounded) {
  RouteStats stats;
  for (std::uint16_t status = 100; status < 600; ++status) {
    stats.add({span_of("/", status)}, kSecond);
  }
  EXPECT_LE(stats.services().at(kWeb).routes.at("/").statuses.size(), RouteStats::kMostStatuses + 1);
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
  EXPECT_NEAR(stats.services().at(kWeb).users, 5000, 5000 * 0.1);
  stats.add({span_of("/", 200, "00000000000000aa")}, kSecond + 3 * RouteStats::kUsersNs);
  EXPECT_NEAR(stats.services().at(kWeb).users, 1, 0.1);
}

TEST(RouteStats, StandInTheMetrics) {
  RouteStats stats;
  stats.add({span_of("/users/1", 200, "00000000000000aa")}, kSecond);
  Metrics metrics;
  metrics.set_routes(stats.services());
  std::string names;
  for (const auto& family : metrics.collect()) {
    names += std::string(family.metric->name) + " ";
  }
  for (const char* name :
       {"ballast_route_requests_total", "ballast_route_duration_seconds", "ballast_users"}) {
    EXPECT_NE(names.find(name), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace ballast::telemetry
