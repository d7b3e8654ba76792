// SPDX-License-Identifier: Apache-2.0
//
// The twin's loop: a real ballast-learner, which is handed what an agent recorded of a service whose habit
// nobody trained on, and this test in the place of the agent, whose rule then acts with what comes back.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "core/base/process.h"
#include "eventually.h"
#include "model/policy/gains_file.h"
#include "model/sync/client/worker_client.h"
#include "model/sync/rollouts/rollout_server.h"
#include "program.h"
#include "recorded_service.h"

namespace ballast {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

double p99_under(const policy::GainsByService& gains, std::uint64_t seed) {
  return sim::Simulation(twin::bouts(300), sim::queue_rule_technique(gains), seed, twin::kIstio).run().p99_ms;
}

/// A learner and the agent beside it.
struct Node {
  Node(const fs::path& folder, std::string of, const std::string& global,
       const std::vector<std::string>& more)
      : name(std::move(of)), output(folder / name) {
    const std::string path = (folder / (name + ".sock")).string();
    auto started = sync::RolloutServer::start(path);
    EXPECT_TRUE(started);
    server = std::move(*started);
    std::vector<std::string> argv = {testing::program("ballast-learner"),
                                     "--agent",
                                     "unix:" + path,
                                     "--global",
                                     global,
                                     "--worker-id",
                                     name,
                                     "--twin-every",
                                     "1"};
    argv.insert(argv.end(), more.begin(), more.end());
    auto child = ChildProcess::spawn({.argv = argv, .output = output});
    EXPECT_TRUE(child);
    learner = std::move(*child);
  }
  /// As an agent's messages come: some ticks at once.
  void record(const std::vector<spec::RecordedTick>& ticks) const {
    for (std::size_t i = 0; i < ticks.size(); i += 20) {
      server->offer_recording("queue_rule",
                              {ticks.begin() + static_cast<std::ptrdiff_t>(i),
                               ticks.begin() + static_cast<std::ptrdiff_t>(std::min(i + 20, ticks.size()))});
    }
  }
  std::string log() const {
    const auto text = read_file(output);
    return text ? *text : text.error().message;
  }
  void end() {
    learner.signal(SIGTERM);
    const auto ended = learner.wait(20s);
    ASSERT_TRUE(ended) << log();
    EXPECT_EQ(ended->code, 0) << log();
  }

  std::string name;
  fs::path output;
  std::unique_ptr<sync::RolloutServer> server;
  ChildProcess learner;
};

/// What stands behind the last `key` in a log; empty: it is not there.
std::string told(const std::string& log, const std::string& key) {
  const auto at = log.rfind(key);
  return at == std::string::npos
             ? std::string()
             : log.substr(at + key.size(), log.find_first_of(" \n", at + key.size()) - at - key.size());
}

TEST(TwinProcess, NodesLearnTheGainsOfAServiceTogetherAndAMadOneIsRefused) {
  auto made = TempDir::create(fs::temp_directory_path(), "ballast-twins-");
  ASSERT_TRUE(made);
  const fs::path folder = made->path();
  const std::string address = "unix:" + (folder / "global.sock").string();
  auto global = ChildProcess::spawn({.argv = {testing::program("ballast-global"), "--listen", address,
                                              "--state", (folder / "state").string()},
                                     .output = folder / "global"});
  ASSERT_TRUE(global);
  const auto client = [&](const std::string& worker) {
    return sync::WorkerClient::start({.address = address,
                                      .worker_id = worker,
                                      .network = sync::Network::kGains,
                                      .service = sim::kSimulated.ns + "/" + sim::kSimulated.name,
                                      .pull_interval = 20ms});
  };
  const auto mad = client("mad");
  std::shared_ptr<const sync::Received> begun;
  ASSERT_TRUE(eventually([&] { return (begun = mad->take_parameters()) != nullptr; }));
  EXPECT_EQ(begun->parameters.theta, std::vector<float>(spec::kGains)) << "the rule's own";
  for (int i = 0; i < 6; ++i) {
    const float big = 1e30F * static_cast<float>(i + 1);
    mad->push({{begun->parameters.epoch, 0}, 1, static_cast<double>(big), {big, 0, 0, 0, 0, 0}});
  }
  ASSERT_TRUE(eventually([&] { return mad->counters().rejected == 6; }));

  std::vector<std::unique_ptr<Node>> nodes;
  for (const char* name : {"node-1", "node-2"}) {
    nodes.push_back(
        std::make_unique<Node>(folder, name, address, std::vector<std::string>{"--twin-updates", "3"}));
    ASSERT_TRUE(eventually([&] { return nodes.back()->server->learner_connected(); }));
    nodes.back()->record(twin::recording(twin::bouts(240), nodes.size()));
  }
  constexpr const char* kVersion = ": these are version ";
  for (const auto& node : nodes) {
    ASSERT_TRUE(eventually([&] { return !told(node->log(), kVersion).empty(); }, 240s)) << node->log();
    EXPECT_EQ(told(node->log(), "of epoch "), std::to_string(begun->parameters.epoch));
  }
  EXPECT_NE(told(nodes[0]->log(), "twin_exploration="), told(nodes[1]->log(), "twin_exploration="));
  // Both pushed, and what they have is a version of the global network's, to which both led.
  const auto witness = client("witness");
  std::shared_ptr<const sync::Received> learned;
  ASSERT_TRUE(eventually([&] { return (learned = witness->take_parameters()) != nullptr; }));
  EXPECT_GE(learned->parameters.version, 6U);
  EXPECT_NE(learned->parameters.theta, begun->parameters.theta);
  for (const float gain : learned->parameters.theta) {
    EXPECT_LE(std::abs(gain), 1);
  }
  for (const auto& node : nodes) {
    EXPECT_THAT(node->log(), ::testing::Not(::testing::HasSubstr("gradient rejected")));
    node->end();
  }
  global->signal(SIGTERM);
  const auto ended = global->wait(20s);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->code, 0);
}

TEST(TwinProcess, GainsAreLearnedFromWhatTheNodeRecordedAndAreBetterWhereTheyAct) {
  auto made = TempDir::create(fs::temp_directory_path(), "ballast-twin-");
  ASSERT_TRUE(made);
  const fs::path folder = made->path();
  // No global network: what a node learns in its twin is its own.
  Node node(folder, "node-1", "unix:" + (folder / "nobody.sock").string(), {"--twin-updates", "8"});
  const auto log = [&] { return node.log(); };
  ASSERT_TRUE(eventually([&] { return node.server->learner_connected(); })) << log();
  node.record(twin::recording(twin::bouts(480), 3));
  policy::GainsFile file;
  ASSERT_TRUE(eventually(
      [&] {
        const auto bytes = node.server->take_gains();
        if (!bytes) {
          return false;
        }
        auto parsed = policy::parse_gains(*bytes);
        EXPECT_TRUE(parsed) << parsed.error().message;
        file = parsed ? std::move(*parsed) : policy::GainsFile();
        return !file.gains.empty();
      },
      240s))
      << log();
  const spec::TwinWord& word = file.twins.at(sim::kSimulated);
  EXPECT_GT(word.recorded_s, 400) << log();
  EXPECT_TRUE(word.in_force);
  EXPECT_LT(word.high, 1) << "shown by bounds, or they would not act";
  EXPECT_GT(word.foreseen_p99_ms, 0);
  EXPECT_GT(word.came_p99_ms, 0);
  EXPECT_THAT(log(), ::testing::HasSubstr("by what nothing was learned from: taken"));

  // They act in the service itself, on other traces.
  double own = 0;
  double learned = 0;
  for (std::uint64_t seed = 11; seed < 15; ++seed) {
    own += std::log(p99_under({}, seed));
    learned += std::log(p99_under(file.gains, seed));
  }
  EXPECT_LT(learned, own);

  node.end();
}

}  // namespace
}  // namespace ballast
