// SPDX-License-Identifier: Apache-2.0
#include "agent/export/state_writer.h"

#include <bpf/bpf.h>
#include <gtest/gtest.h>
#include <sys/mount.h>
#include <unistd.h>

#include <chrono>
#include <iostream>
#include <set>

#include "core/base/file.h"
#include "core/base/unique_fd.h"
#include "weigher.h"

namespace ballast::telemetry {
namespace {

using ballast::testing::Weigher;

/// The maps of the wire, made by the test and pinned in a bpffs of its own.
class PinnedFolder {
 public:
  /// Empty when all went well, else what is missing.
  std::string make() {
    Result<TempDir> dir = TempDir::create("/tmp", "ballast-state-");
    if (!dir) {
      return dir.error().message;
    }
    dir_ = std::make_unique<TempDir>(std::move(dir).value());
    if (::mount("bpf", dir_->path().c_str(), "bpf", 0, nullptr) != 0) {
      return "mounting a bpffs needs CAP_SYS_ADMIN";
    }
    mounted_ = true;
    struct Shape {
      const char* name;
      bpf_map_type type;
      std::size_t key, value;
      std::uint32_t entries;
    };
    const Shape shapes[] = {
        {BALLAST_MAP_META, BPF_MAP_TYPE_ARRAY, 4, sizeof(ballast_meta), 1},
        {BALLAST_MAP_REQUESTS, BPF_MAP_TYPE_HASH, sizeof(ballast_request_key), sizeof(ballast_request_value),
         8},
        {BALLAST_MAP_CONNECTIONS, BPF_MAP_TYPE_HASH, 8, sizeof(ballast_connection_value), 8},
        {BALLAST_MAP_CPU, BPF_MAP_TYPE_HASH, 8, sizeof(ballast_cpu_value), 8},
        {BALLAST_MAP_RUNNING, BPF_MAP_TYPE_ARRAY, 4, sizeof(ballast_running_value), 8},
        {BALLAST_MAP_LOSS, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(ballast_loss_value), BALLAST_LOSS_REASONS},
        {BALLAST_MAP_IDENTITY, BPF_MAP_TYPE_HASH, 8, sizeof(ballast_identity_value), BALLAST_MAX_CGROUPS},
        {BALLAST_MAP_CALLS, BPF_MAP_TYPE_HASH, sizeof(ballast_call_key), sizeof(ballast_call_value), 16},
        {BALLAST_MAP_COVERAGE, BPF_MAP_TYPE_HASH, sizeof(ballast_coverage_key),
         sizeof(ballast_coverage_value), 16},
        {BALLAST_MAP_SPANS, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(ballast_span_value), BALLAST_SPAN_SLOTS},
        {BALLAST_MAP_DECISIONS, BPF_MAP_TYPE_HASH, sizeof(ballast_decision_key),
         sizeof(ballast_decision_value), BALLAST_MAX_DECISIONS},
    };
    for (const Shape& shape : shapes) {
      const UniqueFd fd(::bpf_map_create(shape.type, shape.name, static_cast<std::uint32_t>(shape.key),
                                         static_cast<std::uint32_t>(shape.value), shape.entries, nullptr));
      if (!fd || ::bpf_obj_pin(fd.get(), (dir_->path() / shape.name).c_str()) != 0) {
        return "making BPF maps needs CAP_BPF";
      }
      if (shape.entries == 1) {
        ballast_meta meta{};
        meta.magic = BALLAST_WIRE_MAGIC;
        meta.wire_version = BALLAST_WIRE_VERSION;
        meta.loaded_ns = 42;
        meta.flags = BALLAST_META_HTTP;
        const std::uint32_t key = 0;
        ::bpf_map_update_elem(fd.get(), &key, &meta, BPF_ANY);
      }
    }
    return "";
  }
  ~PinnedFolder() {
    if (mounted_) {
      ::umount2(dir_->path().c_str(), MNT_DETACH);
    }
  }

  sample::PinnedMaps open() const {
    auto maps = sample::PinnedMaps::open(dir_->path());
    EXPECT_TRUE(maps.ok()) << (maps.ok() ? "" : maps.error().message);
    return std::move(maps).value();
  }

 private:
  std::unique_ptr<TempDir> dir_;
  bool mounted_ = false;
};

class StateWriterTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string missing = folder_.make();
    if (!missing.empty()) {
      GTEST_SKIP() << missing;
    }
    maps_ = std::make_unique<sample::PinnedMaps>(folder_.open());
    restart();
    tick_.mode = guard::Mode::kActive;
    tick_.policy = "prior";
  }

  /// As a new ballastd over the same maps.
  void restart() {
    auto writer = StateWriter::create(folder_.open());
    ASSERT_TRUE(writer.ok());
    writer_ = std::make_unique<StateWriter>(std::move(writer).value());
  }

  static identity::Pod pod(std::uint64_t cgroup, const std::string& name) {
    identity::Pod made;
    made.cgroup_id = cgroup;
    made.cgroup = "/lab/" + name;
    made.pod = name;
    made.ns = "shop";
    made.container = "app";
    made.service = "web";
    return made;
  }

  std::map<std::uint64_t, std::string> names() const {
    std::map<std::uint64_t, std::string> all;
    const auto rows = maps_->identity();
    EXPECT_TRUE(rows.ok());
    for (const auto& [id, value] : *rows) {
      all[id] = std::string(value.ns) + "/" + value.service + "/" + value.pod + "/" + value.container +
                value.cgroup;
    }
    return all;
  }

  std::map<std::string, ballast_decision_value> decisions() const {
    std::map<std::string, ballast_decision_value> all;
    const auto rows = maps_->decisions();
    EXPECT_TRUE(rows.ok());
    for (const sample::DecisionRow& row : *rows) {
      all[std::string(row.key.service) + "/" + row.key.pod] = row.value;
    }
    return all;
  }

  void write(const std::vector<guard::GuardedWeights>& weights) {
    std::vector<turn::Decision> services;
    for (const guard::GuardedWeights& one : weights) {
      services.push_back({{}, {}, one, {guard::Outcome::kWritten, ""}});
    }
    tick_.now += 250'000'000;
    const Status written = writer_->write_decisions(services, tick_);
    EXPECT_TRUE(written.ok()) << written.error().message;
  }

  /// How many rows carry the time of the last tick.
  std::size_t fresh() const {
    std::size_t count = 0;
    for (const auto& [name, value] : decisions()) {
      count += value.decided_ns == tick_.now ? 1 : 0;
    }
    return count;
  }

  PinnedFolder folder_;
  std::unique_ptr<sample::PinnedMaps> maps_;
  std::unique_ptr<StateWriter> writer_;
  TickState tick_;
  Weigher weigher_;
};

TEST_F(StateWriterTest, CgroupsHaveNamesAsLongAsTheirFigures) {
  constexpr MonotonicNs kWent = 1'000'000'000;
  ASSERT_TRUE(writer_->write_identity({pod(11, "web-0"), pod(12, "web-1"), pod(0, "not-here")}, 0).ok());
  EXPECT_EQ(names(), (std::map<std::uint64_t, std::string>{{11, "shop/web/web-0/app/lab/web-0"},
                                                           {12, "shop/web/web-1/app/lab/web-1"}}));
  ASSERT_TRUE(writer_->write_identity({pod(12, "renamed")}, kWent).ok());
  EXPECT_EQ(names(), (std::map<std::uint64_t, std::string>{{11, "shop/web/web-0/app/lab/web-0"},
                                                           {12, "shop/web/renamed/app/lab/renamed"}}))
      << "the container restarted: what the one before it counted is still its pod's";
  const MonotonicNs forgotten = kWent + sample::GoneCgroups::kForgetNs;
  ASSERT_TRUE(writer_->write_identity({pod(12, "renamed")}, forgotten).ok());
  EXPECT_EQ(names(), (std::map<std::uint64_t, std::string>{{12, "shop/web/renamed/app/lab/renamed"}}));
}

TEST_F(StateWriterTest, RowsThatAFormerRunLeftAreErased) {
  ASSERT_TRUE(writer_->write_identity({pod(11, "web-0"), pod(12, "web-1")}).ok());
  write({weigher_.by_shares("web", {3, 1}), weigher_.by_shares("cart", {1})});
  restart();
  EXPECT_EQ(names().size(), 2U);
  EXPECT_EQ(decisions().size(), 3U) << "a restart alone erases nothing";
  ASSERT_TRUE(writer_->write_identity({pod(12, "web-1")}, 0).ok());
  ASSERT_TRUE(writer_->write_identity({pod(12, "web-1")}, sample::GoneCgroups::kForgetNs).ok());
  write({weigher_.by_shares("web", {3})});
  EXPECT_EQ(names().size(), 1U);
  ASSERT_EQ(decisions().size(), 1U);
  EXPECT_EQ(decisions().begin()->first, "web/web-0");
}

TEST_F(StateWriterTest, DecisionsAreWrittenAndGoneEndpointsErased) {
  const guard::GuardedWeights weights = weigher_.by_shares("web", {3, 1});
  write({weights, weigher_.by_shares("cart", {1, 1}, true)});
  auto rows = decisions();
  ASSERT_EQ(rows.size(), 4U);
  EXPECT_EQ(rows["web/web-0"].weight, weights.endpoints()[0].weight);
  EXPECT_EQ(rows["web/web-1"].weight, weights.endpoints()[1].weight);
  EXPECT_EQ(rows["cart/cart-0"].neutral, 1U);
  EXPECT_STREQ(rows["web/web-0"].policy, "prior");
  write({weigher_.by_shares("web", {1})});
  rows = decisions();
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows.begin()->first, "web/web-0");
}

TEST_F(StateWriterTest, AnEndpointWithoutANameHasNoRowAndItsShare) {
  write({weigher_.weights(
      "web", {{"web-0", "127.1.0.1", 8080}, {"~000001", ""}, {"~000002", ""}, {"~000003", ""}})});
  auto rows = decisions();
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_EQ(rows.begin()->first, "web/web-0");
  EXPECT_NEAR(static_cast<double>(rows["web/web-0"].guarded_e6), 250'000, 1000);
}

TEST_F(StateWriterTest, WhatBecameOfADecisionIsWrittenAtOnce) {
  std::vector<double> shares(1000, 1.0);
  turn::Decision decision{{}, {}, weigher_.by_shares("web", shares), {guard::Outcome::kHeldBack, "waits"}};
  const auto write_one = [&] {
    tick_.now += 250'000'000;
    EXPECT_TRUE(writer_->write_decisions({decision}, tick_).ok());
  };
  write_one();
  EXPECT_EQ(decisions()["web/web-7"].in_force, 0U);
  EXPECT_STREQ(decisions()["web/web-7"].outcome_detail, "waits");
  decision.answer = {guard::Outcome::kWritten, ""};
  decision.in_force.assign(1000, 1000);
  write_one();
  EXPECT_EQ(fresh(), 1000U);
  EXPECT_EQ(decisions()["web/web-7"].in_force, 1000U);
}

TEST_F(StateWriterTest, SmallFleetIsFreshInEveryTick) {
  const std::vector<guard::GuardedWeights> weights = {weigher_.by_shares("web", {3, 1})};
  for (int i = 0; i < 4; ++i) {
    write(weights);
    EXPECT_EQ(fresh(), 2U) << "tick " << i;
  }
}

TEST_F(StateWriterTest, LargeFleetIsRefreshedInTurnAndChangesAtOnce) {
  std::vector<double> shares(1000, 1.0);
  const std::vector<guard::GuardedWeights> equal = {weigher_.by_shares("web", shares, true)};
  write(equal);
  EXPECT_EQ(fresh(), 1000U);
  std::set<std::string> refreshed;
  for (int i = 0; i < 4; ++i) {
    const auto begun = std::chrono::steady_clock::now();
    write(equal);
    std::cout << "1,000 endpoints, nothing changed: "
              << std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count()
              << " ms\n";
    EXPECT_LE(fresh(), StateWriter::kRefresh);
    for (const auto& [name, value] : decisions()) {
      if (value.decided_ns == tick_.now) {
        refreshed.insert(name);
      }
    }
  }
  EXPECT_EQ(refreshed.size(), 1000U) << "each had its turn";
  for (std::size_t i = 0; i < shares.size(); ++i) {
    shares[i] = 1.0 + static_cast<double>(i % 2);
  }
  const std::vector<guard::GuardedWeights> unequal = {weigher_.by_shares("web", shares)};
  const auto begun = std::chrono::steady_clock::now();
  write(unequal);
  std::cout << "1,000 endpoints, all changed: "
            << std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count()
            << " ms\n";
  EXPECT_EQ(fresh(), 1000U);
}

TEST_F(StateWriterTest, HeartbeatKeepsWhatTheLoaderWrote) {
  tick_.now = 77;
  tick_.tick_ms = 250;
  tick_.subscribers = 5;
  tick_.policy_crc32 = 0xabcd;
  tick_.sink = "xds:127.0.0.1:15010";
  tick_.loop = "eds";
  tick_.leader = "node-1";
  tick_.trouble = std::string(400, 'x');
  ASSERT_TRUE(writer_->heartbeat(tick_).ok());
  const auto meta = maps_->meta();
  ASSERT_TRUE(meta.ok());
  EXPECT_EQ(std::string(meta->trouble), std::string(252, 'x') + "...") << "cut, and terminated";
  EXPECT_EQ(meta->heartbeat_ns, 77U);
  EXPECT_EQ(meta->tick_ms, 250U);
  EXPECT_EQ(meta->subscribers, 5U);
  EXPECT_EQ(meta->mode, 2U);
  EXPECT_EQ(meta->policy_crc32, 0xabcdU);
  EXPECT_STREQ(meta->policy, "prior");
  EXPECT_STREQ(meta->sink, "xds:127.0.0.1:15010");
  EXPECT_STREQ(meta->loop, "eds");
  EXPECT_STREQ(meta->leader, "node-1");
  EXPECT_EQ(meta->loaded_ns, 42U);
  EXPECT_EQ(meta->flags, BALLAST_META_HTTP);
}

TEST_F(StateWriterTest, FullMapIsToldAndTheRestIsWritten) {
  std::vector<identity::Pod> pods;
  for (std::uint64_t i = 1; i <= BALLAST_MAX_CGROUPS + 1; ++i) {
    pods.push_back(pod(i, "p" + std::to_string(i)));
  }
  const Status written = writer_->write_identity(pods);
  ASSERT_FALSE(written.ok());
  EXPECT_NE(written.error().message.find("identity"), std::string::npos) << written.error().message;
  EXPECT_EQ(names().size(), static_cast<std::size_t>(BALLAST_MAX_CGROUPS));
}

}  // namespace
}  // namespace ballast::telemetry
