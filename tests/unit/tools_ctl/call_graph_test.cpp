// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/call_graph.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace ballast::ctl {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

CallEdge edge(const std::string& from, const std::string& to, std::uint64_t waited) {
  CallEdge one;
  one.from = from;
  one.to = to;
  one.value.first_byte.sum_ns = waited;
  return one;
}

TEST(BottleneckPath, FollowsTheLongestWaiting) {
  const std::vector<CallEdge> edges = {edge("web", "cart", 50), edge("web", "ads", 900),
                                       edge("cart", "db", 40), edge("ads", "cache", 5),
                                       edge("ads", "model", 800)};
  EXPECT_THAT(bottleneck_path(edges), ElementsAre(1, 4));
}

TEST(BottleneckPath, EndsInACircle) {
  const std::vector<CallEdge> edges = {edge("a", "b", 10), edge("b", "a", 20)};
  EXPECT_THAT(bottleneck_path(edges), ElementsAre(1, 0));
  EXPECT_THAT(bottleneck_path({}), IsEmpty());
  const std::vector<CallEdge> self = {edge("a", "a", 10)};
  EXPECT_THAT(bottleneck_path(self), ElementsAre(0));
}

TEST(CallEdges, PeersAreNamedByTheirVeryAddress) {
  sample::CallRow v4;
  v4.key.cgroup_id = 7;
  v4.key.peer[10] = v4.key.peer[11] = 0xff;
  v4.key.peer[12] = 10;
  v4.key.peer[15] = 9;
  v4.key.port = 8080;
  v4.value.responses = 5;
  sample::CallRow v6;
  v6.key.cgroup_id = 8;
  v6.key.peer[15] = 1;
  v6.key.port = 53;
  ballast_identity_value caller{};
  std::string("web-0").copy(caller.pod, sizeof caller.pod - 1);
  std::string("shop").copy(caller.ns, sizeof caller.ns - 1);
  Names names({{7, caller}}, "");
  const std::vector<sample::PodAddress> pods = {{"10.0.0.9:8080", "shop", "cart", "cart-0"},
                                                {"[::1]:54", "shop", "dns", "dns-0"}};
  const auto edges = call_edges({v6, v4}, pods, names);
  ASSERT_EQ(edges.size(), 2U);
  EXPECT_EQ(edges[0].from, "shop/web-0");
  EXPECT_EQ(edges[0].to, "shop/cart-0");
  EXPECT_EQ(edges[0].peer.service, "cart");
  EXPECT_EQ(edges[1].to, "[::1]:53") << "another port is another peer";
}

}  // namespace
}  // namespace ballast::ctl
