// SPDX-License-Identifier: Apache-2.0
//
// The whole parameter plane: a real ballast-global, a real ballast-learner, and this test in the
// place of ballastd, acting by the hand-written forward pass on a bandit that pays action 3.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cmath>
#include <cstdlib>
#include <functional>
#include <random>
#include <thread>

#include "core/base/file.h"
#include "core/base/process.h"
#include "eventually.h"
#include "model/policy/forward.h"
#include "model/sync/checkpoint/checkpoint.h"
#include "model/sync/client/worker_client.h"
#include "model/sync/rollouts/rollout_server.h"
#include "program.h"

namespace ballast {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

constexpr std::size_t kPaid = 3;

// Acts with the last good parameters that the learner handed over.
class Agent {
 public:
  explicit Agent(const std::string& path) {
    auto server = sync::RolloutServer::start(path);
    EXPECT_TRUE(server);
    if (server) {
      server_ = std::move(*server);
    }
  }

  void take() {
    if (auto bytes = server_->take_parameters()) {
      auto parsed = policy::parse(*bytes);
      ASSERT_TRUE(parsed) << parsed.error().message;
      parameters_ = std::move(*parsed);
      bytes_ = std::move(*bytes);
      forward_ = *policy::ForwardNetwork::create(parameters_);
    }
  }

  std::vector<double> pi() const {
    spec::Observation observation;
    observation.fill(0.5F);
    std::vector<double> p;
    double total = 0;
    for (const float logit : forward_->logits(observation)) {
      p.push_back(std::exp(static_cast<double>(logit)));
      total += p.back();
    }
    for (double& x : p) {
      x /= total;
    }
    return p;
  }

  // One rollout of 20 steps, if there is anything to act by.
  void act() {
    take();
    if (!forward_) {
      return;
    }
    const auto p = pi();
    std::discrete_distribution<std::size_t> choose(p.begin(), p.end());
    spec::Rollout rollout;
    rollout.endpoint = "shop/web/web-0";
    rollout.epoch = parameters_.epoch;
    rollout.version = parameters_.version;
    rollout.terminal = true;
    for (int i = 0; i < 20; ++i) {
      spec::Step step;
      step.observation.fill(0.5F);
      step.context.fill(0.5F);
      const std::size_t action = choose(random_);
      step.action = static_cast<decltype(step.action)>(action);
      step.behaviour_probability = static_cast<float>(p[action]);
      step.reward = action == kPaid ? 1.0F : 0.0F;
      rollout.steps.push_back(step);
    }
    server_->offer({rollout});
  }

  bool has_parameters() const { return forward_ != nullptr; }
  const policy::Parameters& parameters() const { return parameters_; }
  const std::string& bytes() const { return bytes_; }
  sync::RolloutServer& server() { return *server_; }

 private:
  std::unique_ptr<sync::RolloutServer> server_;
  policy::Parameters parameters_;
  std::string bytes_;
  std::shared_ptr<const policy::ForwardNetwork> forward_;
  std::mt19937 random_{1};
};

class LearnerProcess : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(fs::temp_directory_path(), "ballast-learner-");
    ASSERT_TRUE(made);
    folder_ = std::make_unique<TempDir>(std::move(*made));
    agent_path_ = (folder_->path() / "agent.sock").string();
    global_ = "unix:" + (folder_->path() / "global.sock").string();
    agent_ = std::make_unique<Agent>(agent_path_);
  }
  ChildProcess spawn(const std::vector<std::string>& argv) const {
    auto child = ChildProcess::spawn({.argv = argv, .output = folder_->path() / "log"});
    EXPECT_TRUE(child) << child.error().message;
    return child ? std::move(*child) : ChildProcess();
  }
  ChildProcess start_global() const {
    return spawn({testing::program("ballast-global"), "--listen", global_, "--state",
                  (folder_->path() / "state").string(), "--checkpoint-seconds", "0.1", "--seed", "1"});
  }
  ChildProcess start_learner() const {
    return spawn({testing::program("ballast-learner"), "--agent", "unix:" + agent_path_, "--global", global_,
                  "--worker-id", "test"});
  }
  std::string log() const {
    const auto text = read_file(folder_->path() / "log");
    return text ? *text : text.error().message;
  }
  // Acts until it holds.
  bool act_until(const std::function<bool()>& holds) {
    return eventually([&] {
      agent_->act();
      return holds();
    });
  }
  std::pair<std::uint64_t, std::uint64_t> held() const {
    return {agent_->parameters().epoch, agent_->parameters().version};
  }

  std::unique_ptr<TempDir> folder_;
  std::string agent_path_;
  std::string global_;
  std::unique_ptr<Agent> agent_;
};

TEST_F(LearnerProcess, LearnsThroughTheRealProcessesAndOutlivesEachOfThem) {
  auto global = start_global();
  auto learner = start_learner();
  ASSERT_TRUE(act_until([&] { return agent_->has_parameters(); })) << log();
  const auto first = held();
  EXPECT_NEAR(agent_->pi()[kPaid], 0.2, 1e-6) << "untrained: all actions alike";

  // The version rises and the policy turns to the action that is paid.
  ASSERT_TRUE(act_until([&] { return held().second >= first.second + 300; })) << log();
  EXPECT_EQ(held().first, first.first);
  EXPECT_GT(agent_->pi()[kPaid], 0.6) << log();

  // At rest the agent's bytes are those that the global network gives to anybody.
  auto witness =
      sync::WorkerClient::start({.address = global_, .worker_id = "witness", .pull_interval = 20ms});
  std::shared_ptr<const sync::Received> served;
  ASSERT_TRUE(eventually([&] {
    if (auto newer = witness->take_parameters()) {
      served = std::move(newer);
    }
    agent_->take();
    return served != nullptr && agent_->parameters() == served->parameters;
  })) << log();
  EXPECT_EQ(agent_->bytes(), served->bytes);
  EXPECT_EQ(agent_->bytes(), policy::serialize(agent_->parameters()));

  // Killed: the agent goes on with what it has. What the learner had received before is still
  // on its way, so first let that settle.
  global.signal(SIGKILL);
  ASSERT_TRUE(global.wait(20s));
  std::string last_good;
  ASSERT_TRUE(eventually([&] {
    last_good = agent_->bytes();
    std::this_thread::sleep_for(500ms);
    agent_->take();
    return agent_->bytes() == last_good;
  }));
  for (int i = 0; i < 50; ++i) {
    agent_->act();
    std::this_thread::sleep_for(5ms);
  }
  EXPECT_EQ(agent_->bytes(), last_good);
  EXPECT_TRUE(learner.running()) << log();

  // Returned: a higher epoch, and learning goes on from the checkpoint.
  global = start_global();
  ASSERT_TRUE(act_until([&] { return held().first > first.first; })) << log();
  const auto returned = held();
  EXPECT_GT(agent_->pi()[kPaid], 0.5) << "what was learned is not lost";
  ASSERT_TRUE(act_until([&] { return held().second > returned.second + 20; })) << log();

  // The learner killed: the agent keeps acting; a new one takes over.
  learner.signal(SIGKILL);
  ASSERT_TRUE(learner.wait(20s));
  ASSERT_TRUE(eventually([&] { return !agent_->server().learner_connected(); }));
  agent_->act();
  learner = start_learner();
  const auto before = held();
  ASSERT_TRUE(act_until([&] { return held().second > before.second + 5; })) << log();

  learner.signal(SIGTERM);
  const auto learner_ended = learner.wait(20s);
  global.signal(SIGTERM);
  const auto global_ended = global.wait(20s);
  ASSERT_TRUE(learner_ended && global_ended) << log();
  EXPECT_EQ(learner_ended->code, 0) << log();
  EXPECT_EQ(global_ended->code, 0) << log();
}

TEST_F(LearnerProcess, AloneItWaitsAndStopsCleanly) {
  auto learner = start_learner();
  ASSERT_TRUE(eventually([&] { return agent_->server().learner_connected(); })) << log();
  agent_->server().offer({spec::Rollout{}});
  std::this_thread::sleep_for(200ms);
  EXPECT_TRUE(learner.running()) << log();
  learner.signal(SIGTERM);
  const auto ended = learner.wait(20s);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->code, 0) << log();
}

TEST_F(LearnerProcess, WrongUseIsExitTwo) {
  for (const std::vector<std::string>& flags :
       {std::vector<std::string>{},
        {"--agent", "tcp", "--global", global_},
        {"--agent", "unix:/nowhere", "--global", global_, "--gamma", "2"}}) {
    auto argv = flags;
    argv.insert(argv.begin(), testing::program("ballast-learner"));
    auto child = spawn(argv);
    const auto ended = child.wait(20s);
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->code, 2) << log();
  }
}

}  // namespace
}  // namespace ballast
