// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/membership.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ballast::loop {
namespace {

using ::testing::ElementsAre;

identity::Pod pod(const std::string& service, const std::string& name, std::uint64_t cgroup,
                  bool local = true) {
  return {.cgroup_id = cgroup, .pod = name, .ns = "shop", .service = service, .local = local};
}

spec::EndpointTelemetry endpoint(const std::string& service, const std::string& name) {
  return {.id = {{"shop", service}, name}};
}

std::vector<std::string> names(const std::vector<spec::EndpointTelemetry>& endpoints) {
  std::vector<std::string> out;
  for (const auto& e : endpoints) {
    out.push_back(e.id.service.name + "/" + e.id.pod);
  }
  return out;
}

TEST(Members, APodThatIsGoneIsLeftOut) {
  EXPECT_THAT(
      names(members({endpoint("web", "a"), endpoint("web", "b")}, {pod("web", "a", 7), pod("web", "b", 0)})),
      ElementsAre("web/a"));
}

TEST(Members, AServiceThatIsGoneKeepsAll) {
  EXPECT_THAT(names(members({endpoint("api", "x"), endpoint("web", "a"), endpoint("web", "b")},
                            {pod("api", "x", 3), pod("web", "a", 0), pod("web", "b", 0)})),
              ElementsAre("api/x", "web/a", "web/b"));
}

TEST(Members, EndpointsElsewhereStayAndCountAsThere) {
  EXPECT_THAT(names(members({endpoint("web", "far"), endpoint("web", "near")},
                            {pod("web", "far", 0, false), pod("web", "near", 0)})),
              ElementsAre("web/far"));
}

TEST(Members, OneContainerAliveKeepsThePod) {
  EXPECT_THAT(names(members({endpoint("web", "a"), endpoint("web", "b")},
                            {pod("web", "a", 0), pod("web", "a", 5), pod("web", "b", 9)})),
              ElementsAre("web/a", "web/b"));
}

}  // namespace
}  // namespace ballast::loop
