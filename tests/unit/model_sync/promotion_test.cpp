// SPDX-License-Identifier: Apache-2.0
#include "model/sync/network/promotion.h"

#include <gtest/gtest.h>

#include <random>
#include <vector>

namespace ballast::sync {
namespace {

using namespace std::chrono_literals;

std::shared_ptr<const Snapshot> snapshot(std::uint64_t version) {
  return std::make_shared<const Snapshot>(Snapshot{{1, version}, "bytes"});
}

class PromotionTest : public ::testing::Test {
 protected:
  static constexpr int kWorkers = 20;
  static std::string name(int i) { return "node-" + std::to_string(i); }

  // Everybody asks, acts and reports once; the newest parameters pay `newest_pays`.
  void round(const std::shared_ptr<const Snapshot>& newest, double newest_pays) {
    now_ += 500ms;
    on_newest_ = 0;
    for (int i = 0; i < kWorkers; ++i) {
      const auto given = promotion_.parameters_for(name(i), newest, now_);
      const bool has_newest = given->version == newest->version;
      on_newest_ += has_newest ? 1 : 0;
      promotion_.report(name(i), given->version, (has_newest ? newest_pays : -1) + noise_(random_), now_);
    }
    step_ = promotion_.tick(newest, now_);
  }

  Promotion promotion_{{.share = 0.2, .window = 10s, .reports = 30}, snapshot(5)};
  Promotion::Time now_ = Promotion::Time() + 1000s;
  Promotion::Step step_ = Promotion::Step::kNone;
  int on_newest_ = 0;
  std::mt19937 random_{1};
  std::normal_distribution<double> noise_{0, 0.3};
};

TEST_F(PromotionTest, AFifthActsWithTheNewestFirstThenAll) {
  const auto newest = snapshot(9);
  round(newest, -0.9);
  EXPECT_EQ(on_newest_, 0) << "no trial has begun";
  round(newest, -0.9);
  EXPECT_EQ(on_newest_, 4);
  for (int i = 0; i < 30 && step_ == Promotion::Step::kNone; ++i) {
    EXPECT_EQ(promotion_.released()->version.version, 5U);
    round(newest, -0.9);
  }
  EXPECT_EQ(step_, Promotion::Step::kPromoted);
  EXPECT_EQ(promotion_.released()->version.version, 9U);
  round(newest, -0.9);
  EXPECT_EQ(on_newest_, kWorkers);
}

TEST_F(PromotionTest, AWorseObjectiveGivesThemUpBeforeTheWindowIsOver) {
  const auto newest = snapshot(9);
  int rounds = 0;
  for (; rounds < 100 && step_ == Promotion::Step::kNone; ++rounds) {
    round(newest, -1.6);
    EXPECT_LE(on_newest_, 4);
  }
  EXPECT_EQ(step_, Promotion::Step::kReturned);
  EXPECT_LT(rounds, 20) << "20 rounds are the window";
  EXPECT_EQ(promotion_.released()->version.version, 5U);
  EXPECT_EQ(promotion_.stats().returned, 1U);
  promotion_.given_back(snapshot(10));
  round(snapshot(10), -1);
  EXPECT_EQ(on_newest_, kWorkers) << "they are the same";
}

TEST_F(PromotionTest, ATieIsNoImprovement) {
  const auto newest = snapshot(9);
  int rounds = 0;
  for (; rounds < 200 && step_ == Promotion::Step::kNone; ++rounds) {
    now_ += 500ms;
    for (int i = 0; i < kWorkers; ++i) {
      // The same pay on both sides, whatever it is.
      promotion_.report(name(i), promotion_.parameters_for(name(i), newest, now_)->version, rounds % 2, now_);
    }
    step_ = promotion_.tick(newest, now_);
  }
  EXPECT_EQ(step_, Promotion::Step::kReturned);
  EXPECT_GT(rounds, 5 * 20) << "it is given time to prove itself";
  EXPECT_EQ(promotion_.released()->version.version, 5U);
}

TEST_F(PromotionTest, WhatCannotBeJudgedIsNotReleased) {
  const auto newest = snapshot(9);
  for (int i = 0; i < 200 && step_ == Promotion::Step::kNone; ++i) {
    now_ += 500ms;
    for (int w = 0; w < kWorkers; ++w) {
      promotion_.parameters_for(name(w), newest, now_);  // nobody reports
    }
    step_ = promotion_.tick(newest, now_);
  }
  EXPECT_EQ(step_, Promotion::Step::kReturned);
}

TEST_F(PromotionTest, WhoShoutsIsHeardNoMoreThanTheOthers) {
  const auto newest = snapshot(9);
  round(newest, -1.6);
  ASSERT_TRUE(promotion_.stats().trial);
  std::string loud;
  for (int i = 0; i < kWorkers && loud.empty(); ++i) {
    const bool canary = promotion_.parameters_for(name(i), newest, now_)->version == newest->version;
    loud = canary ? name(i) : "";
  }
  for (int i = 0; i < 10'000; ++i) {
    promotion_.report(loud, newest->version, 1, now_ + 1us * i);
  }
  EXPECT_LE(promotion_.stats().canary_reports, 1U);
  for (int i = 0; i < 100 && step_ == Promotion::Step::kNone; ++i) {
    round(newest, -1.6);
  }
  EXPECT_EQ(step_, Promotion::Step::kReturned) << "10,000 claims of one node do not outweigh the others";
}

TEST_F(PromotionTest, TheSameNodesAreCanariesWhoeverLeadsAndAreTold) {
  const auto newest = snapshot(9);
  round(newest, -1);
  const auto first = promotion_.stats();
  ASSERT_EQ(first.canary_nodes.size(), 4U);
  Promotion other({.share = 0.2}, snapshot(5));
  for (int i = kWorkers; i-- > 0;) {  // they come in another order
    other.parameters_for(name(i), newest, now_);
  }
  other.tick(newest, now_);
  EXPECT_EQ(other.stats().canary_nodes, first.canary_nodes);
}

TEST_F(PromotionTest, OneWorkerAloneIsNoTrialAndOffIsOff) {
  const auto newest = snapshot(9);
  for (int i = 0; i < 10; ++i) {
    now_ += 1s;
    EXPECT_EQ(promotion_.parameters_for("alone", newest, now_)->version.version, 5U);
    promotion_.tick(newest, now_);
    EXPECT_FALSE(promotion_.stats().trial);
  }
  Promotion off({}, snapshot(5));
  EXPECT_EQ(off.parameters_for("alone", newest, now_), newest);
  EXPECT_EQ(off.tick(newest, now_), Promotion::Step::kNone);
}

}  // namespace
}  // namespace ballast::sync
