// SPDX-License-Identifier: Apache-2.0
#include "agent/fleet/remote.h"

#include <gtest/gtest.h>

#include "core/spec/unnamed.h"
#include "model/sync/fleet/fleet_registry.h"

namespace ballast::fleet {
namespace {

using namespace std::chrono_literals;

constexpr MonotonicNs kMs = 1'000'000ULL;
constexpr MonotonicNs kSecond = 1000 * kMs;
const spec::ServiceId kShopWeb{"shop", "web"};

spec::EndpointTelemetry telemetry(const std::string& pod, double capacity_qps, MonotonicNs taken) {
  spec::EndpointTelemetry t;
  t.id = {kShopWeb, pod};
  t.address = "127.1.0.1";
  t.known = capacity_qps > 0;
  t.taken = taken;
  t.qps = 50;
  t.p50_ns = 1e6;
  t.p99_ns = 2e7;
  t.capacity_qps = capacity_qps;
  return t;
}

// A registry that one does not have to dial; `there` is the network.
class Wire final : public Exchange {
 public:
  Wire(FleetRegistry& registry, std::string node, const bool& there)
      : registry_(registry), node_(std::move(node)), there_(there) {}
  void offer(NodeReport report) override {
    const MonotonicNs now = report.sent;
    report.node = node_;
    report.session = 1;
    report.sequence = ++sequence_;
    const bool whole = report.whole;
    if (there_ && registry_.report(std::move(report), now) == ReportVerdict::kAccepted) {
      view_ = std::make_shared<const FleetView>(registry_.view(node_, whole, now));
    }
  }
  std::shared_ptr<const FleetView> latest() const override { return view_; }

 private:
  FleetRegistry& registry_;
  std::string node_;
  const bool& there_;
  std::uint64_t sequence_ = 0;
  std::shared_ptr<const FleetView> view_;
};

class Remote : public ::testing::Test {
 protected:
  std::unique_ptr<RemoteFleet> node(const std::string& name, bool adopts = false) {
    return std::make_unique<RemoteFleet>(
        RemoteOptions{.interval = 500ms, .longest_age = 5s, .adopt_members = adopts},
        std::make_unique<Wire>(registry_, name, there_));
  }
  std::vector<Service> exchange(RemoteFleet& fleet, std::vector<Member> own, bool writes = false) const {
    return fleet.exchange({.loop = {.now = now_}, .writes = writes, .endpoints = std::move(own)});
  }
  Member member(const std::string& pod, double capacity_qps, double offset = 0) const {
    return {telemetry(pod, capacity_qps, capacity_qps > 0 ? now_ : 0), offset};
  }
  FleetRegistry registry_;
  bool there_ = true;
  MonotonicNs now_ = 100 * kSecond;
};

TEST_F(Remote, TheAggregateIsTheWholeServicesAndTheEndpointsAreOnesOwn) {
  const auto a = node("a");
  const auto b = node("b");
  exchange(*a, {member("web-0", 100)});
  exchange(*b, {member("web-1", 300)});
  now_ += kSecond;
  const auto services = exchange(*a, {member("web-0", 100)});
  ASSERT_EQ(services.size(), 1U);
  EXPECT_EQ(services[0].endpoints.size(), 1U);
  EXPECT_EQ(services[0].aggregate.endpoints, 2U);
  EXPECT_DOUBLE_EQ(services[0].aggregate.mean_capacity_qps, 200);
}

/// Who reads its own pods alone (identity) still decides for them as for a part of the service.
TEST_F(Remote, EndpointsOfWhichOnlyTheNumberIsToldStandInWithoutAName) {
  const auto a = node("a", true);
  exchange(*node("b"), {member("web-1", 300), member("web-2", 300)});
  exchange(*a, {member("web-0", 100)});
  now_ += kSecond;
  const auto check = [&](const std::vector<Service>& services) {
    ASSERT_EQ(services.size(), 1U) << "none of a service that is not here";
    ASSERT_EQ(services[0].endpoints.size(), 3U);
    EXPECT_EQ(services[0].aggregate.endpoints, 3U);
    EXPECT_EQ(services[0].own, (std::vector{true, false, false}));
    for (std::size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(services[0].endpoints[i].known, i == 0);
      EXPECT_EQ(spec::is_named(services[0].endpoints[i].id), i == 0);
    }
    EXPECT_NE(services[0].endpoints[1].id, services[0].endpoints[2].id);
  };
  check(exchange(*a, {member("web-0", 100)}));
  there_ = false;
  now_ += 10 * kSecond;
  check(exchange(*a, {member("web-0", 100)}));
  EXPECT_FALSE(a->joined());
  // A member that identity names is none of them.
  there_ = true;
  now_ += kSecond;
  const auto named = exchange(*a, {member("web-0", 100), member("web-1", 0)});
  ASSERT_EQ(named.at(0).endpoints.size(), 3U);
  EXPECT_TRUE(spec::is_named(named[0].endpoints[1].id));
}

TEST_F(Remote, NobodyIsBelievedWhoTellsOfAnyNumberOfEndpoints) {
  class Liar final : public Exchange {
   public:
    void offer(NodeReport) override {}
    std::shared_ptr<const FleetView> latest() const override {
      FleetView view{.received = 100 * kSecond, .whole = false, .nodes = 2, .services = {}};
      view.services.push_back({{.service = kShopWeb, .endpoints = SIZE_MAX}, {}});
      return std::make_shared<const FleetView>(view);
    }
  };
  RemoteFleet fleet({.adopt_members = true}, std::make_unique<Liar>());
  EXPECT_EQ(exchange(fleet, {member("web-0", 100)}).at(0).endpoints.size(), 10'000U);
}

TEST_F(Remote, WhoWritesKnowsEveryEndpointAndWhatItsNodeDecided) {
  const auto a = node("a");
  const auto b = node("b");
  exchange(*b, {member("web-1", 300, 0.2)});
  now_ += kSecond;
  // As a static file has it: the other's pod is a member here, not measured.
  auto elsewhere = member("web-1", 0, 0.1);
  elsewhere.telemetry.address = "10.0.0.1";
  const auto services = exchange(*a, {member("web-0", 100, 0.3), elsewhere}, true);
  ASSERT_EQ(services.size(), 1U);
  const Service& web = services[0];
  ASSERT_EQ(web.endpoints.size(), 2U);
  EXPECT_TRUE(web.endpoints[1].known);
  EXPECT_DOUBLE_EQ(web.endpoints[1].capacity_qps, 300);
  EXPECT_EQ(web.endpoints[1].address, "10.0.0.1") << "where it is, this node's identity says";
  EXPECT_EQ(web.own, (std::vector{true, false}));
  EXPECT_DOUBLE_EQ(web.offsets[0], 0.3);
  EXPECT_DOUBLE_EQ(web.offsets[1], 0.2);
  EXPECT_DOUBLE_EQ(web.aggregate.mean_capacity_qps, 200);
}

TEST_F(Remote, WhetherTheCpuLimitsAServiceIsOneWordForAllItsNodes) {
  const auto writer = node("w", true);
  const auto of = [&](const std::string& pod, double evidence) {
    Member m = member(pod, 100);
    m.telemetry.cpu_evidence = evidence;
    return m;
  };
  exchange(*node("a"), {of("web-0", 1), of("web-1", 1)});
  exchange(*node("b"), {of("web-2", 0.4)});
  const auto services = exchange(*writer, {}, true);
  ASSERT_EQ(services.at(0).endpoints.size(), 3U);
  for (const spec::EndpointTelemetry& endpoint : services[0].endpoints) {
    EXPECT_DOUBLE_EQ(endpoint.cpu_evidence, 1) << endpoint.id.pod;
  }
}

TEST_F(Remote, WhatIsMeasuredHereIsNotAnothers) {
  const auto a = node("a");
  const auto b = node("b");
  exchange(*b, {member("web-0", 300, 0.2)});
  const auto services = exchange(*a, {member("web-0", 100, 0.1)}, true);
  EXPECT_DOUBLE_EQ(services.at(0).endpoints[0].capacity_qps, 100);
  EXPECT_TRUE(services[0].own[0]);
  EXPECT_DOUBLE_EQ(services[0].offsets[0], 0.1);
}

TEST_F(Remote, AnOffsetBeyondTheBoundIsCut) {
  const auto b = node("b");
  exchange(*b, {member("web-1", 300, 1e6)});
  const auto services = exchange(*node("a"), {member("web-1", 0)}, true);
  EXPECT_DOUBLE_EQ(services.at(0).offsets[0], static_cast<double>(spec::kMaxOffset));
}

TEST_F(Remote, MembersOfOtherNodesAreTakenInOnlyWhereAsked) {
  const auto b = node("b");
  exchange(*b, {member("web-1", 300)});
  EXPECT_EQ(exchange(*node("a"), {member("web-0", 100)}, true).at(0).endpoints.size(), 1U);
  const auto adopted = exchange(*node("c", true), {member("web-9", 100)}, true);
  ASSERT_EQ(adopted.at(0).endpoints.size(), 3U);  // a has reported by now, too
  EXPECT_EQ(adopted[0].endpoints[0].id.pod, "web-0");
  EXPECT_EQ(adopted[0].endpoints[1].id.pod, "web-1");
  EXPECT_EQ(adopted[0].own, (std::vector{false, false, true}));
}

TEST_F(Remote, WithoutTheServerTheNodeIsAloneAndComesBack) {
  const auto a = node("a");
  const auto b = node("b");
  exchange(*a, {member("web-0", 100)});
  EXPECT_TRUE(a->joined());
  exchange(*b, {member("web-1", 300)});
  there_ = false;
  for (int i = 0; i < 8; ++i) {
    now_ += kSecond;
    EXPECT_EQ(exchange(*a, {member("web-0", 100)}).size(), 1U) << i;
    EXPECT_EQ(a->joined(), i < 5) << i;
  }
  EXPECT_EQ(exchange(*a, {member("web-0", 100)}).at(0).aggregate.endpoints, 1U) << "its own view";
  EXPECT_NE(a->trouble().find("fleet.remote"), std::string::npos) << a->trouble();
  there_ = true;
  now_ += kSecond;
  exchange(*b, {member("web-1", 300)});
  EXPECT_EQ(exchange(*a, {member("web-0", 100)}).at(0).aggregate.endpoints, 2U);
  EXPECT_EQ(a->trouble(), "");
}

TEST_F(Remote, ASmallFleetReportsWithEachTickAndALargeOneByItsInterval) {
  const auto a = node("a");
  const auto b = node("b");
  exchange(*b, {member("web-1", 300)});
  exchange(*a, {member("web-0", 100)}, true);
  const auto measured_by_b = [&] { return exchange(*a, {member("web-0", 100), member("web-1", 0)}, true); };
  now_ += 100 * kMs;
  exchange(*b, {member("web-1", 150)});
  EXPECT_DOUBLE_EQ(measured_by_b().at(0).endpoints.at(1).capacity_qps, 150) << "in the very next tick";
  std::vector<std::unique_ptr<RemoteFleet>> many;
  for (int i = 0; i < 1000; ++i) {
    many.push_back(node("n" + std::to_string(i)));
    exchange(*many.back(), {});
  }
  now_ += 500 * kMs;
  exchange(*b, {member("web-1", 150)});
  now_ += 100 * kMs;
  exchange(*b, {member("web-1", 70)});
  EXPECT_DOUBLE_EQ(measured_by_b().at(0).endpoints.at(1).capacity_qps, 150) << "its interval is not over";
}

TEST_F(Remote, AServerThatNeverCameIsTold) {
  there_ = false;
  const auto a = node("a");
  for (int i = 0; i < 7; ++i) {
    exchange(*a, {member("web-0", 100)});
    EXPECT_EQ(a->trouble().empty(), i < 6) << i << a->trouble();
    now_ += kSecond;
  }
}

TEST_F(Remote, TelemetryThatIsTooOldIsAsGoodAsNone) {
  const auto a = node("a");
  const auto b = node("b");
  exchange(*b, {member("web-1", 300)});
  now_ += 6 * kSecond;
  const auto services = exchange(*a, {member("web-0", 100), member("web-1", 0)}, true);
  EXPECT_FALSE(services.at(0).endpoints.at(1).known);
}

}  // namespace
}  // namespace ballast::fleet
