// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <limits>

#include "core/base/file.h"
#include "model/policy/parameters.h"
#include "model/train/checkpoint.h"
#include "model/train/train.h"

namespace ballast::train {
namespace {

class Run : public testing::Test {
 protected:
  Run() : folder_(std::move(*TempDir::create(testing::TempDir(), "train-"))) {}

  TrainOptions options(const std::string& name) const {
    TrainOptions options;
    options.learner = "a2c";
    options.environment = "cartpole";
    options.steps = 2'000;
    options.evaluate_every = 500;
    options.evaluation_episodes = 2;
    options.final_episodes = 3;
    options.out = folder_.path() / name;
    return options;
  }
  std::string bytes(const std::string& name) const {
    const auto read = read_file(folder_.path() / name);
    return read ? *read : read.error().message;
  }

  TempDir folder_;
};

TEST_F(Run, TheSameSeedWritesTheSameBytes) {
  ASSERT_TRUE(run(options("one")).ok());
  ASSERT_TRUE(run(options("two")).ok());
  EXPECT_EQ(bytes("one/curve.csv"), bytes("two/curve.csv"));
  EXPECT_EQ(bytes("one/checkpoint.bin"), bytes("two/checkpoint.bin"));
  EXPECT_EQ(bytes("one/curve.csv").substr(0, 15), "steps,episodes,");
}

TEST_F(Run, GoesOnFromItsCheckpoint) {
  TrainOptions half = options("run");
  half.steps = 2'000;
  ASSERT_TRUE(run(half).ok());
  half.resume = true;
  int points = 0;
  const auto again = run(half, [&points](const CurvePoint&) { ++points; });
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(points, 0) << "there is nothing left to do";
  EXPECT_EQ(again->theta, load(half.out / "checkpoint.bin")->state.theta);
  half.seed = 9;
  const auto other = run(half);
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().exit_code(), 2) << other.error().message;
}

TEST_F(Run, DivergenceStopsWithStepWorkerAndTheLastGoodCheckpoint) {
  TrainOptions wild = options("wild");
  wild.steps = 1'000;
  ASSERT_TRUE(run(wild).ok());
  const std::string kept = bytes("wild/checkpoint.bin");
  auto checkpoint = load(wild.out / "checkpoint.bin");
  ASSERT_TRUE(checkpoint.ok());
  // As if half of it were still to do.
  checkpoint->state.steps = 500;
  ASSERT_TRUE(save(wild.out / "checkpoint.bin", *checkpoint).ok());
  const std::string good = bytes("wild/checkpoint.bin");
  ASSERT_NE(good, kept);
  wild.resume = true;
  wild.hyper = tuned("a2c", "cartpole");
  wild.hyper->learning_rate = std::numeric_limits<double>::infinity();
  wild.hyper->final_learning_rate = wild.hyper->learning_rate;
  const auto stopped = run(wild);
  ASSERT_FALSE(stopped.ok());
  const std::string& why = stopped.error().message;
  EXPECT_NE(why.find("not finite at step"), std::string::npos) << why;
  EXPECT_NE(why.find("worker 0"), std::string::npos) << why;
  EXPECT_NE(why.find("checkpoint.bin"), std::string::npos) << why;
  EXPECT_EQ(bytes("wild/checkpoint.bin"), good);
}

TEST_F(Run, UnknownNamesListTheKnownOnes) {
  TrainOptions wrong = options("x");
  wrong.learner = "sarsa";
  const auto learner = run(wrong);
  ASSERT_FALSE(learner.ok());
  EXPECT_EQ(learner.error().exit_code(), 2);
  for (const auto& name : learner_names()) {
    EXPECT_NE(learner.error().message.find(name), std::string::npos) << learner.error().message;
  }
  wrong = options("x");
  wrong.environment = "pong";
  const auto environment = run(wrong);
  ASSERT_FALSE(environment.ok());
  EXPECT_EQ(environment.error().exit_code(), 2);
}

TEST_F(Run, ImitationNeedsAdviceAndANetwork) {
  TrainOptions none = options("none");
  none.imitate_steps = 64;
  EXPECT_EQ(run(none).error().exit_code(), 2) << "cartpole gives no advice";
  none.environment = "queue";
  none.learner = "q_learning";
  EXPECT_EQ(run(none).error().exit_code(), 2) << "a table cannot imitate";
}

TEST_F(Run, WritesParametersThatAnAgentLoads) {
  TrainOptions queue = options("queue");
  queue.environment = "queue";
  queue.scenarios = {"static"};
  queue.steps = 64;
  queue.evaluation_episodes = 1;
  queue.final_episodes = 1;
  ASSERT_TRUE(run(queue).ok());
  const auto parsed = policy::parse(bytes("queue/parameters.bin"));
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  queue.out = folder_.path() / "further";
  queue.initial = folder_.path() / "queue/parameters.bin";
  EXPECT_TRUE(run(queue).ok());
}

Checkpoint sample_checkpoint() {
  Checkpoint checkpoint;
  checkpoint.identity = "a2c cartpole seed 1 steps 2";
  checkpoint.state = {{1, 2, 3}, {{}, {4, 5, 6}, 7}, 8, {9.5}};
  checkpoint.best_theta = {3, 2, 1};
  checkpoint.best_return = 10.25;
  return checkpoint;
}

TEST(Techniques, AreLookedAtAsLearnersAreAndThePriorIsTheZeroOfTheReward) {
  const auto prior = evaluate_technique("prior", {"io_limits"}, 1);
  ASSERT_TRUE(prior.ok());
  EXPECT_NEAR(*prior, 0, 0.05);
  const auto rule = evaluate_technique("queue_rule", {"io_limits"}, 1);
  ASSERT_TRUE(rule.ok());
  EXPECT_GT(*rule, 10) << "its limits are not what these pods can do";
  const auto pushes_nothing = evaluate_technique("random", {"io_limits"}, 1);
  ASSERT_FALSE(pushes_nothing.ok());
  EXPECT_EQ(pushes_nothing.error().exit_code(), 2);
}

TEST(Checkpoints, AreReadAsTheyWereWritten) {
  const auto parsed = parse_checkpoint(serialize(sample_checkpoint()));
  ASSERT_TRUE(parsed.ok()) << parsed.error().message;
  EXPECT_EQ(*parsed, sample_checkpoint());
}

TEST(Checkpoints, DamageIsRefused) {
  const std::string whole = serialize(sample_checkpoint());
  for (std::size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(parse_checkpoint(whole.substr(0, size)).ok()) << size;
  }
  for (std::size_t at = 0; at < whole.size(); ++at) {
    std::string flipped = whole;
    flipped[at] = static_cast<char>(flipped[at] ^ 0x10);
    EXPECT_FALSE(parse_checkpoint(flipped).ok()) << at;
  }
  EXPECT_FALSE(parse_checkpoint(whole + "x").ok());
  Checkpoint sick = sample_checkpoint();
  sick.state.theta[1] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(parse_checkpoint(serialize(sick)).ok());
}

TEST_F(Run, ACheckpointThatCannotBeWrittenLeavesTheOldOneWhole) {
  const auto path = folder_.path() / "checkpoint.bin";
  ASSERT_TRUE(save(path, sample_checkpoint()).ok());
  EXPECT_FALSE(save(folder_.path() / "no-such-folder" / "checkpoint.bin", sample_checkpoint()).ok());
  EXPECT_EQ(*load(path), sample_checkpoint());
}

/// While it lives, no file of this process may grow beyond `bytes`: a disk that is full.
class FullDisk {
 public:
  explicit FullDisk(rlim_t bytes) {
    ::signal(SIGXFSZ, SIG_IGN);
    ::getrlimit(RLIMIT_FSIZE, &before_);
    const rlimit tight{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &tight);
  }
  ~FullDisk() { ::setrlimit(RLIMIT_FSIZE, &before_); }
  FullDisk(const FullDisk&) = delete;
  FullDisk& operator=(const FullDisk&) = delete;

 private:
  rlimit before_{};
};

TEST_F(Run, AFullDiskStopsItAndLeavesTheLastGoodCheckpointWhole) {
  TrainOptions half = options("full");
  half.steps = 1'000;
  ASSERT_TRUE(run(half).ok());
  const std::string good = bytes("full/checkpoint.bin");
  ASSERT_GT(good.size(), 4'096U);
  auto checkpoint = load(half.out / "checkpoint.bin");
  ASSERT_TRUE(checkpoint.ok());
  checkpoint->state.steps = 500;  // as if half of it were still to do
  ASSERT_TRUE(save(half.out / "checkpoint.bin", *checkpoint).ok());
  const std::string kept = bytes("full/checkpoint.bin");
  half.resume = true;
  {
    const FullDisk full(4'096);
    const auto stopped = run(half);
    ASSERT_FALSE(stopped.ok());
    EXPECT_EQ(stopped.error().exit_code(), 1);
    EXPECT_NE(stopped.error().message.find("checkpoint"), std::string::npos) << stopped.error().message;
  }
  EXPECT_EQ(bytes("full/checkpoint.bin"), kept);
  EXPECT_TRUE(run(half).ok()) << "with room again it goes on from there";
}

}  // namespace
}  // namespace ballast::train
