// SPDX-License-Identifier: Apache-2.0
//
// Weights of versions: the Service's own subsets, by the route weights of a VirtualService.
#include <cmath>

#include "mesh_test.h"

namespace ballast::mesh {
namespace {

const std::string kRules = "/apis/networking.istio.io/v1/namespaces/shop/destinationrules";

TEST_F(MeshTest, VersionsAreWeighedByTheirRoute) {
  node_->add_service("web", "active");
  plane()->must("PATCH", "/api/v1/namespaces/shop/services/web",
                {{"metadata", {{"annotations", {{"ballast.dev/by", "subset"}}}}}}, kube::kMergePatch);
  node_->add_pod("web", {.cpus = 0});
  node_->add_pod("web", {.cpus = 0});
  node_->add_pod("web", {.cpus = 0, .labels = {{"version", "v2"}}});
  Json subsets = Json::array();
  for (const char* version : {"v1", "v2"}) {
    subsets.push_back({{"name", version}, {"labels", {{"version", version}}}});
  }
  plane()->must("POST", kRules,
                {{"apiVersion", "networking.istio.io/v1"},
                 {"kind", "DestinationRule"},
                 {"metadata", {{"name", "users-own"}}},
                 {"spec", {{"host", "web"}, {"subsets", subsets}}}});
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({2, 1, 1})).ok());
  ASSERT_TRUE(eventually([&] { return route_status() == 200; }));
  EXPECT_EQ(entry_status(), 404) << "no shadow";
  ASSERT_TRUE(eventually([&] { return proxy_->routed_to(kWeb).empty() && proxy_->get(kWeb) == 200; }))
      << "routed to two clusters instead of one";
  const auto count = [&](const std::string& version) {
    std::uint64_t sum = 0;
    for (const auto& [address, requests] : proxy_->requests(kWeb, 80, version)) {
      sum += requests;
    }
    return static_cast<double>(sum);
  };
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200 && count("v1") > 0; }));
  const double v1 = count("v1");
  const double v2 = count("v2");
  constexpr int kRequests = 400;
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_EQ(proxy_->get(kWeb), 200);
  }
  std::printf("versions weighed 3:1 by their pods' weights: %.0f and %.0f of %d requests\n", count("v1") - v1,
              count("v2") - v2, kRequests);
  const double bound = 2.576 * std::sqrt(kRequests * 0.75 * 0.25) + 1;
  EXPECT_NEAR(count("v1") - v1, 0.75 * kRequests, bound);
  EXPECT_EQ(count("v1") - v1 + count("v2") - v2, kRequests);

  sink_->flush();
  EXPECT_EQ(route_status(), 404);
  EXPECT_TRUE(eventually([&] { return plain(); }));
  plane()->status_of("DELETE", kRules);
}

}  // namespace
}  // namespace ballast::mesh
