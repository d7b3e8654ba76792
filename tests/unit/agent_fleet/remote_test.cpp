// SPDX-License-Identifier: Apache-2.0
#include "agent/fleet/remote.h"

#include <gtest/gtest.h>

#include "agent/fleet/fleet_registry.h"

namespace ballast::fleet {
namespace {

using namespace std::chrono_literals;

constexpr MonotonicNs kMs = 1'000'000ULL;
constexpr MonotonicNs kSecond = 1000 * kMs;
const spec::ServiceId kWeb{"shop", "web"};

spec::EndpointTelemetry telemetry(const std::string& pod, double capacity_qps, MonotonicNs taken) {
  spec::EndpointTelemetry t;
  t.id = {kWeb, pod};
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
  std::unique_ptr<RemoteFleet> node(const std::string& name, bool writes, bool adopts = false) {
    auto fleet = std::make_unique<RemoteFleet>(
        RemoteOptions{.interval = 500ms, .longest_age = 5s, .adopt_members = adopts},
        std::make_unique<Wire>(registry_, name, there_));
    fleet->set_loop(0.25, 0.4, writes);
    return fleet;
  }
  static decide::ServiceProposal proposal(const std::string& pod, double offset) {
    decide::ServiceProposal p{.service = kWeb, .neutral = false, .why = "weighted"};
    p.endpoints.push_back({.id = {kWeb, pod}, .offset = offset});
    return p;
  }
  FleetRegistry registry_;
  bool there_ = true;
  MonotonicNs now_ = 100 * kSecond;
};

TEST_F(Remote, TheObservationHoldsTheWholeService) {
  const auto a = node("a", false);
  const auto b = node("b", false);
  a->complete({telemetry("web-0", 100, now_)}, now_);
  b->complete({telemetry("web-1", 300, now_)}, now_);
  now_ += kSecond;
  const auto own = a->complete({telemetry("web-0", 100, now_)}, now_);
  ASSERT_EQ(own.size(), 1U);
  const auto aggregates = a->report(own, now_);
  ASSERT_EQ(aggregates.size(), 1U);
  EXPECT_EQ(aggregates[0].endpoints, 2U);
  EXPECT_DOUBLE_EQ(aggregates[0].mean_capacity_qps, 200);
}

TEST_F(Remote, WhoWritesKnowsEveryEndpointAndHonoursWhatItsNodeDecided) {
  const auto a = node("a", true);
  const auto b = node("b", false);
  b->complete({telemetry("web-1", 300, now_)}, now_);
  b->join({proposal("web-1", 0.2)}, now_);
  now_ += kSecond;
  b->complete({telemetry("web-1", 300, now_)}, now_);
  // As a static file has it: the other's pod is a member here, not measured.
  const auto all = a->complete({telemetry("web-0", 100, now_), telemetry("web-1", 0, 0)}, now_);
  ASSERT_EQ(all.size(), 2U);
  EXPECT_TRUE(all[1].known);
  EXPECT_DOUBLE_EQ(all[1].capacity_qps, 300);
  EXPECT_TRUE(a->owns({kWeb, "web-0"}));
  EXPECT_FALSE(a->owns({kWeb, "web-1"}));
  EXPECT_DOUBLE_EQ(a->report(all, now_).at(0).mean_capacity_qps, 200);

  decide::ServiceProposal mine = proposal("web-1", 0);
  a->honour(mine);
  EXPECT_DOUBLE_EQ(mine.endpoints[0].offset, 0.2);
}

TEST_F(Remote, MembersOfOtherNodesAreTakenInOnlyWhereAsked) {
  const auto b = node("b", false);
  b->complete({telemetry("web-1", 300, now_)}, now_);
  EXPECT_EQ(node("a", true)->complete({telemetry("web-0", 100, now_)}, now_).size(), 1U);
  const auto adopted = node("c", true, true)->complete({telemetry("web-9", 100, now_)}, now_);
  ASSERT_EQ(adopted.size(), 3U);  // a has reported by now, too
  EXPECT_EQ(adopted[0].id.pod, "web-0");
  EXPECT_EQ(adopted[1].id.pod, "web-1");
}

TEST_F(Remote, WithoutTheServerTheNodeIsAloneAndComesBack) {
  const auto a = node("a", false);
  const auto b = node("b", false);
  a->complete({telemetry("web-0", 100, now_)}, now_);
  EXPECT_TRUE(a->joined());
  b->complete({telemetry("web-1", 300, now_)}, now_);
  there_ = false;
  for (int i = 0; i < 8; ++i) {
    now_ += kSecond;
    const auto own = a->complete({telemetry("web-0", 100, now_)}, now_);
    EXPECT_EQ(a->joined(), i < 5) << i;
    EXPECT_EQ(a->report(own, now_).size(), 1U) << i;
  }
  const auto own = a->complete({telemetry("web-0", 100, now_)}, now_);
  EXPECT_EQ(a->report(own, now_).at(0).endpoints, 1U) << "its own view";
  there_ = true;
  now_ += kSecond;
  b->complete({telemetry("web-1", 300, now_)}, now_);
  const auto again = a->complete({telemetry("web-0", 100, now_)}, now_);
  EXPECT_EQ(a->report(again, now_).at(0).endpoints, 2U);
}

TEST_F(Remote, TelemetryThatIsTooOldIsAsGoodAsNone) {
  const auto a = node("a", true);
  const auto b = node("b", false);
  b->complete({telemetry("web-1", 300, now_)}, now_);
  now_ += 6 * kSecond;
  const auto all = a->complete({telemetry("web-0", 100, now_), telemetry("web-1", 0, 0)}, now_);
  EXPECT_FALSE(all.at(1).known);
}

}  // namespace
}  // namespace ballast::fleet
