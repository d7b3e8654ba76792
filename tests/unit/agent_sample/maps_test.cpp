// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/maps.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <set>
#include <string>
#include <thread>

#include "core/base/file.h"

namespace ballast::sample {
namespace {

TEST(Maps, AFolderWithoutMapsIsRefusedByName) {
  auto folder = TempDir::create("/tmp", "ballast-maps-");
  ASSERT_TRUE(folder.ok());
  const auto maps = PinnedMaps::open(folder->path());
  ASSERT_FALSE(maps.ok());
  EXPECT_NE(maps.error().message.find((folder->path() / "meta").string()), std::string::npos)
      << maps.error().message;
}

std::string pods_in(const PinnedMaps& maps) {
  std::set<std::string> names;
  const auto rows = maps.decisions();
  EXPECT_TRUE(rows.ok());
  for (const DecisionRow& row : *rows) {
    names.insert(std::string(row.key.pod) + "=" + std::to_string(row.value.weight));
  }
  std::string all;
  for (const std::string& name : names) {
    all += name + " ";
  }
  return all;
}

DecisionRow decision(const char* pod, std::uint32_t weight) {
  DecisionRow row;
  std::string(pod).copy(row.key.pod, sizeof row.key.pod - 1);
  row.value.weight = weight;
  return row;
}

TEST(Maps, FilesInTheirPlaceHoldDecisionsAndNothingMeasured) {
  auto folder = TempDir::create("/tmp", "ballast-maps-");
  ASSERT_TRUE(folder.ok());
  auto written = PinnedMaps::create_files(folder->path());
  ASSERT_TRUE(written.ok()) << written.error().message;
  ASSERT_TRUE(written->put_decision(decision("web-0", 1)).ok());
  ASSERT_TRUE(written->put_decision(decision("web-1", 2)).ok());
  auto read = PinnedMaps::open(folder->path());
  ASSERT_TRUE(read.ok()) << read.error().message;
  EXPECT_EQ(pods_in(*read), "web-0=1 web-1=2 ");
  ASSERT_TRUE(written->erase_decision(decision("web-0", 0).key).ok());
  ASSERT_TRUE(written->put_decision(decision("web-1", 3)).ok());
  ASSERT_TRUE(written->put_decision(decision("web-2", 4)).ok());
  EXPECT_EQ(pods_in(*read), "web-1=3 web-2=4 ");
  EXPECT_EQ(std::filesystem::file_size(folder->path() / "decisions"),
            2 * (8 + sizeof(ballast_decision_key) + sizeof(ballast_decision_value)))
      << "the place of what was erased is used again";
  auto meta = written->meta();
  ASSERT_TRUE(meta.ok());
  meta->heartbeat_ns = 7;
  ASSERT_TRUE(written->put_meta(*meta).ok());
  ASSERT_TRUE(read->meta().ok());
  EXPECT_EQ(read->meta()->heartbeat_ns, 7U);
  EXPECT_TRUE(read->requests().ok() && read->requests()->empty());
  EXPECT_TRUE(read->loss().ok() && read->identity().ok() && read->spans().ok() && read->features().ok());

  auto anew = PinnedMaps::create_files(folder->path());
  ASSERT_TRUE(anew.ok());
  EXPECT_EQ(pods_in(*PinnedMaps::open(folder->path())), "");
  EXPECT_EQ(pods_in(*read), "web-1=3 web-2=4 ") << "of the one that was opened";
}

TEST(Maps, ARecordThatIsWrittenIsNeverReadHalf) {
  auto folder = TempDir::create("/tmp", "ballast-maps-");
  ASSERT_TRUE(folder.ok());
  auto written = PinnedMaps::create_files(folder->path());
  ASSERT_TRUE(written.ok());
  std::atomic<bool> over{false};
  std::thread writer([&] {
    for (std::uint32_t i = 1; !over; ++i) {
      DecisionRow row = decision("web-0", i);
      std::memset(&row.value, static_cast<int>(i % 251), sizeof row.value);
      EXPECT_TRUE(written->put_decision(row).ok());
    }
  });
  auto read = PinnedMaps::open(folder->path());
  int halves = 0;
  for (int i = 0; i < 5'000; ++i) {
    const auto rows = read->decisions();
    for (const DecisionRow& row : *rows) {
      const auto* bytes = reinterpret_cast<const unsigned char*>(&row.value);
      halves += std::all_of(bytes, bytes + sizeof row.value, [&](unsigned char b) { return b == bytes[0]; })
                    ? 0
                    : 1;
    }
  }
  over = true;
  writer.join();
  EXPECT_EQ(halves, 0);
}

TEST(Maps, EveryLossReasonHasANameOfItsOwn) {
  std::set<std::string> names;
  for (int reason = 0; reason < BALLAST_LOSS_REASONS; ++reason) {
    names.insert(loss_reason_name(static_cast<ballast_loss_reason>(reason)));
  }
  EXPECT_EQ(names.size(), static_cast<std::size_t>(BALLAST_LOSS_REASONS));
  EXPECT_FALSE(names.contains("unknown"));
}

}  // namespace
}  // namespace ballast::sample
