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

#include "core/base/file.h"
#include "core/base/process.h"
#include "eventually.h"
#include "model/policy/gains_file.h"
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

TEST(TwinProcess, GainsAreLearnedFromWhatTheNodeRecordedAndAreBetterWhereTheyAct) {
  auto made = TempDir::create(fs::temp_directory_path(), "ballast-twin-");
  ASSERT_TRUE(made);
  const fs::path folder = made->path();
  const std::string path = (folder / "agent.sock").string();
  auto server = sync::RolloutServer::start(path);
  ASSERT_TRUE(server);
  // No global network: what a node learns in its twin is its own.
  auto learner =
      ChildProcess::spawn({.argv = {testing::program("ballast-learner"), "--agent", "unix:" + path,
                                    "--global", "unix:" + (folder / "nobody.sock").string(), "--worker-id",
                                    "node-1", "--twin-every", "1", "--twin-updates", "8"},
                           .output = folder / "log"});
  ASSERT_TRUE(learner);
  const auto log = [&] {
    const auto text = read_file(folder / "log");
    return text ? *text : text.error().message;
  };
  ASSERT_TRUE(eventually([&] { return (*server)->learner_connected(); })) << log();
  const auto ticks = twin::recording(twin::bouts(480), 3);
  for (std::size_t i = 0; i < ticks.size(); i += 20) {  // as an agent's messages come: some ticks at once
    (*server)->offer_recording("queue_rule",
                               {ticks.begin() + static_cast<std::ptrdiff_t>(i),
                                ticks.begin() + static_cast<std::ptrdiff_t>(std::min(i + 20, ticks.size()))});
  }
  policy::GainsFile file;
  ASSERT_TRUE(eventually(
      [&] {
        const auto bytes = (*server)->take_gains();
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

  learner->signal(SIGTERM);
  const auto ended = learner->wait(20s);
  ASSERT_TRUE(ended) << log();
  EXPECT_EQ(ended->code, 0) << log();
}

}  // namespace
}  // namespace ballast
