// SPDX-License-Identifier: Apache-2.0
//
// The two ends of the unix socket between ballastd and ballast-learner, in one process.
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <chrono>
#include <cstring>
#include <thread>

#include "core/base/file.h"
#include "core/base/unique_fd.h"
#include "model/policy/recording_file.h"
#include "model/sync/rollouts/agent_client.h"
#include "model/sync/rollouts/rollout_server.h"
#include "served.h"

namespace ballast::sync {
namespace {

using namespace std::chrono_literals;

std::vector<spec::Rollout> rollouts(std::size_t count, std::uint64_t first_version = 0) {
  std::vector<spec::Rollout> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    out[i].endpoint = "shop/web/web-0";
    out[i].epoch = 1;
    out[i].version = first_version + i;
    out[i].steps.resize(2);
  }
  return out;
}

class AgentStream : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(std::filesystem::temp_directory_path(), "ballast-agent-");
    ASSERT_TRUE(made);
    folder_ = std::make_unique<TempDir>(std::move(*made));
    path_ = (folder_->path() / "learner.sock").string();
  }
  void serve() {
    server_.reset();
    auto server = RolloutServer::start(path_);
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  void learn() {
    client_.reset();
    client_ = AgentClient::start("unix:" + path_);
    ASSERT_TRUE(eventually([&] { return server_->learner_connected(); }));
  }
  std::optional<std::string> parameters() {
    std::optional<std::string> got;
    eventually([&] { return (got = server_->take_parameters()).has_value(); });
    return got;
  }

  std::unique_ptr<TempDir> folder_;
  std::string path_;
  std::unique_ptr<RolloutServer> server_;
  std::unique_ptr<AgentClient> client_;
};

TEST_F(AgentStream, RolloutsArriveInOrder) {
  serve();
  learn();
  server_->offer(rollouts(100));
  server_->offer(rollouts(50, 100));
  std::vector<spec::Rollout> got;
  EXPECT_TRUE(eventually([&] {
    for (auto& rollout : client_->take_rollouts(10ms)) {
      got.push_back(std::move(rollout));
    }
    return got.size() == 150;
  }));
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].version, i);
  }
  EXPECT_TRUE(eventually([&] { return server_->sent() == 150; }));
  EXPECT_EQ(server_->dropped(), 0U);
}

TEST_F(AgentStream, ParametersArriveByteForByteAndTheNewestWins) {
  serve();
  learn();
  const std::string bytes("\0\x01\xff parameters", 13);
  client_->offer_parameters(bytes);
  EXPECT_EQ(parameters(), bytes);
  EXPECT_EQ(server_->take_parameters(), std::nullopt);
  for (int i = 0; i < 50; ++i) {
    client_->offer_parameters(std::to_string(i));
  }
  EXPECT_TRUE(eventually([&] { return server_->take_parameters() == "49"; }));
}

TEST_F(AgentStream, RecordingsArriveWholeAndGainsLeaveParametersAlone) {
  serve();
  server_->offer_recording("queue_rule", {{.service = {"shop", "web"}}});
  EXPECT_EQ(server_->dropped(), 0U) << "without a learner nothing is even written";
  learn();
  std::vector<spec::RecordedTick> ticks(20'000, {.service = {"shop", "web"}, .tick_s = 1});
  for (auto& tick : ticks) {
    tick.pods.resize(3);
  }
  server_->offer_recording("queue_rule", ticks);  // more than one message may hold
  std::size_t got = 0;
  EXPECT_TRUE(eventually([&] {
    for (const std::string& text : client_->take_recording()) {
      EXPECT_LT(text.size(), std::size_t{1} << 20);
      const auto recording = policy::parse_recording(text);
      EXPECT_TRUE(recording.notes.empty());
      got += recording.ticks.size();
    }
    return got == ticks.size();
  })) << got;
  client_->offer_gains("gains");
  std::optional<std::string> gains;
  ASSERT_TRUE(eventually([&] { return (gains = server_->take_gains()).has_value(); }));
  EXPECT_EQ(*gains, "gains");
  EXPECT_EQ(server_->take_parameters(), std::nullopt);
  EXPECT_FALSE(server_->take_forecast());
  serve();  // an agent that returns is handed them again
  EXPECT_TRUE(eventually([&] { return server_->take_gains() == "gains"; }));
}

TEST_F(AgentStream, WithoutALearnerRolloutsAreDroppedAndCounted) {
  serve();
  server_->offer(rollouts(7));
  EXPECT_EQ(server_->dropped(), 7U);
  EXPECT_FALSE(server_->learner_connected());
}

TEST_F(AgentStream, ALearnerMayComeAndGo) {
  serve();
  for (int life = 0; life < 3; ++life) {
    learn();
    server_->offer(rollouts(1, static_cast<std::uint64_t>(life)));
    const auto got = client_->take_rollouts(20s);
    ASSERT_EQ(got.size(), 1U);
    EXPECT_EQ(got[0].version, static_cast<std::uint64_t>(life));
    client_.reset();
    ASSERT_TRUE(eventually([&] { return !server_->learner_connected(); }));
  }
}

TEST_F(AgentStream, TheNewestLearnerIsServed) {
  serve();
  learn();
  auto former = std::move(client_);
  client_ = AgentClient::start("unix:" + path_);
  client_->offer_parameters("newest");
  ASSERT_EQ(parameters(), "newest");
  former.reset();
  server_->offer(rollouts(1));
  EXPECT_EQ(client_->take_rollouts(20s).size(), 1U);
}

TEST_F(AgentStream, AnAgentThatReturnsIsHandedTheLastParameters) {
  serve();
  learn();
  client_->offer_parameters("last");
  ASSERT_EQ(parameters(), "last");
  serve();
  EXPECT_EQ(parameters(), "last");
}

TEST_F(AgentStream, EndsWithAnOpenStreamAndAFullQueue) {
  serve();
  learn();
  server_->offer(rollouts(RolloutServer::kQueue * 2));
  server_.reset();
  EXPECT_FALSE(std::filesystem::exists(path_));
}

TEST_F(AgentStream, TheSocketIsForItsOwnerAlone) {
  serve();
  struct stat file {};
  ASSERT_EQ(::lstat(path_.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777U, 0600U);
}

// A pod's folder has the pod's group, and gives it to what is made in it.
TEST_F(AgentStream, InAFolderThatGivesItsGroupTheSocketIsForTheGroupToo) {
  const auto folder = std::filesystem::path(path_).parent_path();
  ASSERT_EQ(::chmod(folder.c_str(), 02770), 0);
  serve();
  struct stat file {};
  ASSERT_EQ(::lstat(path_.c_str(), &file), 0);
  EXPECT_EQ(file.st_mode & 0777U, 0660U);
}

TEST_F(AgentStream, AStaleSocketIsReplacedAndALiveOneIsNot) {
  {
    const UniqueFd dead(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::strncpy(address.sun_path, path_.c_str(), sizeof address.sun_path - 1);
    ASSERT_EQ(::bind(dead.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  }
  ASSERT_TRUE(std::filesystem::exists(path_));
  serve();
  const auto second = RolloutServer::start(path_);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find(path_), std::string::npos);
  learn();
}

TEST_F(AgentStream, AMissingFolderIsNamed) {
  const auto server = RolloutServer::start((folder_->path() / "none" / "learner.sock").string());
  ASSERT_FALSE(server);
  EXPECT_NE(server.error().message.find("none/learner.sock"), std::string::npos) << server.error().message;
}

}  // namespace
}  // namespace ballast::sync
