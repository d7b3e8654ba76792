// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/reconcile.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <fstream>

#include "core/base/file.h"

namespace ballast::sample {
namespace {

constexpr CgroupId kWeb = 7;
constexpr MonotonicNs kEvery = 10;

class Reconcile : public ::testing::Test {
 protected:
  Reconcile() : reconciler_(sources(), kEvery) {}

  Reconciler::Sources sources() {
    return {[this] { return refused_ ? Result<SocketTable>(Error::privilege("refused")) : table_; },
            [this]() -> Result<Reconciler::ConnectionRows> {
              counted_.accepted += moving_ ? 1 : 0;
              return Reconciler::ConnectionRows{{kWeb, counted_}};
            },
            [this](CgroupId) { return ours_; }};
  }
  CgroupSample sample(MonotonicNs taken) {
    Sample sample;
    sample.taken = taken;
    sample.cgroups.emplace_back();
    sample.cgroups[0].id = kWeb;
    sample.cgroups[0].connections = counted_.open;
    reconciler_.apply(sample);
    failures_ = sample.reconcile_failures;
    return sample.cgroups[0];
  }

  SocketTable table_;
  ballast_connection_value counted_{};
  bool refused_ = false;
  bool moving_ = false;
  std::optional<bool> ours_ = true;
  std::uint64_t failures_ = 0;
  Reconciler reconciler_;
};

TEST_F(Reconcile, SilentConnectionsFromBeforeAreSeededAtOnce) {
  table_.cgroups[kWeb].open = 5;
  counted_.open = 2;
  const CgroupSample first = sample(1);
  EXPECT_EQ(first.connections, 5);
  EXPECT_EQ(first.connection_drift, 3);
  counted_.open = 4;  // until the next dump the difference stays
  EXPECT_EQ(sample(2).connections, 7);
  counted_.accepted = 2;
  table_.cgroups[kWeb].open = 4;
  EXPECT_EQ(sample(1 + kEvery).connections, 4);
}

TEST_F(Reconcile, WhatMovesDuringTheDumpKeepsItsLastDifference) {
  table_.cgroups[kWeb].open = 3;
  counted_.open = 2;
  EXPECT_EQ(sample(1).connection_drift, 1);
  moving_ = true;
  table_.cgroups[kWeb].open = 50;
  EXPECT_EQ(sample(1 + kEvery).connection_drift, 1);
}

TEST_F(Reconcile, AnotherNetworkIsNotJudged) {
  counted_.open = 3;
  for (const std::optional<bool> ours : {std::optional<bool>(false), std::optional<bool>()}) {
    ours_ = ours;
    const CgroupSample one = sample(1 + kEvery * (ours ? 0 : 1));
    EXPECT_EQ(one.connections, 3);
    EXPECT_FALSE(one.connection_drift.has_value());
  }
  ours_ = true;  // our network, and the table knows no socket of it
  EXPECT_EQ(sample(1 + 2 * kEvery).connections, 0);
}

TEST_F(Reconcile, ARefusedTableIsCountedAndTheRestGoesOn) {
  counted_.open = 3;
  refused_ = true;
  EXPECT_EQ(sample(1).connections, 3);
  EXPECT_EQ(failures_, 1U);
  EXPECT_EQ(reconciler_.complaint(), "refused");
  EXPECT_EQ(sample(2).connections, 3);
  EXPECT_EQ(failures_, 1U) << "not tried again before its time";
  refused_ = false;
  table_.cgroups[kWeb].open = 4;
  EXPECT_EQ(sample(1 + kEvery).connections, 4);
  EXPECT_EQ(reconciler_.complaint(), "");
}

TEST(SharesNetwork, OfOurselvesAndOfNobody) {
  const auto folder = TempDir::create("/tmp", "ballast-netns-");
  ASSERT_TRUE(folder.ok());
  EXPECT_FALSE(shares_network(folder->path()).has_value()) << "no list of processes";
  std::ofstream(folder->path() / "cgroup.procs") << ::getpid() << "\n";
  EXPECT_EQ(shares_network(folder->path()), true);
  std::ofstream(folder->path() / "cgroup.procs") << "999999999\n";
  EXPECT_FALSE(shares_network(folder->path()).has_value());
}

}  // namespace
}  // namespace ballast::sample
