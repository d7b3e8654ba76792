// SPDX-License-Identifier: Apache-2.0
#include "agent/export/decision_row.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "agent/export/text_field.h"
#include "weigher.h"

namespace ballast::telemetry {
namespace {

using ballast::testing::Weigher;

class DecisionRowTest : public ::testing::Test {
 protected:
  void SetUp() override {
    tick_.now = 9'000'000'000;
    tick_.mode = guard::Mode::kShadow;  // the service's own is what counts
    tick_.policy = "learned";
    tick_.policy_epoch = 3;
    tick_.policy_version = 14;
    for (const char* pod : {"web-0", "web-1"}) {
      spec::EndpointObservation& seen = observation_.endpoints.emplace_back();
      seen.telemetry.id = {{"shop", "web"}, pod};
      seen.telemetry.taken = 8'500'000'000;
      seen.telemetry.qps = pod[4] == '0' ? 30 : 10;
      seen.features[0] = 1.5F;
      decide::Proposal& proposed = proposal_.endpoints.emplace_back();
      proposed.id = seen.telemetry.id;
      proposed.log_prior = pod[4] == '0' ? std::log(3.0) : 0;
      proposed.offset = 0.25;
      proposed.action = 3;
    }
    proposal_.neutral = false;
  }

  sample::DecisionRow row(std::size_t index) {
    const turn::Decision decision{observation_, proposal_, weights_, answer_, in_force_};
    return DecisionRows(decision, tick_).row(index);
  }

  Weigher weigher_;
  guard::GuardedWeights weights_ = weigher_.by_shares("web", {3, 1});
  spec::ServiceObservation observation_;
  decide::ServiceProposal proposal_;
  TickState tick_;
  guard::Answer answer_ = {guard::Outcome::kAcknowledged, "by all"};
  std::vector<std::uint32_t> in_force_ = {1500, 500};
};

TEST_F(DecisionRowTest, HoldsWhatWasSeenWantedAndDone) {
  const sample::DecisionRow made = row(0);
  EXPECT_STREQ(made.key.ns, "shop");
  EXPECT_STREQ(made.key.service, "web");
  EXPECT_STREQ(made.key.pod, "web-0");
  EXPECT_EQ(made.value.decided_ns, 9'000'000'000U);
  EXPECT_EQ(made.value.weight, weights_.endpoints()[0].weight);
  EXPECT_EQ(made.value.in_force, 1500U);
  EXPECT_EQ(made.value.outcome, static_cast<unsigned>(guard::Outcome::kAcknowledged));
  EXPECT_STREQ(made.value.outcome_detail, "by all");
  EXPECT_EQ(made.value.mode, 2U);
  EXPECT_EQ(made.value.asked_neutral, 0U);
  EXPECT_EQ(made.value.blend_e6, 1'000'000);
  EXPECT_NEAR(static_cast<double>(made.value.shadow_e6), 750'000, 1);
  EXPECT_EQ(made.value.neutral, 0U);
  EXPECT_EQ(made.value.guard_reasons, weights_.endpoints()[0].reasons);
  EXPECT_NEAR(static_cast<double>(made.value.log_prior_e6), std::log(3.0) * 1e6, 1);
  EXPECT_EQ(made.value.offset_e6, 250'000);
  EXPECT_NEAR(static_cast<double>(made.value.proposed_e6), 750'000, 1);
  EXPECT_NEAR(static_cast<double>(made.value.guarded_e6), 750'000, 2000);
  EXPECT_EQ(made.value.features_e6[0], 1'500'000);
  EXPECT_EQ(made.value.feature_count, static_cast<unsigned>(BALLAST_DECISION_FEATURES));
  EXPECT_EQ(made.value.action, 3U);
  EXPECT_EQ(made.value.policy_epoch, 3U);
  EXPECT_EQ(made.value.policy_version, 14U);
  EXPECT_STREQ(made.value.policy, "learned");
  EXPECT_EQ(std::string(made.value.why), weights_.why().substr(0, sizeof made.value.why - 1));
  EXPECT_STREQ(made.value.address, "127.1.0.1:8080");
  EXPECT_EQ(made.value.raw[BALLAST_RAW_QPS], 30);
  EXPECT_DOUBLE_EQ(made.value.raw[BALLAST_RAW_AGE_S], 0.5);
}

TEST_F(DecisionRowTest, WhatAPolicyBelievesOfAnEndpointComesFirst) {
  proposal_.endpoints[0].why = "limit CPU";
  const std::string why = "limit CPU; " + weights_.why();
  EXPECT_EQ(std::string(row(0).value.why), why.substr(0, sizeof row(0).value.why - 1));
}

TEST_F(DecisionRowTest, WhatAnsweredAWeightComesLastAndIsLeftOutWholeWhereThereIsNoRoom) {
  proposal_.endpoints[0].answered = "weight -20 %";
  EXPECT_EQ(std::string(row(0).value.why), weights_.why() + "; weight -20 %");
  proposal_.endpoints[0].answered = std::string(sizeof row(0).value.why - 2 - weights_.why().size(), 'x');
  EXPECT_EQ(std::string(row(0).value.why), weights_.why());
}

TEST_F(DecisionRowTest, ForecastAndTwinStandBesideAFullSentence) {
  proposal_.endpoints[0].why = std::string(sizeof row(0).value.why, 'x');
  proposal_.forecast_says =
      "forecast not used: error 10000.00 of \"as now\", from 12345678 pairs in 86400 s, period 86400.0 s";
  proposal_.twin_says = "learned gains, p99 0.80; foresaw 1.23e+03 ms, came 1.23e+03";
  EXPECT_EQ(row(0).value.forecast, proposal_.forecast_says);
  EXPECT_EQ(row(0).value.twin, proposal_.twin_says);
}

TEST_F(DecisionRowTest, EndpointsAreMatchedByPodNotByPlace) {
  std::reverse(observation_.endpoints.begin(), observation_.endpoints.end());
  std::reverse(proposal_.endpoints.begin(), proposal_.endpoints.end());
  EXPECT_EQ(row(0).value.raw[BALLAST_RAW_QPS], 30);
  EXPECT_EQ(row(0).value.raw[BALLAST_RAW_QPS], 30);
  EXPECT_EQ(row(1).value.raw[BALLAST_RAW_QPS], 10);
}

TEST_F(DecisionRowTest, EndpointThatNobodyMeasuredHasItsWeightAlone) {
  observation_.endpoints.pop_back();
  proposal_.endpoints.pop_back();
  const sample::DecisionRow made = row(1);
  EXPECT_EQ(made.value.weight, weights_.endpoints()[1].weight);
  EXPECT_EQ(made.value.feature_count, 0U);
  EXPECT_EQ(made.value.action, spec::kKeep);
}

TEST_F(DecisionRowTest, NothingIsInForceThatNobodySaidIs) {
  answer_ = {};
  in_force_ = {};
  EXPECT_EQ(row(0).value.in_force, 0U);
  EXPECT_EQ(row(0).value.outcome, 0U);
  EXPECT_EQ(row(0).value.weight, weights_.endpoints()[0].weight) << "what was decided stays readable";
}

TEST_F(DecisionRowTest, NeutralProposalIsAnEqualShare) {
  weights_ = weigher_.by_shares("web", {1, 1}, true);
  EXPECT_EQ(row(0).value.proposed_e6, 500'000);
  EXPECT_EQ(row(0).value.asked_neutral, 1U);
}

TEST_F(DecisionRowTest, GarbageStaysReadable) {
  proposal_.endpoints[0].log_prior = std::numeric_limits<double>::quiet_NaN();
  proposal_.endpoints[1].offset = std::numeric_limits<double>::infinity();
  observation_.endpoints[0].features[0] = std::numeric_limits<float>::infinity();
  tick_.policy = std::string(500, 'x');
  const sample::DecisionRow made = row(0);
  EXPECT_EQ(made.value.log_prior_e6, 0);
  EXPECT_EQ(made.value.features_e6[0], 0);
  EXPECT_EQ(std::string(made.value.policy), std::string(31, 'x'));
  EXPECT_EQ(row(1).value.offset_e6, 0);
}

TEST(DecisionKey, LongNamesAreCutAndStayTerminated) {
  const ballast_decision_key key =
      decision_key({std::string(100, 'n'), std::string(100, 's')}, std::string(300, 'p'));
  EXPECT_EQ(std::string(key.ns), std::string(63, 'n'));
  EXPECT_EQ(std::string(key.service), std::string(63, 's'));
  EXPECT_EQ(std::string(key.pod), std::string(255, 'p'));
}

TEST(CopySentence, EndsBehindAWholeWord) {
  char field[16];
  copy_sentence(field, "short enough");
  EXPECT_EQ(std::string(field), "short enough");
  copy_sentence(field, "fifteen letters");
  EXPECT_EQ(std::string(field), "fifteen letters");
  copy_sentence(field, "neutral: a sentence");
  EXPECT_EQ(std::string(field), "neutral: a...");
  copy_sentence(field, "onewordthatislonger");
  EXPECT_EQ(std::string(field), "onewordthati...");
}

}  // namespace
}  // namespace ballast::telemetry
