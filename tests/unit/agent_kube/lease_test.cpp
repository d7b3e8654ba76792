// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/lease.h"

#include <gtest/gtest.h>

#include "scripted_server.h"

namespace ballast::kube {
namespace {

constexpr MonotonicNs kSecond = 1'000'000'000ULL;

/// A server that keeps one Lease as the API does: versions, conflicts.
class LeaseTest : public ::testing::Test {
 protected:
  LeaseTest()
      : server_([this](const Asked& asked) { return serve(asked); }),
        client_(std::move(
            *Client::create({.server = server_.url(), .retry_budget = std::chrono::milliseconds(50)}))) {}

  std::string serve(const Asked& asked) {
    if (asked.method == "GET") {
      cached_ += asked.target.ends_with("?resourceVersion=0") ? 1 : 0;
      return lease_.is_null() ? answer(404, "{}") : answer(200, lease_.dump());
    }
    Json body = Json::parse(asked.body, nullptr, false);
    const bool fresh = asked.method == "POST";
    const bool stale =
        fresh ? !lease_.is_null()
              : text_at(body, {"metadata", "resourceVersion"}) != std::to_string(version_) || interfere_;
    if (stale) {
      return answer(409, "{\"message\":\"conflict\"}");
    }
    lease_ = std::move(body);
    lease_["metadata"]["resourceVersion"] = std::to_string(++version_);
    return std::exchange(hang_up_, false) ? "" : answer(200, lease_.dump());
  }
  LeaderLease lease(const std::string& holder) { return LeaderLease(*client_, {.holder = holder}); }

  Json lease_;
  int version_ = 0;
  int cached_ = 0;  ///< reads that the API server answers from its cache
  bool interfere_ = false;
  bool hang_up_ = false;  ///< what is written lands, and its answer does not
  ScriptedServer server_;
  std::unique_ptr<Client> client_;
};

TEST_F(LeaseTest, TheFirstLeadsAndTheSecondWaits) {
  LeaderLease a = lease("a");
  LeaderLease b = lease("b");
  auto view = a.step(100 * kSecond, true);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(view->leading && view->took);
  EXPECT_EQ(a.valid_until(), 109 * kSecond);
  view = b.step(100 * kSecond, true);
  ASSERT_TRUE(view.ok());
  EXPECT_FALSE(view->leading);
  EXPECT_EQ(view->holder, "a");
  EXPECT_EQ(b.valid_until(), 0U);
}

TEST_F(LeaseTest, RenewingIsNotTakingAnew) {
  LeaderLease a = lease("a");
  ASSERT_TRUE(a.step(100 * kSecond, true).ok());
  const auto view = a.step(102 * kSecond, true);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(view->leading);
  EXPECT_FALSE(view->took);
  EXPECT_EQ(a.valid_until(), 111 * kSecond);
}

TEST_F(LeaseTest, ARenewalWhoseAnswerWasLostIsOneAllTheSame) {
  client_ = std::move(*Client::create({.server = server_.url(),
                                       .retry_budget = std::chrono::milliseconds(2000),
                                       .backoff_least = std::chrono::milliseconds(1),
                                       .backoff_most = std::chrono::milliseconds(2)}));
  LeaderLease a = lease("a");
  ASSERT_TRUE(a.step(100 * kSecond, true).ok());
  hang_up_ = true;  // so that it is sent again, and meets its own version
  const auto view = a.step(102 * kSecond, true);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(view->leading);
  EXPECT_FALSE(view->took);
  EXPECT_EQ(a.valid_until(), 111 * kSecond);
  EXPECT_EQ(a.term(), 1U);
}

TEST_F(LeaseTest, ATermEndsWhenAnotherMayHaveLed) {
  LeaderLease a = lease("a");
  LeaderLease b = lease("b");
  EXPECT_EQ(a.term(), 0U);
  ASSERT_TRUE(a.step(100 * kSecond, true).ok());
  EXPECT_EQ(a.term(), 1U);
  ASSERT_TRUE(a.step(105 * kSecond, true).ok());
  EXPECT_EQ(a.term(), 1U) << "renewed";
  ASSERT_TRUE(b.step(106 * kSecond, true).ok());
  ASSERT_TRUE(b.step(120 * kSecond, true)->took);
  ASSERT_FALSE(a.step(121 * kSecond, true)->leading);
  const auto again = a.step(140 * kSecond, true);
  ASSERT_TRUE(again->took);
  EXPECT_EQ(a.term(), 2U);
  EXPECT_EQ(again->term, 2U);
}

TEST_F(LeaseTest, ALapsedOneIsTakenByOurOwnClockWhateverTheHoldersSays) {
  LeaderLease a = lease("a");
  ASSERT_TRUE(a.step(100 * kSecond, true).ok());
  // A holder whose clock is a day ahead.
  lease_["spec"]["renewTime"] = "2099-01-01T00:00:00.000000Z";
  LeaderLease b = lease("b");
  ASSERT_TRUE(b.step(5000 * kSecond, true).ok());
  auto view = b.step(5009 * kSecond, true);
  ASSERT_TRUE(view.ok());
  EXPECT_FALSE(view->lapsed || view->leading) << "only nine seconds since it was first seen";
  view = b.step(5011 * kSecond, true);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(view->lapsed && view->leading && view->took);
  EXPECT_EQ(text_at(lease_, {"spec", "holderIdentity"}), "b");
  EXPECT_EQ(at(lease_, {"spec", "leaseTransitions"}), 1);
}

TEST_F(LeaseTest, WhoIsNoCandidateOnlyLooks) {
  LeaderLease a = lease("a");
  ASSERT_TRUE(a.step(100 * kSecond, true).ok());
  LeaderLease watcher = lease("w");
  ASSERT_TRUE(watcher.step(100 * kSecond, false).ok());
  const auto view = watcher.step(120 * kSecond, false);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(view->lapsed);
  EXPECT_FALSE(view->leading);
  EXPECT_EQ(text_at(lease_, {"spec", "holderIdentity"}), "a");
}

TEST_F(LeaseTest, OneThatSomebodyDeletedLapsesToo) {
  LeaderLease watcher = lease("w");
  auto view = watcher.step(100 * kSecond, false);
  ASSERT_TRUE(view.ok());
  view = watcher.step(200 * kSecond, false);
  EXPECT_TRUE(view.ok() && !view->lapsed) << "there never was one";
  LeaderLease a = lease("a");
  ASSERT_TRUE(a.step(200 * kSecond, true).ok());
  ASSERT_TRUE(watcher.step(201 * kSecond, false).ok());
  lease_ = nullptr;
  view = watcher.step(205 * kSecond, false);
  EXPECT_TRUE(view.ok() && !view->lapsed);
  view = watcher.step(216 * kSecond, false);
  EXPECT_TRUE(view.ok() && view->lapsed);
  EXPECT_TRUE(lease_.is_null()) << "who is no candidate makes none";
}

TEST_F(LeaseTest, WhoDoesNotLeadReadsFromTheCache) {
  LeaderLease a = lease("a");
  ASSERT_TRUE(a.step(100 * kSecond, true).ok());
  EXPECT_EQ(cached_, 1) << "and then anew, before it takes the Lease";
  ASSERT_TRUE(a.step(102 * kSecond, true).ok());
  EXPECT_EQ(cached_, 1) << "the holder writes over what it read";
  LeaderLease b = lease("b");
  ASSERT_TRUE(b.step(102 * kSecond, true).ok());
  ASSERT_TRUE(b.step(104 * kSecond, true).ok());
  EXPECT_EQ(cached_, 3);
}

TEST_F(LeaseTest, TheLoserOfARaceDoesNotLead) {
  LeaderLease a = lease("a");
  ASSERT_TRUE(a.step(100 * kSecond, true).ok());
  LeaderLease b = lease("b");
  ASSERT_TRUE(b.step(100 * kSecond, true).ok());
  interfere_ = true;  // another wrote between our look and our write
  const auto view = b.step(120 * kSecond, true);
  ASSERT_TRUE(view.ok());
  EXPECT_FALSE(view->leading);
  EXPECT_EQ(b.valid_until(), 0U);
}

TEST_F(LeaseTest, GivenUpItIsFreeAtOnce) {
  LeaderLease a = lease("a");
  ASSERT_TRUE(a.step(100 * kSecond, true).ok());
  ASSERT_TRUE(a.give_up().ok());
  EXPECT_EQ(a.valid_until(), 0U);
  LeaderLease b = lease("b");
  const auto view = b.step(101 * kSecond, true);
  ASSERT_TRUE(view.ok());
  EXPECT_TRUE(view->leading);
  EXPECT_FALSE(view->lapsed);
}

TEST_F(LeaseTest, GivenUpWithSomethingLeftItsHolderIsDeadToAllOthers) {
  LeaderLease a = lease("a");
  LeaderLease node = lease("node");
  ASSERT_TRUE(a.step(100 * kSecond, true).ok());
  ASSERT_FALSE(node.step(100 * kSecond, false)->lapsed);
  ASSERT_TRUE(a.give_up(false).ok());
  EXPECT_EQ(a.valid_until(), 0U);
  const auto seen = node.step(102 * kSecond, false);
  ASSERT_TRUE(seen.ok());
  EXPECT_TRUE(seen->lapsed) << "its length is ten seconds as it comes";
  EXPECT_EQ(seen->holder, "a");
  ASSERT_FALSE(a.step(103 * kSecond, false)->leading);
  const auto again = a.step(104 * kSecond, true);
  ASSERT_TRUE(again.ok());
  EXPECT_TRUE(again->took);
  EXPECT_FALSE(node.step(106 * kSecond, false)->lapsed);
  EXPECT_FALSE(node.step(109 * kSecond, false)->lapsed) << "and as long as before";
}

TEST_F(LeaseTest, AnnotationsAreHandedOnAndSurviveARenewal) {
  LeaderLease a = lease("a");
  ASSERT_TRUE(a.step(100 * kSecond, true).ok());
  lease_["metadata"]["annotations"]["x"] = "y";
  ASSERT_TRUE(a.step(102 * kSecond, true).ok());
  const auto view = a.step(104 * kSecond, true);
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(text_at(view->annotations, {"x"}), "y");
}

}  // namespace
}  // namespace ballast::kube
