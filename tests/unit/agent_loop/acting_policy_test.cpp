// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/acting_policy.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/file.h"
#include "model/policy/forecast_file.h"
#include "model/policy/gains_file.h"
#include "model/policy/parameters.h"
#include "model/policy/shipped.h"

namespace ballast::loop {
namespace {

std::string parameters(std::uint64_t epoch, std::uint64_t version, std::uint64_t seed = 1) {
  policy::Parameters p = policy::initial(seed);
  p.epoch = epoch;
  p.version = version;
  return policy::serialize(p);
}

ActingPolicy learned() {
  return std::move(ActingPolicy::create(PolicyKind::kLearned, {}, parameters(1, 5))).value();
}

TEST(ActingPolicy, SaysWhatActs) {
  const ActingPolicy acting = learned();
  EXPECT_STREQ(acting.name(), "learned");
  EXPECT_EQ(acting.epoch(), 1U);
  EXPECT_EQ(acting.version(), 5U);
  EXPECT_EQ(acting.crc32(), policy::fingerprint(parameters(1, 5)));
  const auto* policy = dynamic_cast<decide::LearnedPolicy*>(&acting.policy());
  ASSERT_NE(policy, nullptr);
  EXPECT_EQ(policy->network()->version(), 5U);
}

TEST(ActingPolicy, WithoutAFileItIsTheShippedOne) {
  const auto acting = ActingPolicy::create(PolicyKind::kLearned, {}, std::nullopt);
  ASSERT_TRUE(acting.ok()) << acting.error().message;
  EXPECT_EQ(acting->version(), policy::parse(policy::shipped())->version);
  EXPECT_EQ(acting->crc32(), policy::fingerprint(policy::shipped()));
}

TEST(ActingPolicy, TheRuleTakesNoParameters) {
  auto acting = ActingPolicy::create(PolicyKind::kQueueRule, {}, std::nullopt);
  ASSERT_TRUE(acting.ok());
  EXPECT_STREQ(acting->name(), "queue_rule");
  EXPECT_EQ(acting->policy().name(), "queue_rule");
  EXPECT_FALSE(acting->learns());
  EXPECT_FALSE(acting->replace(parameters(1, 6)).ok());
}

TEST(ActingPolicy, AForecastsParametersOfAFormerVersionAreRefusedAndTheStrongRuleActs) {
  std::string former(policy::shipped_forecast());
  former[policy::kForecastMagic.size()] = 0;
  auto acting = ActingPolicy::create(PolicyKind::kForecastRule, {}, former);
  ASSERT_TRUE(acting.ok()) << acting.error().message;
  EXPECT_EQ(acting->crc32(), 0U);
  const auto proposal = acting->policy().decide({}, {});
  EXPECT_EQ(proposal.forecast_says, "no forecast: parameters of version 0 refused");
  EXPECT_FALSE(acting->replace_forecast(former, 3, 1).ok());
  EXPECT_EQ(acting->refused(), 1U);
  // What a learner of this version hands over acts; a deposed leader's does not.
  const std::string good(policy::shipped_forecast());
  EXPECT_TRUE(acting->replace_forecast(good, 3, 1).ok());
  EXPECT_EQ(acting->version(), 1U);
  EXPECT_EQ(acting->crc32(), policy::fingerprint(good));
  EXPECT_FALSE(acting->replace_forecast(good, 2, 9).ok());
  EXPECT_EQ(acting->epoch(), 3U);
  EXPECT_FALSE(acting->replace_from_learner(parameters(4, 1)).ok()) << "of the other network";
  // Any other file at the start is wrong use.
  const auto wrong = ActingPolicy::create(PolicyKind::kForecastRule, {}, "short");
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().exit_code(), 2);
}

TEST(ActingPolicy, LearnedParametersOfAFormerVersionAreRefusedAndTheStrongRuleActs) {
  for (const std::size_t at : {policy::kMagic.size(), policy::kMagic.size() + 4}) {
    std::string former = parameters(1, 5);
    former[at] = 99;
    auto acting = ActingPolicy::create(PolicyKind::kLearned, {}, former);
    ASSERT_TRUE(acting.ok()) << acting.error().message;
    EXPECT_STREQ(acting->name(), "queue_rule");
    EXPECT_EQ(acting->policy().name(), "queue_rule");
    EXPECT_THAT(acting->trouble(), ::testing::HasSubstr("version is 99"));
    EXPECT_FALSE(acting->learns()) << "the rule's steps teach the learned policy nothing";
    EXPECT_TRUE(acting->takes_parameters());
    EXPECT_FALSE(acting->replace(former).ok());
    EXPECT_EQ(acting->policy().name(), "queue_rule");
    // What comes of this version acts.
    EXPECT_TRUE(acting->replace_from_learner(parameters(2, 1)).ok());
    EXPECT_STREQ(acting->name(), "learned");
    EXPECT_EQ(acting->policy().name(), "learned");
    EXPECT_TRUE(acting->learns());
    EXPECT_EQ(acting->trouble(), "");
    EXPECT_EQ(acting->version(), 1U);
  }
  std::string damaged = parameters(1, 5);
  damaged[policy::kHeaderBytes] = static_cast<char>(damaged[policy::kHeaderBytes] + 1);
  EXPECT_FALSE(ActingPolicy::create(PolicyKind::kLearned, {}, damaged).ok()) << "that is wrong use";
}

TEST(ActingPolicy, TakesGainsForTheStrongRuleAloneAndUnderAForecastAndSaysWhatTheirTwinsSay) {
  const spec::ServiceId web{"shop", "web"};
  const std::string learned = policy::serialize_gains(
      {{{web, {0, 0, 0.5, 0, 0, 1}}}, {{web, {600, 0, 41.5, 43, 0.8, 0.75, 0.86, true, ""}}}});
  spec::ServiceObservation observation;
  observation.aggregate.service = web;
  for (const PolicyKind kind : {PolicyKind::kQueueRule, PolicyKind::kForecastRule}) {
    auto acting = ActingPolicy::create(kind, {}, std::nullopt);
    ASSERT_TRUE(acting.ok() && acting->has_gains());
    EXPECT_FALSE(acting->policy().decide(observation, {}).twin);
    ASSERT_TRUE(acting->replace_gains(learned).ok());
    const auto proposal = acting->policy().decide(observation, {});
    EXPECT_EQ(proposal.twin_says, "learned gains, p99 0.80; foresaw 41.5 ms, came 43");
    ASSERT_TRUE(proposal.twin);
    EXPECT_TRUE(proposal.twin->in_force);
    // What is no file of gains changes nothing; one without gains gives the rule its own back.
    EXPECT_FALSE(acting->replace_gains("{}").ok());
    EXPECT_TRUE(acting->policy().decide(observation, {}).twin->in_force);
    ASSERT_TRUE(acting->replace_gains(policy::serialize_gains({{}, {{web, {600, 0, 41.5, 43}}}})).ok());
    EXPECT_THAT(acting->policy().decide(observation, {}).twin_says,
                ::testing::StartsWith("the rule's own gains"));
    ASSERT_TRUE(acting->replace_gains(policy::serialize_gains({})).ok());
    EXPECT_FALSE(acting->policy().decide(observation, {}).twin);
  }
  auto other = ActingPolicy::create(PolicyKind::kPrior, {}, std::nullopt);
  ASSERT_TRUE(other.ok());
  EXPECT_FALSE(other->has_gains());
  EXPECT_FALSE(other->replace_gains(learned).ok());
}

TEST(ActingPolicy, ABadFileAtTheStartIsWrongUse) {
  const auto acting = ActingPolicy::create(PolicyKind::kLearned, {}, "short");
  ASSERT_FALSE(acting.ok());
  EXPECT_EQ(acting.error().exit_code(), 2);
}

TEST(ActingPolicy, NewParametersActAndBadOnesChangeNothing) {
  ActingPolicy acting = learned();
  const std::string better = parameters(1, 6, 2);
  ASSERT_TRUE(acting.replace_from_learner(better).ok());
  EXPECT_EQ(acting.version(), 6U);

  std::string flipped = parameters(1, 7);
  flipped[100] = static_cast<char>(flipped[100] ^ 1);
  std::string truncated = parameters(1, 7);
  truncated.pop_back();
  for (const std::string& bad : {flipped, truncated, std::string()}) {
    EXPECT_FALSE(acting.replace_from_learner(bad).ok());
    EXPECT_EQ(acting.version(), 6U);
    EXPECT_EQ(acting.crc32(), policy::fingerprint(better));
  }
  EXPECT_EQ(acting.replaced(), 1U);
  EXPECT_EQ(acting.refused(), 3U);
}

TEST(ActingPolicy, ADeposedLeadersParametersAreRefusedButNotAnOperators) {
  ActingPolicy acting = learned();
  ASSERT_TRUE(acting.replace_from_learner(parameters(4, 1)).ok());
  const Status old = acting.replace_from_learner(parameters(3, 900));
  ASSERT_FALSE(old.ok());
  EXPECT_THAT(old.error().message, ::testing::HasSubstr("deposed"));
  EXPECT_EQ(acting.epoch(), 4U);
  EXPECT_TRUE(acting.replace(parameters(3, 900)).ok());
  EXPECT_EQ(acting.epoch(), 3U);
}

TEST(ActingPolicy, APolicyWithoutParametersTakesNone) {
  auto acting = ActingPolicy::create(PolicyKind::kPrior, {}, std::nullopt);
  ASSERT_TRUE(acting.ok());
  EXPECT_FALSE(acting->replace(parameters(1, 1)).ok());
  EXPECT_EQ(acting->crc32(), 0U);
}

}  // namespace
}  // namespace ballast::loop
