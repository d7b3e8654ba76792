// SPDX-License-Identifier: Apache-2.0
#include "agent/turn/turn.h"

#include <gtest/gtest.h>

#include "agent/fleet/local.h"

namespace ballast::turn {
namespace {

constexpr MonotonicNs kTick = 250'000'000ULL;
const spec::ServiceId kWeb{"shop", "web"};
const spec::ServiceId kCart{"shop", "cart"};

/// Proposes for each endpoint the offset that it sees, and one step more.
struct Stepping final : decide::Policy {
  std::string name() const override { return "stepping"; }
  decide::ServiceProposal decide(const spec::ServiceObservation& seen, const spec::LoopTiming&) override {
    decide::ServiceProposal p{
        .service = seen.aggregate.service, .neutral = false, .level = level, .why = "step"};
    for (const auto& endpoint : seen.endpoints) {
      last[endpoint.telemetry.id.pod] = endpoint.offset;
      p.endpoints.push_back({.id = endpoint.telemetry.id,
                             .offset = level ? 0 : endpoint.offset + 0.1,
                             .action = 3,
                             .behaviour_probability = 0.5F});
    }
    return p;
  }
  std::map<std::string, double> last;
  bool level = false;
};

class TurnTest : public ::testing::Test {
 protected:
  std::vector<Decision> tick(const std::vector<std::pair<spec::EndpointId, double>>& capacities) {
    loop_.now += kTick;
    std::vector<spec::EndpointTelemetry> own;
    for (const auto& [id, capacity] : capacities) {
      spec::EndpointTelemetry& t = own.emplace_back();
      t.id = id;
      t.known = capacity > 0;
      t.taken = loop_.now;
      t.qps = 20;
      t.capacity_qps = capacity;
    }
    return turn_.decide(change_(fleet_.exchange(turn_.report(std::move(own), loop_))), loop_, policy_);
  }
  static double in_force(const Decision& decision, std::size_t i) {
    return static_cast<double>(decision.observation.endpoints.at(i).features[spec::kLogWeight]);
  }

  const spec::EndpointId web0_{kWeb, "web-0"}, web1_{kWeb, "web-1"}, cart_{kCart, "cart-0"};
  spec::LoopTiming loop_{.now = 1'000'000'000, .subscribers = 20};
  fleet::LocalFleet fleet_;
  Stepping policy_;
  Turn turn_{guard::GuardOptions{}};
  std::function<std::vector<fleet::Service>(std::vector<fleet::Service>)> change_ = [](auto services) {
    return services;
  };
};

TEST_F(TurnTest, APolicyFindsTheOffsetsThatItProposed) {
  tick({{web0_, 100}, {web1_, 100}});
  EXPECT_EQ(policy_.last["web-0"], 0);
  const auto decisions = tick({{web0_, 100}, {web1_, 100}});
  EXPECT_DOUBLE_EQ(policy_.last["web-0"], 0.1);
  EXPECT_NEAR(in_force(decisions.at(0), 0), 0.1, 1e-6);
  EXPECT_DOUBLE_EQ(decisions.at(0).proposal.endpoints[0].offset, 0.2);
}

TEST_F(TurnTest, AnOffsetIsKeptButNotInForceWhileLevelOrNotMeasured) {
  tick({{web0_, 100}, {web1_, 100}});
  policy_.level = true;
  tick({{web0_, 100}, {web1_, 100}});
  policy_.level = false;
  auto decisions = tick({{web0_, 100}, {web1_, 0}});
  EXPECT_DOUBLE_EQ(policy_.last["web-0"], 0.1) << "kept over the level tick";
  EXPECT_EQ(in_force(decisions.at(0), 0), 0) << "the weights were level";
  decisions = tick({{web0_, 100}, {web1_, 100}});
  EXPECT_DOUBLE_EQ(policy_.last["web-1"], 0.2);
  EXPECT_EQ(in_force(decisions.at(0), 1), 0) << "it was not measured";
}

TEST_F(TurnTest, AnOffsetGoesWithItsEndpoint) {
  tick({{web0_, 100}, {web1_, 100}});
  tick({{web1_, 100}});
  tick({{web0_, 100}, {web1_, 100}});
  EXPECT_EQ(policy_.last["web-0"], 0);
  EXPECT_DOUBLE_EQ(policy_.last["web-1"], 0.2);
}

TEST_F(TurnTest, OfAnotherNodesEndpointItsOwnDecisionHolds) {
  change_ = [](std::vector<fleet::Service> services) {
    services[0].own[1] = false;
    services[0].offsets[1] = -0.3;
    return services;
  };
  const auto decisions = tick({{web0_, 100}, {web1_, 100}});
  EXPECT_DOUBLE_EQ(policy_.last["web-1"], -0.3);
  const auto& proposed = decisions.at(0).proposal.endpoints;
  EXPECT_DOUBLE_EQ(proposed[0].offset, 0.1);
  EXPECT_EQ(proposed[0].action, 3U);
  EXPECT_DOUBLE_EQ(proposed[1].offset, -0.3);
  EXPECT_EQ(proposed[1].action, spec::kKeep);
  EXPECT_EQ(proposed[1].behaviour_probability, 1);
  EXPECT_FALSE(decisions.at(0).observation.endpoints[1].own);
}

TEST_F(TurnTest, AServiceThatIsGoneIsToldOnceAndItsPlaceIsInOrder) {
  tick({{web0_, 100}, {cart_, 100}});
  const auto decisions = tick({{web0_, 100}});
  ASSERT_EQ(decisions.size(), 2U);
  EXPECT_EQ(decisions[0].weights.service(), kCart);
  EXPECT_TRUE(decisions[0].weights.endpoints().empty());
  EXPECT_EQ(decisions[1].weights.service(), kWeb);
  EXPECT_EQ(tick({{web0_, 100}}).size(), 1U);
}

TEST_F(TurnTest, ReleaseMakesAllEqual) {
  for (int i = 0; i < 20; ++i) {
    tick({{web0_, 300}, {web1_, 100}, {cart_, 100}});
  }
  const auto decisions = turn_.release();
  ASSERT_EQ(decisions.size(), 2U);
  for (const auto& endpoint : decisions[1].weights.endpoints()) {
    EXPECT_EQ(endpoint.weight, guard::GuardedWeights::kWeightScale);
  }
}

}  // namespace
}  // namespace ballast::turn
