// SPDX-License-Identifier: Apache-2.0
// Pods that call each other on one node: which of their calls count as what was seen of whom.
#include "agent/observe/callers.h"

#include <gtest/gtest.h>

namespace ballast::observe {
namespace {

constexpr std::uint64_t kWeb = 1;
constexpr std::uint64_t kWebSidecar = 2;
constexpr std::uint64_t kShop = 3;
const spec::EndpointId kId{{"shop", "web"}, "web-0"};

identity::Pod pod(std::uint64_t cgroup, const std::string& name, const std::string& container,
                  const std::string& service = "") {
  return {.cgroup_id = cgroup,
          .cgroup = "/" + name,
          .pod = name,
          .ns = "shop",
          .container = container,
          .service = service,
          .address = "10.0.0.1",
          .port = 80};
}

sample::CallRow row(std::uint64_t caller, std::uint64_t answers, std::uint8_t last = 1,
                    std::uint16_t port = 80) {
  sample::CallRow row;
  row.key.cgroup_id = caller;
  row.key.port = port;
  row.key.peer[10] = row.key.peer[11] = 0xff;
  row.key.peer[12] = 10;
  row.key.peer[15] = last;
  row.value.responses = row.value.first_byte.count = answers;
  row.value.first_byte.buckets[40] = answers;
  return row;
}

Callers planned() {
  Callers callers;
  callers.plan({pod(kWeb, "web-0", "web", "web"), pod(kWebSidecar, "web-0", "istio-proxy", "web"),
                pod(kShop, "cart-0", "cart")},
               {"istio-proxy"});
  return callers;
}

TEST(Callers, WhatCameSinceTheRowsBefore) {
  Callers callers = planned();
  EXPECT_TRUE(callers.update({row(kShop, 100)}).empty()) << "what was before nobody knows";
  const auto seen = callers.update({row(kShop, 130), row(77, 5), row(kShop, 50, 9), row(kShop, 50, 1, 81)});
  ASSERT_EQ(seen.size(), 1U);
  EXPECT_EQ(seen.at(kId).answers, 35U) << "a caller that is new, and no pod, counts; other addresses do not";
  EXPECT_EQ(seen.at(kId).first_byte.buckets[40], 35U);
  EXPECT_EQ(callers.update({row(kShop, 4)}).at(kId).answers, 0U) << "a map that was made anew";
  EXPECT_EQ(callers.update({row(kShop, 6)}).at(kId).answers, 2U);
}

TEST(Callers, ItselfIsNoCaller) {
  Callers callers = planned();
  callers.update({});
  EXPECT_EQ(callers.update({row(kWeb, 1000), row(kShop, 7)}).at(kId).answers, 7U);
}

// It has them of callers on any node, who are not to count again.
TEST(Callers, ItsSidecarIsTheOne) {
  Callers callers = planned();
  callers.update({});
  EXPECT_EQ(callers.update({row(kWebSidecar, 20), row(kShop, 7)}).at(kId).answers, 20U);
  EXPECT_EQ(callers.update({row(kWebSidecar, 50), row(kShop, 9)}).at(kId).answers, 30U);
}

}  // namespace
}  // namespace ballast::observe
