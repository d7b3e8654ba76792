// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/gone.h"

#include <gtest/gtest.h>

#include <numeric>

namespace ballast::sample {
namespace {

using Ids = std::vector<CgroupId>;
constexpr MonotonicNs kStart = 1'000'000'000;

TEST(GoneCgroups, LastFiguresStayReadable) {
  GoneCgroups cgroups;
  EXPECT_EQ(cgroups.due({7}, kStart), Ids());
  EXPECT_EQ(cgroups.due({7, 8}, kStart + GoneCgroups::kForgetNs - 1), Ids());
  EXPECT_EQ(cgroups.due({7, 8}, kStart + GoneCgroups::kForgetNs), Ids({7}));
}

TEST(GoneCgroups, OneThatIsBackBeginsAnew) {
  GoneCgroups cgroups;
  cgroups.due({7}, kStart);
  cgroups.due({}, kStart + 1);
  EXPECT_EQ(cgroups.due({7}, kStart + GoneCgroups::kForgetNs), Ids());
}

TEST(GoneCgroups, InACrowdTheOldestMakeRoom) {
  GoneCgroups cgroups;
  Ids gone(GoneCgroups::kMost);
  std::iota(gone.begin(), gone.end(), 100);
  cgroups.due({3}, kStart);
  gone.insert(gone.begin(), {3, 5, 4});
  EXPECT_EQ(cgroups.due(gone, kStart + 1), Ids()) << "too young, crowd or not";
  EXPECT_EQ(cgroups.due(gone, kStart + GoneCgroups::kCrowdedNs), Ids({3}));
  EXPECT_EQ(cgroups.due(gone, kStart + GoneCgroups::kCrowdedNs + 1), Ids({3, 4, 5}))
      << "and no more than makes room";
}

}  // namespace
}  // namespace ballast::sample
