// SPDX-License-Identifier: Apache-2.0
#include "model/sync/checkpoint/checkpoint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <vector>

#include "core/base/file.h"

namespace ballast::sync {
namespace {

namespace fs = std::filesystem;

GlobalState state_at(std::uint64_t epoch, std::uint64_t version) {
  GlobalState state{policy::initial(version), std::vector<float>(spec::kParameters, 0.25F)};
  state.parameters.epoch = epoch;
  state.parameters.version = version;
  state.mean_square[3] = static_cast<float>(version);
  return state;
}

class Checkpoint : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(fs::temp_directory_path(), "ballast-checkpoint-");
    ASSERT_TRUE(made);
    folder_ = std::make_unique<TempDir>(std::move(*made));
    open();
  }
  void open() {
    store_.reset();
    auto store = CheckpointStore::open(folder_->path());
    ASSERT_TRUE(store) << store.error().message;
    store_ = std::make_unique<CheckpointStore>(std::move(*store));
  }
  std::vector<fs::path> checkpoints() const {
    std::vector<fs::path> paths;
    for (const auto& entry : fs::directory_iterator(folder_->path())) {
      if (entry.path().filename().string().starts_with("checkpoint-")) {
        paths.push_back(entry.path());
      }
    }
    std::sort(paths.begin(), paths.end());
    return paths;
  }
  static void write(const fs::path& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
  }

  std::unique_ptr<TempDir> folder_;
  std::unique_ptr<CheckpointStore> store_;
};

TEST_F(Checkpoint, RoundTrips) {
  const GlobalState state = state_at(4, 9);
  const auto parsed = parse_checkpoint(serialize_checkpoint(state));
  ASSERT_TRUE(parsed) << parsed.error().message;
  EXPECT_EQ(*parsed, state);
}

TEST_F(Checkpoint, EmptyFolderBeginsUntrainedWithAnEpochOfItsOwn) {
  const auto state = store_->load(5);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->parameters.theta, policy::initial(5).theta);
  EXPECT_EQ(state->parameters.version, 0U);
  EXPECT_EQ(state->mean_square, std::vector<float>(spec::kParameters, 0.0F));
  EXPECT_GT(state->parameters.epoch, 1'700'000'000U) << "a folder that was lost may not reuse an epoch";
}

TEST_F(Checkpoint, ReturnsTheNewestOneInTheNextEpoch) {
  ASSERT_TRUE(store_->save(state_at(4, 9)));
  ASSERT_TRUE(store_->save(state_at(4, 10)));
  open();
  const auto state = store_->load(0);
  ASSERT_TRUE(state);
  GlobalState expected = state_at(4, 10);
  expected.parameters.epoch = 5;
  EXPECT_EQ(*state, expected);
}

TEST_F(Checkpoint, KeepsThree) {
  for (std::uint64_t version = 1; version <= 6; ++version) {
    ASSERT_TRUE(store_->save(state_at(4, version)));
  }
  ASSERT_EQ(checkpoints().size(), CheckpointStore::kKept);
  const auto oldest = parse_checkpoint(*read_file(checkpoints().front()));
  ASSERT_TRUE(oldest);
  EXPECT_EQ(oldest->parameters.version, 4U);
}

TEST_F(Checkpoint, WritesTheParametersFileBesideIt) {
  ASSERT_TRUE(store_->save(state_at(4, 9)));
  const auto latest = read_file(folder_->path() / CheckpointStore::kLatest);
  ASSERT_TRUE(latest);
  EXPECT_EQ(*latest, policy::serialize(state_at(4, 9).parameters));
}

TEST_F(Checkpoint, TornAtAnyByteIsPassedOver) {
  ASSERT_TRUE(store_->save(state_at(4, 9)));
  ASSERT_TRUE(store_->save(state_at(4, 10)));
  const fs::path newest = checkpoints().back();
  const std::string whole = *read_file(newest);
  // Every length: the parser alone; the way through the file system at some of them.
  for (std::size_t length = 0; length < whole.size(); ++length) {
    ASSERT_FALSE(parse_checkpoint(std::string_view(whole).substr(0, length))) << length;
  }
  for (std::size_t length = 0; length < whole.size(); length += 1777) {
    write(newest, whole.substr(0, length));
    const auto state = store_->load(0);
    ASSERT_TRUE(state);
    EXPECT_EQ(state->parameters.version, 9U) << length;
    EXPECT_EQ(state->parameters.epoch, 5U) << length;
  }
  EXPECT_FALSE(parse_checkpoint(whole + "x"));
}

TEST_F(Checkpoint, AnyFlippedBitIsFound) {
  std::string bytes = serialize_checkpoint(state_at(4, 9));
  for (std::size_t at = 0; at < bytes.size(); at += 211) {
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
    EXPECT_FALSE(parse_checkpoint(bytes)) << at;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x10);
  }
}

TEST_F(Checkpoint, WithoutAWholeOneTheEpochStillRises) {
  write(folder_->path() / "checkpoint-00000000000000000041-00000000000000000007", "torn");
  const auto state = store_->load(5);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->parameters.theta, policy::initial(5).theta);
  EXPECT_EQ(state->parameters.epoch, 42U);
}

TEST_F(Checkpoint, OtherFilesAreLeftAloneAndLeftoversOfACrashAreNot) {
  const auto leftover = folder_->path() / "checkpoint-00000000000000000041-00000000000000000007.a1B2c3";
  const auto other = folder_->path() / "checkpoint-mine";
  write(leftover, "half");
  write(other, "notes");
  open();
  EXPECT_FALSE(fs::exists(leftover));
  EXPECT_TRUE(fs::exists(other));
}

TEST_F(Checkpoint, ALiveStateThatIsNewerThanTheLastCheckpointIsLoaded) {
  ASSERT_TRUE(store_->save(state_at(4, 9)));
  for (const std::uint64_t version : {10, 11, 12}) {
    ASSERT_TRUE(store_->save_live(state_at(4, version)));
  }
  GlobalState expected = state_at(4, 12);
  expected.parameters.epoch = 5;
  auto state = store_->load(0);
  ASSERT_TRUE(state);
  EXPECT_EQ(*state, expected);
}

TEST_F(Checkpoint, ALiveStateTornAtAnyByteLeavesTheOtherAndThenTheCheckpoint) {
  ASSERT_TRUE(store_->save(state_at(4, 9)));
  ASSERT_TRUE(store_->save_live(state_at(4, 10)));
  ASSERT_TRUE(store_->save_live(state_at(4, 11)));
  const std::string whole = *read_file(folder_->path() / "live-1");
  for (std::size_t length = 0; length < whole.size(); length += 1777) {
    write(folder_->path() / "live-1", whole.substr(0, length));
    const auto state = store_->load(0);
    ASSERT_TRUE(state);
    EXPECT_EQ(state->parameters.version, 10U) << length;
  }
  write(folder_->path() / "live-0", "torn");
  const auto state = store_->load(0);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->parameters.version, 9U);
}

TEST_F(Checkpoint, WithoutAWholeOneTheShippedParametersAreServed) {
  write(folder_->path() / "checkpoint-00000000000000000041-00000000000000000007", "torn");
  const auto shipped = state_at(1, 77).parameters;
  const auto state = store_->load(shipped);
  ASSERT_TRUE(state);
  EXPECT_EQ(state->parameters.theta, shipped.theta);
  EXPECT_EQ(state->parameters.epoch, 42U);
}

TEST_F(Checkpoint, ADeposedLeaderIsTold) {
  ASSERT_TRUE(store_->save(state_at(4, 9)));
  EXPECT_TRUE(store_->still_leads(4));
  ASSERT_TRUE(store_->save(state_at(5, 0)));
  const auto deposed = store_->still_leads(4);
  ASSERT_FALSE(deposed);
  EXPECT_NE(deposed.error().message.find("epoch 5"), std::string::npos) << deposed.error().message;
  EXPECT_TRUE(store_->still_leads(5));
  fs::remove(folder_->path() / "lock");
  EXPECT_FALSE(store_->still_leads(5));
  auto other = CheckpointStore::try_open(folder_->path());
  ASSERT_TRUE(other && *other) << "another process makes a lock of its own";
  EXPECT_FALSE(store_->still_leads(5));
}

TEST_F(Checkpoint, AnotherNetworkWithinHasAStateOfItsOwnAndTheFoldersLock) {
  constexpr std::size_t kNumbers = 7;
  const auto small = [](std::uint64_t epoch, std::uint64_t version) {
    return GlobalState{{epoch, version, std::vector<float>(kNumbers, 0.5F)},
                       std::vector<float>(kNumbers, 0.25F)};
  };
  auto within = store_->within("other", kNumbers);
  ASSERT_TRUE(within) << within.error().message;
  ASSERT_TRUE(store_->save(state_at(4, 9)));
  ASSERT_TRUE(within->save(small(4, 3)));
  ASSERT_TRUE(within->save_live(small(4, 5)));
  ASSERT_EQ(checkpoints().size(), 1U) << "not in the folder around it";
  auto inner = within->load(policy::Parameters{0, 0, std::vector<float>(kNumbers)});
  ASSERT_TRUE(inner) << inner.error().message;
  EXPECT_EQ(*inner, small(5, 5));
  const auto outer = store_->load(0);
  ASSERT_TRUE(outer);
  EXPECT_EQ(outer->parameters.version, 9U);
  EXPECT_TRUE(within->still_leads(4));

  // Who leads for the folder leads for what is in it: when this process is gone, both are free at once.
  const auto held = CheckpointStore::try_open(folder_->path());
  ASSERT_TRUE(held);
  EXPECT_FALSE(held->has_value());
  fs::remove(folder_->path() / "lock");
  EXPECT_FALSE(within->still_leads(4)) << "the lock that is gone is this one's too";
  store_.reset();
  within = Error::failed("gone");
  open();
  within = store_->within("other", kNumbers);
  ASSERT_TRUE(within) << within.error().message;
  inner = within->load(policy::Parameters{0, 0, std::vector<float>(kNumbers)});
  ASSERT_TRUE(inner);
  EXPECT_EQ(*inner, small(5, 5)) << "what was saved is there for the next";
  EXPECT_FALSE(CheckpointStore::open(folder_->path())) << "taken";
}

TEST_F(Checkpoint, AFolderWithinThatCannotBeIsAnError) {
  write(folder_->path() / "other", "a file");
  EXPECT_FALSE(store_->within("other", 7));
}

TEST_F(Checkpoint, AFollowerIsToldThatAnotherLeads) {
  const auto follower = CheckpointStore::try_open(folder_->path());
  ASSERT_TRUE(follower) << follower.error().message;
  EXPECT_FALSE(follower->has_value());
}

TEST_F(Checkpoint, OneProcessAFolder) {
  const auto second = CheckpointStore::open(folder_->path());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().kind, Error::Kind::kFailed);
  EXPECT_NE(second.error().message.find("in use"), std::string::npos);
}

TEST_F(Checkpoint, AFolderThatCannotBeIsAUsageError) {
  write(folder_->path() / "file", "");
  const auto store = CheckpointStore::open(folder_->path() / "file" / "state");
  ASSERT_FALSE(store);
  EXPECT_EQ(store.error().kind, Error::Kind::kUsage);
}

}  // namespace
}  // namespace ballast::sync
