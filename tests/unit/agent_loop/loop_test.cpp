// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/loop.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <set>

#include "agent/fleet/remote.h"
#include "core/base/file.h"
#include "eventually.h"
#include "model/policy/gains_file.h"
#include "model/policy/parameters.h"
#include "model/policy/recording_file.h"
#include "model/sync/fleet/fleet_registry.h"
#include "model/sync/rollouts/agent_client.h"
#include "model/sync/rollouts/rollout_server.h"

namespace ballast::loop {
namespace {

using ::testing::Each;
using ::testing::Field;
using ::testing::HasSubstr;

constexpr MonotonicNs kTick = 250'000'000;

struct FakeIdentity final : identity::IdentitySource {
  explicit FakeIdentity(const std::vector<identity::Pod>& given) : pods_(given) {}
  const std::vector<identity::Pod>& pods() override { return pods_; }
  const std::vector<identity::Pod>& pods_;
};

/// The way to a registry in this process; `there` is the network.
struct FakeExchange final : fleet::Exchange {
  FakeExchange(fleet::FleetRegistry& to, std::string name, const bool& network)
      : registry(to), node(std::move(name)), there(network) {}
  void offer(fleet::NodeReport report) override {
    report.node = node;
    report.session = 1;
    report.sequence = ++sequence;
    const bool whole = report.whole;
    const MonotonicNs now = report.sent;
    if (there && registry.report(std::move(report), now) == fleet::ReportVerdict::kAccepted) {
      view = std::make_shared<const fleet::FleetView>(registry.view(node, whole, now));
    }
  }
  std::shared_ptr<const fleet::FleetView> latest() const override { return view; }
  fleet::FleetRegistry& registry;
  std::string node;
  const bool& there;
  std::uint64_t sequence = 0;
  std::shared_ptr<const fleet::FleetView> view;
};

/// What reached the proxies.
struct Proxies {
  std::map<spec::ServiceId, std::vector<guard::WeightedEndpoint>> weights;
  std::set<spec::ServiceId> withdrawn;
  int published = 0;
  bool flushed = false;
  bool refuse = false;
  int renewed = 0;
};

struct FakeSink : actuate::WeightSink {
  explicit FakeSink(Proxies& into) : proxies(into) {}
  std::string name() const override { return "fake"; }
  Status publish(const guard::GuardedWeights& weights) override {
    if (proxies.refuse) {
      return Error::failed("refused");
    }
    ++proxies.published;
    proxies.weights[weights.service()] = weights.endpoints();
    return ok();
  }
  Status withdraw(const spec::ServiceId& service) override {
    if (proxies.refuse) {
      return Error::failed("refused");
    }
    proxies.withdrawn.insert(service);
    return ok();
  }
  void flush() override { proxies.flushed = true; }
  void renew(const spec::ServiceId&) override { ++proxies.renewed; }
  std::size_t subscribers() const override { return 1; }
  Proxies& proxies;
};

class LoopTest : public ::testing::Test {
 protected:
  LoopTest() {
    for (int i = 0; i < 4; ++i) {
      pods_.push_back({.cgroup_id = static_cast<std::uint64_t>(10 + i),
                       .cgroup = "/lab/web-" + std::to_string(i),
                       .pod = "web-" + std::to_string(i),
                       .ns = "shop",
                       .service = "web",
                       .address = "127.1.0." + std::to_string(10 + i),
                       .port = 8080});
    }
  }

  Loop make(PolicyKind kind, guard::Mode mode = guard::Mode::kActive,
            const std::optional<std::string>& parameters = std::nullopt,
            std::unique_ptr<sync::RolloutServer> learner = nullptr) {
    LoopOptions options;
    options.mode = mode;
    options.guard.mode = mode;
    options.observer.machine_cores = 4;
    LoopDoors doors;
    doors.identity = std::make_unique<FakeIdentity>(pods_);
    doors.sink = std::make_unique<FakeSink>(proxies_);
    doors.learner = std::move(learner);
    return Loop(options, std::move(ActingPolicy::create(kind, {}, parameters)).value(), std::move(doors));
  }

  /// A tick in which every pod answers as many requests as its quota carries at 70 % load.
  sample::Sample busy() {
    sample::Sample sample;
    sample.taken = now_ += kTick;
    sample.interval_ns = kTick;
    for (std::size_t i = 0; i < pods_.size(); ++i) {
      if (pods_[i].cgroup_id == 0) {
        continue;
      }
      sample::CgroupSample c;
      c.id = pods_[i].cgroup_id;
      c.cpu_limit_cores = limits_[i];
      c.responses = c.requests = static_cast<std::uint64_t>(limits_[i] * 87.5);
      c.on_cpu_ns = c.responses * 2'000'000;
      c.first_byte.count = c.responses;
      // No two ticks of anything that runs are equal to the nanosecond.
      c.first_byte.sum_ns = c.responses * 4'000'000 + now_ / kTick;
      c.first_byte.buckets[ballast_hist_bucket(4'000'000)] = c.responses;
      c.last_byte = c.first_byte;
      sample.cgroups.push_back(c);
    }
    return sample;
  }

  const std::vector<guard::WeightedEndpoint>& weights() { return proxies_.weights[{"shop", "web"}]; }

  std::vector<identity::Pod> pods_;
  std::vector<double> limits_ = {0.4, 0.2, 0.1, 0.1};
  Proxies proxies_;
  MonotonicNs now_ = 1'000'000'000;
};

TEST_F(LoopTest, HandsWhatItSawToTheLearnerAndActsWithTheGainsThatComeBack) {
  auto folder = TempDir::create(std::filesystem::temp_directory_path(), "ballast-loop-");
  ASSERT_TRUE(folder);
  const std::string path = (folder->path() / "learner.sock").string();
  auto server = sync::RolloutServer::start(path);
  ASSERT_TRUE(server) << server.error().message;
  sync::RolloutServer& door = **server;
  Loop loop = make(PolicyKind::kQueueRule, guard::Mode::kActive, std::nullopt, std::move(*server));
  const auto learner = sync::AgentClient::start("unix:" + path);
  ASSERT_TRUE(eventually([&] { return door.learner_connected(); }));
  std::vector<spec::RecordedTick> ticks;
  ASSERT_TRUE(eventually([&] {
    loop.tick(busy());
    for (const std::string& text : learner->take_recording()) {
      const auto recording = policy::parse_recording(text);
      EXPECT_EQ(recording.policy, "queue_rule");
      EXPECT_TRUE(recording.notes.empty());
      ticks.insert(ticks.end(), recording.ticks.begin(), recording.ticks.end());
    }
    return ticks.size() > 5;
  }));
  EXPECT_EQ(ticks.back().service, (spec::ServiceId{"shop", "web"}));
  ASSERT_EQ(ticks.back().pods.size(), 4U);
  EXPECT_NEAR(ticks.back().pods[0].requests, 35, 1);
  EXPECT_NEAR(ticks.back().pods[0].limit_cores, 0.4, 1e-6);

  // Gains that trust no measured capacity change what is published.
  std::vector<double> before;
  for (const auto& endpoint : weights()) {
    before.push_back(endpoint.weight);
  }
  policy::GainsFile file;
  file.gains[{"shop", "web"}][spec::kTrustGain] = -1;
  learner->offer_gains(policy::serialize_gains(file));
  ASSERT_TRUE(eventually([&] {
    loop.tick(busy());
    return std::abs(weights()[0].weight - before[0]) > 0.1 * before[0];
  }));
}

TEST_F(LoopTest, BeginsWithEqualWeightsForAllEndpoints) {
  Loop loop = make(PolicyKind::kPrior);
  sample::Sample first;
  first.taken = now_;
  loop.tick(first);
  ASSERT_EQ(weights().size(), 4U);
  EXPECT_THAT(weights(), Each(Field(&guard::WeightedEndpoint::weight, weights()[0].weight)));
}

TEST_F(LoopTest, FindsTheCapacitiesByItself) {
  Loop loop = make(PolicyKind::kPrior);
  for (int i = 0; i < 60; ++i) {
    loop.tick(busy());
  }
  ASSERT_EQ(weights().size(), 4U);
  EXPECT_NEAR(weights()[0].weight, 2000, 200);
  EXPECT_NEAR(weights()[1].weight, 1000, 100);
  EXPECT_NEAR(weights()[2].weight, 500, 50);
  EXPECT_NEAR(weights()[3].weight, 500, 50);
}

TEST_F(LoopTest, AnUntrainedNetworkIsThePrior) {
  Loop prior = make(PolicyKind::kPrior);
  for (int i = 0; i < 40; ++i) {
    prior.tick(busy());
  }
  const auto by_prior = weights();
  proxies_ = {};
  now_ = 1'000'000'000;
  Loop learned = make(PolicyKind::kLearned, guard::Mode::kActive, policy::serialize(policy::initial(0)));
  for (int i = 0; i < 40; ++i) {
    learned.tick(busy());
  }
  ASSERT_EQ(weights().size(), by_prior.size());
  for (std::size_t i = 0; i < by_prior.size(); ++i) {
    EXPECT_EQ(weights()[i].weight, by_prior[i].weight);
  }
}

TEST_F(LoopTest, ModeOffServesMembershipWithEqualWeights) {
  Loop loop = make(PolicyKind::kPrior, guard::Mode::kOff);
  for (int i = 0; i < 40; ++i) {
    loop.tick(busy());
  }
  ASSERT_EQ(weights().size(), 4U);
  EXPECT_THAT(weights(), Each(Field(&guard::WeightedEndpoint::weight, weights()[0].weight)));
  EXPECT_EQ(proxies_.published, 1) << "nothing changed after the first";
}

TEST_F(LoopTest, APodThatDiesLeavesAndOneThatComesJoins) {
  Loop loop = make(PolicyKind::kPrior);
  loop.tick(busy());
  pods_[1].cgroup_id = 0;
  loop.tick(busy());
  EXPECT_EQ(weights().size(), 3U);
  pods_[1].cgroup_id = 99;
  loop.tick(busy());
  EXPECT_EQ(weights().size(), 4U);
}

TEST_F(LoopTest, WeightsAreRenewedInEveryTickThatDoesNotPublishThem) {
  Loop loop = make(PolicyKind::kPrior);
  for (int i = 1; i <= 100; ++i) {
    loop.tick(busy());
    ASSERT_EQ(proxies_.published + proxies_.renewed, i);
  }
  EXPECT_GT(proxies_.published, 1);
  EXPECT_GT(proxies_.renewed, 50);
}

TEST_F(LoopTest, WeightsOfWhatCannotBeMeasuredAnyMoreAreLetGo) {
  Loop loop = make(PolicyKind::kPrior);
  for (int i = 0; i < 120; ++i) {
    loop.tick(busy());
  }
  const auto equal = [this] {
    return std::ranges::all_of(weights(), [&](const auto& e) { return e.weight == weights()[0].weight; });
  };
  ASSERT_FALSE(equal());
  for (int i = 0; i < 4; ++i) {
    loop.miss(Error::failed("maps"), now_ += kTick);
  }
  EXPECT_FALSE(equal()) << "a second without a sample is no reason";
  for (int i = 0; i < 60; ++i) {
    loop.miss(Error::failed("maps"), now_ += kTick);
  }
  EXPECT_TRUE(equal());
  for (int i = 0; i < 120; ++i) {
    loop.tick(busy());
  }
  EXPECT_FALSE(equal());
}

TEST_F(LoopTest, WhatTheSinkRefusedIsTriedAgain) {
  Loop loop = make(PolicyKind::kPrior, guard::Mode::kOff);
  proxies_.refuse = true;
  loop.tick(busy());
  EXPECT_TRUE(weights().empty());
  proxies_.refuse = false;
  loop.tick(busy());
  EXPECT_EQ(weights().size(), 4U);
}

TEST_F(LoopTest, AServiceThatIsNoLongerNamedIsWithdrawn) {
  Loop loop = make(PolicyKind::kPrior);
  loop.tick(busy());
  pods_.clear();
  loop.tick(busy());
  EXPECT_TRUE(proxies_.withdrawn.contains({"shop", "web"}));
}

TEST_F(LoopTest, AWithdrawalThatTheSinkRefusedIsTriedAgain) {
  Loop loop = make(PolicyKind::kPrior);
  loop.tick(busy());
  const auto pods = std::exchange(pods_, {});
  proxies_.refuse = true;
  loop.tick(busy());
  proxies_.refuse = false;
  loop.tick(busy());
  EXPECT_TRUE(proxies_.withdrawn.contains({"shop", "web"}));
}

TEST_F(LoopTest, WhatFailedForAServiceThatIsGoneIsNoTroubleAnyMore) {
  auto folder = TempDir::create(std::filesystem::temp_directory_path(), "loop-");
  ASSERT_TRUE(folder);
  auto maps = sample::PinnedMaps::create_files(folder->path());
  ASSERT_TRUE(maps) << maps.error().message;
  auto state = telemetry::StateWriter::create(std::move(*maps));
  ASSERT_TRUE(state);
  LoopDoors doors;
  doors.identity = std::make_unique<FakeIdentity>(pods_);
  doors.sink = std::make_unique<FakeSink>(proxies_);
  doors.state.emplace(std::move(*state));
  Loop loop({}, std::move(ActingPolicy::create(PolicyKind::kPrior, {}, std::nullopt)).value(),
            std::move(doors));
  const auto trouble = [&] {
    const auto seen = sample::PinnedMaps::open(folder->path());
    return seen ? std::string(seen->meta()->trouble) : seen.error().message;
  };
  proxies_.refuse = true;
  loop.tick(busy());
  ASSERT_THAT(trouble(), HasSubstr("shop/web"));
  proxies_.refuse = false;
  pods_.clear();
  loop.tick(busy());
  EXPECT_THAT(trouble(), ::testing::Not(HasSubstr("shop/web")));
}

TEST_F(LoopTest, AServiceThatCameBackIsNotWithdrawnAfterwards) {
  Loop loop = make(PolicyKind::kPrior);
  loop.tick(busy());
  const auto pods = std::exchange(pods_, {});
  proxies_.refuse = true;
  loop.tick(busy());
  pods_ = pods;
  proxies_.refuse = false;
  loop.tick(busy());
  loop.tick(busy());
  EXPECT_TRUE(proxies_.withdrawn.empty());
  EXPECT_EQ(weights().size(), 4U);
}

/// A node that reads nothing of pods elsewhere, beside one whose identity names them.
TEST_F(LoopTest, ANodeDecidesTheSameWhetherOrNotPodsElsewhereHaveNames) {
  struct ReadingSink final : FakeSink {
    using FakeSink::FakeSink;
    bool in_charge() const override { return false; }
  };
  for (const PolicyKind kind : {PolicyKind::kPrior, PolicyKind::kQueueRule}) {
    const bool network = true;
    fleet::FleetRegistry registries[2];
    std::vector<identity::Pod> seen[2][2];
    Proxies proxies[2][2];
    std::deque<Loop> loops;  // two of all pods, two of their own alone
    for (std::size_t alone = 0; alone < 2; ++alone) {
      for (std::size_t n = 0; n < 2; ++n) {
        for (std::size_t i = 0; i < pods_.size(); ++i) {
          const bool local = (i < 2) == (n == 0);
          if (local || alone == 0) {
            seen[alone][n].push_back(pods_[i]);
            seen[alone][n].back().local = local;
            seen[alone][n].back().cgroup_id = local ? pods_[i].cgroup_id : 0;
          }
        }
        LoopOptions options;
        options.mode = options.guard.mode = guard::Mode::kActive;
        options.observer.machine_cores = 4;
        LoopDoors doors;
        doors.identity = std::make_unique<FakeIdentity>(seen[alone][n]);
        doors.sink = std::make_unique<ReadingSink>(proxies[alone][n]);
        doors.fleet = std::make_unique<fleet::RemoteFleet>(
            fleet::RemoteOptions{.adopt_members = true},
            std::make_unique<FakeExchange>(registries[alone], "node-" + std::to_string(n), network));
        loops.emplace_back(options, std::move(ActingPolicy::create(kind, {}, std::nullopt)).value(),
                           std::move(doors));
      }
    }
    const auto share = [&](std::size_t alone, std::size_t n, const std::string& pod) {
      double sum = 0;
      double own = 0;
      for (const guard::WeightedEndpoint& endpoint : proxies[alone][n].weights[{"shop", "web"}]) {
        sum += endpoint.weight;
        own += endpoint.id.pod == pod ? endpoint.weight : 0;
      }
      return own / sum;
    };
    for (std::size_t tick = 0; tick < 400; ++tick) {
      sample::Sample all = busy();
      for (std::size_t i = 0; i < all.cgroups.size(); ++i) {
        // More wait at the first than its capacity says.
        all.cgroups[i].in_flight = static_cast<std::int64_t>(i == 0 ? 6 : 1 + (tick + i) % 2);
      }
      for (std::size_t alone = 0; alone < 2; ++alone) {
        for (std::size_t n = 0; n < 2; ++n) {
          sample::Sample own = all;
          std::erase_if(own.cgroups,
                        [&](const auto& c) { return (c.id - pods_[0].cgroup_id < 2) != (n == 0); });
          loops[2 * alone + n].tick(own);
        }
      }
    }
    for (std::size_t i = 0; i < pods_.size(); ++i) {
      EXPECT_NEAR(share(1, i / 2, pods_[i].pod), share(0, i / 2, pods_[i].pod), 0.01) << pods_[i].pod;
    }
    EXPECT_EQ(proxies[1][0].weights.at({"shop", "web"}).size(), 4U);
    EXPECT_GT(std::abs(share(0, 0, "web-0") - share(0, 0, "web-1")), 0.05) << "or the test shows nothing";
  }
}

TEST_F(LoopTest, ReleaseLeavesEqualWeightsBehind) {
  Loop loop = make(PolicyKind::kPrior);
  for (int i = 0; i < 60; ++i) {
    loop.tick(busy());
  }
  ASSERT_NE(weights()[0].weight, weights()[3].weight) << "or the test shows nothing";
  loop.release();
  ASSERT_EQ(weights().size(), 4U);
  EXPECT_THAT(weights(), Each(Field(&guard::WeightedEndpoint::weight, weights()[0].weight)));
  EXPECT_TRUE(proxies_.flushed);
}

TEST_F(LoopTest, TwoNodesWeighWhatBothMeasure) {
  // Each node runs half of the pods; both serve proxies, as standalone nodes do.
  fleet::FleetRegistry registry;
  bool network = true;
  std::vector<identity::Pod> seen[2] = {pods_, pods_};
  Proxies proxies[2];
  std::deque<Loop> nodes;
  for (std::size_t n = 0; n < 2; ++n) {
    for (std::size_t i = 0; i < 4; ++i) {
      seen[n][i].local = i % 2 == n;
      seen[n][i].cgroup_id = seen[n][i].local ? pods_[i].cgroup_id : 0;
    }
    LoopOptions options;
    options.mode = options.guard.mode = guard::Mode::kActive;
    options.observer.machine_cores = 4;
    LoopDoors doors;
    doors.identity = std::make_unique<FakeIdentity>(seen[n]);
    doors.sink = std::make_unique<FakeSink>(proxies[n]);
    doors.fleet = std::make_unique<fleet::RemoteFleet>(
        fleet::RemoteOptions{},
        std::make_unique<FakeExchange>(registry, "node-" + std::to_string(n), network));
    nodes.emplace_back(options, std::move(ActingPolicy::create(PolicyKind::kPrior, {}, std::nullopt)).value(),
                       std::move(doors));
  }
  const auto turn = [&] {
    const sample::Sample all = busy();
    for (std::size_t n = 0; n < 2; ++n) {
      sample::Sample own = all;
      std::erase_if(own.cgroups, [&](const auto& c) { return (c.id - pods_[0].cgroup_id) % 2 != n; });
      nodes[n].tick(own);
    }
  };
  for (int i = 0; i < 80; ++i) {
    turn();
  }
  for (Proxies& each : proxies) {
    const auto& weights = each.weights[{"shop", "web"}];
    ASSERT_EQ(weights.size(), 4U);
    EXPECT_NEAR(weights[0].weight, 2000, 250);
    EXPECT_NEAR(weights[1].weight, 1000, 150);
    EXPECT_NEAR(weights[2].weight, 500, 100);
    EXPECT_NEAR(weights[3].weight, 500, 100);
  }
  network = false;
  for (int i = 0; i < 60; ++i) {
    turn();
  }
  // Alone, node 0 knows pods 0 and 2; the others have the median of these.
  const auto& alone = proxies[0].weights[{"shop", "web"}];
  ASSERT_EQ(alone.size(), 4U);
  EXPECT_EQ(alone[1].weight, alone[3].weight);
  EXPECT_GT(alone[0].weight, alone[1].weight);
  EXPECT_LT(alone[2].weight, alone[1].weight);
}

}  // namespace
}  // namespace ballast::loop
