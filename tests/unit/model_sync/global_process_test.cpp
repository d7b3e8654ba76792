// SPDX-License-Identifier: Apache-2.0
//
// The real ballast-global: flags, exit codes, crash and return.
#include <gtest/gtest.h>
#include <signal.h>

#include <chrono>
#include <cstdlib>
#include <functional>
#include <thread>

#include "core/base/file.h"
#include "core/base/process.h"
#include "core/spec/gains.h"
#include "eventually.h"
#include "model/policy/shipped.h"
#include "model/sync/checkpoint/checkpoint.h"
#include "model/sync/client/worker_client.h"
#include "model/sync/server/global_server.h"
#include "program.h"

namespace ballast::sync {
namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

Gradient gradient_at(Version acted) {
  Gradient gradient{acted, 20, 1, std::vector<float>(spec::kParameters, 0.0F)};
  gradient.values[7] = 1;
  return gradient;
}

class GlobalProcess : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(fs::temp_directory_path(), "ballast-global-");
    ASSERT_TRUE(made);
    folder_ = std::make_unique<TempDir>(std::move(*made));
    address_ = "unix:" + (folder_->path() / "global.sock").string();
    state_ = folder_->path() / "state";
    log_ = folder_->path() / "log";
  }
  ChildProcess run(std::vector<std::string> flags) const {
    flags.insert(flags.begin(), testing::program("ballast-global"));
    auto child = ChildProcess::spawn({.argv = flags, .output = log_});
    EXPECT_TRUE(child) << child.error().message;
    return child ? std::move(*child) : ChildProcess();
  }
  ChildProcess serve() const {
    return run({"--listen", address_, "--state", state_.string(), "--checkpoint-seconds", "0"});
  }
  int exit_code(const std::vector<std::string>& flags) const {
    auto child = run(flags);
    const auto status = child.wait(20s);
    EXPECT_TRUE(status) << "it still runs";
    return status ? status->code : -1;
  }
  bool logged(const std::string& text) const {
    const auto log = read_file(log_);
    return log && log->find(text) != std::string::npos;
  }
  std::unique_ptr<WorkerClient> work() const {
    return WorkerClient::start({.address = address_,
                                .worker_id = "test",
                                .pull_interval = 20ms,
                                .first_wait = 5ms,
                                .longest_wait = 50ms});
  }
  static std::shared_ptr<const Received> next(WorkerClient& worker) {
    std::shared_ptr<const Received> received;
    eventually([&] { return (received = worker.take_parameters()) != nullptr; });
    return received;
  }

  std::unique_ptr<TempDir> folder_;
  std::string address_;
  fs::path state_;
  fs::path log_;
};

TEST_F(GlobalProcess, LearnsStopsCleanlyAndGoesOnInAHigherEpoch) {
  auto worker = work();
  auto global = serve();
  const auto first = next(*worker);
  ASSERT_NE(first, nullptr);
  ASSERT_TRUE(worker->push(gradient_at({first->parameters.epoch, first->parameters.version})));
  const auto learned = next(*worker);
  ASSERT_NE(learned, nullptr);
  EXPECT_EQ(learned->parameters.version, first->parameters.version + 1);
  global.signal(SIGTERM);
  const auto ended = global.wait(20s);
  ASSERT_TRUE(ended);
  EXPECT_EQ(ended->code, 0);
  const auto latest = read_file(state_ / CheckpointStore::kLatest);
  ASSERT_TRUE(latest);
  EXPECT_EQ(*latest, learned->bytes) << "SIGTERM keeps what was served last, byte for byte";

  global = serve();
  const auto returned = next(*worker);
  ASSERT_NE(returned, nullptr);
  EXPECT_EQ(returned->parameters.epoch, learned->parameters.epoch + 1);
  EXPECT_EQ(returned->parameters.version, learned->parameters.version);
  EXPECT_EQ(returned->parameters.theta, learned->parameters.theta);
}

TEST_F(GlobalProcess, GainsOfServicesOutliveIt) {
  const auto learner = [&] {
    return WorkerClient::start({.address = address_,
                                .worker_id = "test",
                                .network = Network::kGains,
                                .service = "shop/web",
                                .pull_interval = 20ms,
                                .first_wait = 5ms,
                                .longest_wait = 50ms});
  };
  std::shared_ptr<const Received> learned;
  {
    const auto worker = learner();
    auto global = serve();
    const auto first = next(*worker);
    ASSERT_NE(first, nullptr);
    ASSERT_TRUE(worker->push({{first->parameters.epoch, 0}, 1, 0.5, {0.5F, 0, 0, 0, 0, 0}}));
    learned = next(*worker);
    ASSERT_NE(learned, nullptr);
    EXPECT_NE(learned->parameters.theta, first->parameters.theta);
    global.signal(SIGTERM);
    ASSERT_TRUE(global.wait(20s));
  }
  {
    const auto worker = learner();
    auto global = serve();
    const auto returned = next(*worker);
    ASSERT_NE(returned, nullptr);
    EXPECT_EQ(returned->parameters.epoch, learned->parameters.epoch + 1);
    EXPECT_EQ(returned->parameters.version, learned->parameters.version);
    EXPECT_EQ(returned->parameters.theta, learned->parameters.theta);
    global.signal(SIGTERM);
    ASSERT_TRUE(global.wait(20s));
  }
  ASSERT_TRUE(write_file_atomic(state_ / CheckpointStore::kGains, "half a file"));
  const auto worker = learner();
  const auto global = serve();
  const auto anew = next(*worker);
  ASSERT_NE(anew, nullptr);
  EXPECT_EQ(anew->parameters.theta, std::vector<float>(spec::kGains));
  EXPECT_TRUE(logged("gains are learned anew"));
}

TEST_F(GlobalProcess, AKilledOneLosesNoEpoch) {
  auto worker = work();
  auto global = serve();
  std::uint64_t epoch = 0;
  for (int life = 0; life < 3; ++life) {
    const auto received = next(*worker);
    ASSERT_NE(received, nullptr);
    EXPECT_GT(received->parameters.epoch, epoch);
    epoch = received->parameters.epoch;
    global.signal(SIGKILL);
    ASSERT_TRUE(global.wait(20s));
    global = serve();
  }
}

TEST_F(GlobalProcess, SaysWhyItDoesNotStart) {
  auto global = serve();
  ASSERT_TRUE(eventually([&] { return logged("listening"); }));
  const std::string other = (folder_->path() / "other").string();

  EXPECT_EQ(exit_code({"--listen", address_, "--state", other}), 1);
  EXPECT_TRUE(logged("cannot listen on " + address_));
  EXPECT_EQ(exit_code({"--listen", "127.0.0.1:0", "--state", state_.string()}), 1);
  EXPECT_TRUE(logged("in use by another ballast-global"));
  EXPECT_EQ(exit_code({"--listen", "0.0.0.0:0", "--state", other}), 2);
  EXPECT_TRUE(logged("reaches beyond this host"));
  EXPECT_EQ(exit_code({"--listen", "nowhere", "--state", other}), 2);
  EXPECT_EQ(exit_code({"--listen", "127.0.0.1:0", "--state", log_.string()}), 2);
  EXPECT_TRUE(logged("state folder " + log_.string()));
  EXPECT_EQ(exit_code({"--listen", "127.0.0.1:0"}), 2);
  EXPECT_EQ(exit_code({"--listen", "127.0.0.1:0", "--state", other, "--lr", "-1"}), 2);
  EXPECT_EQ(exit_code({"--listen", "127.0.0.1:0", "--state", other, "--log", "loud"}), 2);
  EXPECT_EQ(exit_code({"--help"}), 0);
  EXPECT_TRUE(global.running());
}

TEST_F(GlobalProcess, NamesATcpAddressInUse) {
  GlobalState state{policy::initial(0), std::vector<float>(spec::kParameters, 0.0F)};
  auto network = GlobalNetwork::create(std::move(state), {});
  ASSERT_TRUE(network);
  const auto server = GlobalServer::start("127.0.0.1:0", **network);
  ASSERT_TRUE(server);
  EXPECT_EQ(exit_code({"--listen", (*server)->address(), "--state", state_.string()}), 1);
  EXPECT_TRUE(logged((*server)->address() + ": Address already in use"));
}

TEST_F(GlobalProcess, ADamagedCheckpointIsToldLoudlyAndPassedOver) {
  {
    auto store = CheckpointStore::open(state_);
    ASSERT_TRUE(store);
    for (const std::uint64_t version : {5, 6}) {
      GlobalState state{policy::initial(version), std::vector<float>(spec::kParameters, 0.0F)};
      state.parameters.epoch = 9;
      state.parameters.version = version;
      ASSERT_TRUE(store->save(state));
    }
  }
  fs::resize_file(state_ / "checkpoint-00000000000000000009-00000000000000000006", 1000);
  auto worker = work();
  auto global = serve();
  const auto received = next(*worker);
  ASSERT_NE(received, nullptr);
  EXPECT_EQ(received->parameters.epoch, 10U);
  EXPECT_EQ(received->parameters.version, 5U);
  EXPECT_EQ(received->parameters.theta, policy::initial(5).theta);
  EXPECT_TRUE(logged("level=error"));
  EXPECT_TRUE(logged("checkpoint passed over"));
}

TEST_F(GlobalProcess, WithoutAWholeCheckpointItBeginsWithTheShippedPolicy) {
  const auto shipped = policy::parse(policy::shipped());
  ASSERT_TRUE(shipped);
  {
    auto store = CheckpointStore::open(state_);
    ASSERT_TRUE(store);
    GlobalState state{policy::initial(3), std::vector<float>(spec::kParameters, 0.0F)};
    state.parameters.epoch = 9;
    ASSERT_TRUE(store->save(state));
  }
  fs::resize_file(state_ / "checkpoint-00000000000000000009-00000000000000000000", 1000);
  auto worker = work();
  auto global = serve();
  const auto received = next(*worker);
  ASSERT_NE(received, nullptr);
  EXPECT_EQ(received->parameters.epoch, 10U) << "never an epoch twice with other parameters";
  EXPECT_EQ(received->parameters.theta, shipped->theta);
  EXPECT_TRUE(logged("checkpoint passed over"));
}

}  // namespace
}  // namespace ballast::sync
