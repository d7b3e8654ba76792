// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/maps.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

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
