// SPDX-License-Identifier: Apache-2.0
//
// The forecast's half of the parameter plane: a real ballast-global and real ballast-learners, and this test
// in the place of their agents, which hand over pairs of a habit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <limits>

#include "core/base/file.h"
#include "core/base/process.h"
#include "eventually.h"
#include "forecast_samples.h"
#include "model/policy/forecast_file.h"
#include "model/sync/client/worker_client.h"
#include "model/sync/rollouts/rollout_server.h"
#include "program.h"

namespace ballast {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

/// Mean square of forecast - came over that of "as now", of pairs that nobody learned from.
double error_of(const std::vector<float>& theta) {
  double error = 0;
  double as_now = 0;
  for (const auto& [input, came] : Habit(99).pairs(2000)) {
    error += std::pow(spec::forecast(theta, input) - static_cast<double>(came), 2);
    as_now += std::pow(static_cast<double>(input.now) - static_cast<double>(came), 2);
  }
  return error / as_now;
}

class ForecastProcess : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(fs::temp_directory_path(), "ballast-forecast-");
    ASSERT_TRUE(made);
    folder_ = std::make_unique<TempDir>(std::move(*made));
    global_ = "unix:" + (folder_->path() / "global.sock").string();
  }
  ChildProcess spawn(const std::vector<std::string>& argv, const std::string& log) const {
    auto child = ChildProcess::spawn({.argv = argv, .output = folder_->path() / log});
    EXPECT_TRUE(child) << child.error().message;
    return child ? std::move(*child) : ChildProcess();
  }
  ChildProcess start_global() const {
    return spawn(
        {testing::program("ballast-global"), "--listen", global_, "--state",
         (folder_->path() / "state").string(), "--checkpoint-seconds", "0.1", "--forecast-seed", "1"},
        "global");
  }
  std::string log(const std::string& of) const {
    const auto text = read_file(folder_->path() / of);
    return text ? *text : text.error().message;
  }
  std::unique_ptr<TempDir> folder_;
  std::string global_;
};

/// An agent with a learner of its own.
struct Node {
  Node(const fs::path& folder, const std::string& name, const std::string& global)
      : habit(static_cast<unsigned>(name.back())) {
    const std::string path = (folder / (name + ".sock")).string();
    auto started = sync::RolloutServer::start(path);
    EXPECT_TRUE(started);
    server = std::move(*started);
    auto child =
        ChildProcess::spawn({.argv = {testing::program("ballast-learner"), "--agent", "unix:" + path,
                                      "--global", global, "--worker-id", name, "--forecast-rate", "50"},
                             .output = folder / name});
    EXPECT_TRUE(child);
    learner = std::move(*child);
  }
  void turn() {
    server->offer_samples(habit.pairs(40));
    if (auto file = server->take_forecast()) {
      auto theta = policy::parse_forecast(file->bytes);
      ASSERT_TRUE(theta) << theta.error().message;
      held = {file->epoch, file->version, std::move(*theta)};
    }
  }
  std::unique_ptr<sync::RolloutServer> server;
  ChildProcess learner;
  Habit habit;
  policy::Parameters held;
};

TEST_F(ForecastProcess, AForeignWorkerThatExplodesMovesNothing) {
  auto global = start_global();
  auto foreign = sync::WorkerClient::start({.address = global_,
                                            .worker_id = "exploding",
                                            .network = sync::Network::kForecast,
                                            .pull_interval = 5ms});
  std::shared_ptr<const sync::Received> released;
  ASSERT_TRUE(eventually([&] { return (released = foreign->take_parameters()) != nullptr; }))
      << log("global");
  const sync::Version acted{released->parameters.epoch, released->parameters.version};
  for (int i = 0; i < 6; ++i) {  // finite, enormous, the first that are pushed at all
    const float big = 1e30F * static_cast<float>(i + 1);
    const double norm = static_cast<double>(big) * std::sqrt(static_cast<double>(spec::kForecastParameters));
    foreign->push({acted, 1, norm, std::vector<float>(spec::kForecastParameters, big)});
  }
  ASSERT_TRUE(eventually([&] { return foreign->counters().rejected >= 6; })) << log("global");
  EXPECT_EQ(foreign->counters().accepted, 0U);
  EXPECT_THAT(log("global"), ::testing::HasSubstr("worker quarantined worker=\"exploding\" last=\"norm"));
  auto witness = sync::WorkerClient::start({.address = global_,
                                            .worker_id = "witness",
                                            .network = sync::Network::kForecast,
                                            .pull_interval = 5ms});
  std::shared_ptr<const sync::Received> now;
  ASSERT_TRUE(eventually([&] { return (now = witness->take_parameters()) != nullptr; })) << log("global");
  EXPECT_EQ(now->bytes, released->bytes);
  EXPECT_EQ(now->parameters.version, acted.version);
}

TEST_F(ForecastProcess, NodesLearnTogetherAndAMadOneIsRefusedAndNamed) {
  auto global = start_global();
  std::vector<std::unique_ptr<Node>> nodes;
  nodes.push_back(std::make_unique<Node>(folder_->path(), "node-1", global_));
  nodes.push_back(std::make_unique<Node>(folder_->path(), "node-2", global_));
  const auto turn_until = [&](auto holds) {
    return eventually([&] {
      for (auto& node : nodes) {
        node->turn();
      }
      return holds();
    });
  };
  ASSERT_TRUE(turn_until([&] { return !nodes[0]->held.theta.empty() && !nodes[1]->held.theta.empty(); }))
      << log("node-1") << log("global");
  const auto epoch = nodes[0]->held.epoch;

  // A worker whose numbers are no gradient: each is refused, and it is shut out by name.
  auto mad = sync::WorkerClient::start(
      {.address = global_, .worker_id = "mad", .network = sync::Network::kForecast, .pull_interval = 5ms});
  for (int i = 0; i < 6; ++i) {
    std::vector<float> values(spec::kForecastParameters, 1.0F);
    values[7] = i % 2 == 0 ? std::nanf("") : std::numeric_limits<float>::infinity();
    mad->push({{epoch, 0}, 1, 1, std::move(values)});
  }
  ASSERT_TRUE(eventually([&] { return mad->counters().rejected >= 6; })) << log("global");
  EXPECT_EQ(mad->counters().accepted, 0U);
  EXPECT_THAT(log("global"), ::testing::HasSubstr("worker quarantined worker=\"mad\" last=\"not_finite"));

  // The others' version rises, both act with what came of it, and it foresees their habit.
  ASSERT_TRUE(turn_until([&] {
    return nodes[0]->held.version > 100 && nodes[1]->held.version > 100 &&
           error_of(nodes[0]->held.theta) < 0.6;
  })) << nodes[0]->held.version
      << ' ' << error_of(nodes[0]->held.theta) << log("node-1") << log("global");
  EXPECT_EQ(nodes[0]->held.epoch, epoch);

  // The global network dies and returns: a higher epoch, and what was learned is not lost.
  global.signal(SIGKILL);
  ASSERT_TRUE(global.wait(20s));
  global = start_global();
  ASSERT_TRUE(turn_until([&] { return nodes[0]->held.epoch > epoch; })) << log("node-1") << log("global");
  EXPECT_LT(error_of(nodes[0]->held.theta), 0.7);

  for (auto& node : nodes) {
    node->learner.signal(SIGTERM);
    const auto ended = node->learner.wait(20s);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->code, 0);
  }
  global.signal(SIGTERM);
  const auto ended = global.wait(20s);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->code, 0) << log("global");
}

/// Fitting of a file by the program, as docs/learning.md does it.
class Fit : public ForecastProcess {
 protected:
  int fit(const std::string& bytes, const std::string& out) {
    const fs::path file = folder_->path() / "samples.bin";
    EXPECT_TRUE(write_file_atomic(file, bytes));
    auto child = spawn({testing::program("ballast-learner"), "--fit", file.string(), "--fit-out",
                        (folder_->path() / out).string(), "--fit-steps", "300", "--fit-seed", "2"},
                       "log");
    const auto ended = child.wait(60s);
    return ended ? ended->code : -1;
  }
  std::string read(const std::string& name) const { return log(name); }
};

TEST_F(Fit, TheSameSamplesGiveTheSameBytesAndAForecastThatIsBetterThanAsNow) {
  const std::string samples = policy::serialize_samples(Habit(1).pairs(6000));
  ASSERT_EQ(fit(samples, "one"), 0) << log("log");
  ASSERT_EQ(fit(samples, "two"), 0) << log("log");
  EXPECT_EQ(read("one"), read("two"));
  const auto theta = policy::parse_forecast(read("one"));
  ASSERT_TRUE(theta) << theta.error().message;
  EXPECT_LT(error_of(*theta), 0.7);
}

TEST_F(Fit, ARecordingIsUsedAsFarAsItGoesAndThatIsSaid) {
  auto pairs = Habit(1).pairs(3000);
  // With a gap: what is not finite there is left out.
  for (std::size_t i = 1000; i < 1040; ++i) {
    pairs[i].input.features[3] = std::nanf("");
  }
  std::string samples = policy::serialize_samples(pairs);
  ASSERT_EQ(fit(samples, "gap"), 0) << log("log");
  EXPECT_THAT(log("log"), ::testing::HasSubstr("40 pairs are not finite and left out"));
  EXPECT_TRUE(policy::parse_forecast(read("gap")));
  // Cut off, as by a full disk: its whole rows.
  samples.resize(samples.size() / 2);
  ASSERT_EQ(fit(samples, "cut"), 0) << log("log");
  EXPECT_THAT(log("log"), ::testing::HasSubstr("cut off or damaged"));
  EXPECT_TRUE(policy::parse_forecast(read("cut")));
  // Too short to learn from, or of another version: refused, and why.
  EXPECT_EQ(fit(policy::serialize_samples(Habit(1).pairs(50)), "short"), 1);
  EXPECT_THAT(log("log"), ::testing::HasSubstr("50 pairs are too few"));
  std::string former = policy::serialize_samples(Habit(1).pairs(3000));
  former[policy::kSamplesMagic.size()] = 0;
  EXPECT_EQ(fit(former, "former"), 1);
  EXPECT_THAT(log("log"), ::testing::HasSubstr("version 0, this build's is 1"));
}

}  // namespace
}  // namespace ballast
