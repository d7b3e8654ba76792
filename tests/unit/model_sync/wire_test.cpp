// SPDX-License-Identifier: Apache-2.0
#include "model/sync/wire/wire.h"

#include <gtest/gtest.h>

#include "core/base/backoff.h"
#include "model/sync/wire/fleet_wire.h"
#include "telemetry.h"

namespace ballast::sync {
namespace {

spec::Rollout example() {
  spec::Rollout rollout;
  rollout.endpoint = "shop/web/web-0";
  rollout.epoch = 3;
  rollout.version = 1'000'000'007;
  for (int i = 0; i < 3; ++i) {
    spec::Step step;
    step.observation.fill(0.1F * static_cast<float>(i));
    step.context.fill(-1.5F);
    step.context[4] = static_cast<float>(i);
    step.action = static_cast<decltype(step.action)>(i);
    step.behaviour_probability = 0.3F;
    step.reward = -2.25F;
    rollout.steps.push_back(step);
  }
  rollout.bootstrap_observation.fill(0.7F);
  rollout.bootstrap_context.fill(0.8F);
  rollout.terminal = true;
  return rollout;
}

// A number that does not travel is 0 at who writes weights, which acts on it all the same.
TEST(Wire, EveryNumberOfAnEndpointTravelsBothWays) {
  fleet::NodeReport report;
  report.node = "a";
  report.endpoints.push_back({testing::endpoint("web-0"), 0.5});
  const auto sent = testing::numbers(report.endpoints[0].telemetry);
  for (std::size_t i = 0; i < sent.size(); ++i) {
    *sent[i] = 1 + 0.25 * static_cast<double>(i);
  }
  v1::NodeReport there;
  to_wire(report, &there);
  auto got = from_wire(there);
  ASSERT_TRUE(got);
  fleet::FleetView view;
  view.services.push_back({{.service = {"shop", "web"}}, got->endpoints});
  v1::FleetAnswer back;
  to_wire(view, 0, &back);
  fleet::FleetView told = from_wire(back, 0);
  const auto reported = testing::numbers(got->endpoints.at(0).telemetry);
  const auto answered = testing::numbers(told.services.at(0).others.at(0).telemetry);
  for (std::size_t i = 0; i < sent.size(); ++i) {
    EXPECT_DOUBLE_EQ(*reported[i], *sent[i]) << "of testing::numbers, " << i;
    EXPECT_DOUBLE_EQ(*answered[i], *sent[i]) << "of testing::numbers, " << i;
  }
}

TEST(Wire, RolloutRoundTrips) {
  const auto sent = example();
  const auto got = from_wire(to_wire(sent));
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(got->endpoint, sent.endpoint);
  EXPECT_EQ(got->epoch, sent.epoch);
  EXPECT_EQ(got->version, sent.version);
  EXPECT_EQ(got->terminal, sent.terminal);
  EXPECT_EQ(got->bootstrap_observation, sent.bootstrap_observation);
  EXPECT_EQ(got->bootstrap_context, sent.bootstrap_context);
  ASSERT_EQ(got->steps.size(), sent.steps.size());
  for (std::size_t i = 0; i < sent.steps.size(); ++i) {
    EXPECT_EQ(got->steps[i].observation, sent.steps[i].observation);
    EXPECT_EQ(got->steps[i].context, sent.steps[i].context);
    EXPECT_EQ(got->steps[i].action, sent.steps[i].action);
    EXPECT_EQ(got->steps[i].behaviour_probability, sent.steps[i].behaviour_probability);
    EXPECT_EQ(got->steps[i].reward, sent.steps[i].reward);
  }
}

TEST(Wire, RolloutsOfAnotherSpecOrShapeAreRefused) {
  auto message = to_wire(example());
  message.set_spec_version(spec::kVersion + 1);
  EXPECT_FALSE(from_wire(message));
  message = to_wire(example());
  message.mutable_steps(1)->mutable_observation()->RemoveLast();
  EXPECT_FALSE(from_wire(message));
  message = to_wire(example());
  message.mutable_steps(1)->add_context(0);
  EXPECT_FALSE(from_wire(message));
  message = to_wire(example());
  message.mutable_steps(0)->set_action(256);  // 0 in a byte
  EXPECT_FALSE(from_wire(message));
  message = to_wire(example());
  message.clear_bootstrap_context();
  EXPECT_FALSE(from_wire(message));
}

TEST(Wire, GradientRoundTripsAndTornBytesGiveNone) {
  const Gradient sent{{2, 5}, 20, 1.5, {1.0F, -0.0F, 3e-42F}};
  auto message = to_wire(sent);
  const Gradient got = from_wire(message);
  EXPECT_EQ(got.acted, sent.acted);
  EXPECT_EQ(got.steps, sent.steps);
  EXPECT_EQ(got.norm, sent.norm);
  EXPECT_EQ(got.values, sent.values);
  message.mutable_values()->pop_back();
  EXPECT_TRUE(from_wire(message).values.empty());
}

TEST(Wire, EveryVerdictHasItsNumber) {
  for (std::size_t i = 0; i < kVerdicts; ++i) {
    const auto name = v1::ServerMessage::Verdict_Name(to_wire(static_cast<Verdict>(i)));
    EXPECT_FALSE(name.empty()) << i;
  }
  EXPECT_EQ(to_wire(Verdict::kNotFinite), v1::ServerMessage::REJECTED_NOT_FINITE);
  EXPECT_EQ(to_wire(Verdict::kEpoch), v1::ServerMessage::REJECTED_EPOCH);
}

TEST(Backoff, DoublesWithinItsBoundsAndStartsAgain) {
  using std::chrono::milliseconds;
  Backoff backoff(milliseconds(100), milliseconds(1000));
  for (const int ceiling : {100, 200, 400, 800, 1000, 1000}) {
    const auto wait = backoff.next();
    EXPECT_GE(wait, milliseconds(ceiling / 2));
    EXPECT_LE(wait, milliseconds(ceiling));
  }
  backoff.reset();
  EXPECT_LE(backoff.next(), milliseconds(100));
}

}  // namespace
}  // namespace ballast::sync
