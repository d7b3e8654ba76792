// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/call_room.h"

#include <gtest/gtest.h>

#include <set>
#include <vector>

namespace ballast::sample {
namespace {

TEST(CallRoom, WhoCallsEverybodyLosesItsOldestEdgesAndNobodyElseDoes) {
  std::vector<CallRow> rows(120);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].key.cgroup_id = i < 100 ? 1 : 2;
    rows[i].key.port = static_cast<__ballast_u16>(i);
    rows[i].value.last_seen_ns = 1000 + i;
  }
  std::set<int> ports;
  for (const ballast_call_key& key : crowding_calls(rows, 30)) {
    EXPECT_EQ(key.cgroup_id, 1U);
    ports.insert(key.port);
  }
  ASSERT_EQ(ports.size(), 70U);
  EXPECT_EQ(*ports.rbegin(), 69) << "the latest stay";
}

}  // namespace
}  // namespace ballast::sample
