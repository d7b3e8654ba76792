// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/actuate/istio/plan.h"
#include "agent/actuate/istio/writer.h"

namespace ballast::actuate::istio {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

kube::Endpoint endpoint(const std::string& address, bool ready = true) {
  return {.address = address,
          .pod = "p" + address,
          .uid = "u" + address,
          .node = "n1",
          .ready = ready,
          .ports = {{"http", 8080}, {"grpc", 9090}}};
}

kube::Service web() {
  kube::Service service;
  service.ns = "shop";
  service.name = "web";
  service.uid = "s1";
  service.mode = "active";
  service.type = "ClusterIP";
  service.ports = {{"http", 80, "TCP", ""}, {"grpc", 90, "TCP", ""}};
  service.endpoints = {endpoint("10.0.0.1"), endpoint("10.0.0.2", false), endpoint("10.0.0.3")};
  return service;
}

std::string reason(const kube::Service& service,
                   const std::vector<ConflictingRoute>& conflicting_routes = {}) {
  const auto refusal = judge(service, conflicting_routes, "cluster.local");
  return refusal ? refusal->reason : "";
}

TEST(Endpoints, OnlyReadyOnesWithTheirWeightsAndWhatTheirPodsBring) {
  Facts facts;
  facts.pods["u10.0.0.1"] = {{{"app", "web"}, {"security.istio.io/tlsMode", "istio"}}, "web-account"};
  facts.localities["n1"] = "r/z";
  const Json list = endpoints_json(web(), {{"10.0.0.1", 1700}}, facts);
  ASSERT_THAT(list, SizeIs(2));
  EXPECT_EQ(list[0], (Json{{"address", "10.0.0.1"},
                           {"weight", 1700},
                           {"ports", {{"http", 8080}, {"grpc", 9090}}},
                           {"labels", {{"app", "web"}, {"security.istio.io/tlsMode", "istio"}}},
                           {"serviceAccount", "web-account"},
                           {"locality", "r/z"}}));
  EXPECT_EQ(list[1]["weight"], 1000) << "unknown to the loop: a fair share";
}

TEST(Endpoints, AWeightIsNeverZero) {
  EXPECT_EQ(endpoints_json(web(), {{"10.0.0.1", 0}}, {})[0]["weight"], 1);
}

TEST(Objects, LeadFromTheServiceToItsShadowPortByPort) {
  const Json route = virtual_service(web(), "cluster.local");
  EXPECT_EQ(route["spec"]["hosts"], Json::array({"web.shop.svc.cluster.local"}));
  ASSERT_THAT(route["spec"]["http"], SizeIs(2));
  EXPECT_EQ(route["spec"]["http"][1]["match"][0]["port"], 90);
  EXPECT_EQ(route["spec"]["http"][1]["route"][0]["destination"],
            (Json{{"host", "web.shop.ballast.internal"}, {"port", {{"number", 90}}}}));
  const Json entry = service_entry(web(), Json::array());
  EXPECT_EQ(entry["spec"]["hosts"], Json::array({"web.shop.ballast.internal"}));
  EXPECT_EQ(entry["spec"]["resolution"], "STATIC");
  EXPECT_EQ(entry["spec"]["ports"][1], (Json{{"number", 90}, {"name", "grpc"}, {"protocol", "GRPC"}}));
  EXPECT_EQ(entry["metadata"]["ownerReferences"][0]["uid"], "s1");
  EXPECT_EQ(entry["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"], "disabled");
}

TEST(Objects, AreSeenWhereTheServiceIsAndStayInItsZone) {
  kube::Service service = web();
  EXPECT_FALSE(service_entry(service, Json::array())["spec"].contains("exportTo"));
  service.export_to = {".", "front"};
  service.zone_local = true;
  const Json entry = service_entry(service, Json::array());
  EXPECT_EQ(entry["spec"]["exportTo"], (Json{".", "front"}));
  EXPECT_EQ(entry["metadata"]["annotations"]["networking.istio.io/traffic-distribution"], "PreferClose");
  EXPECT_EQ(virtual_service(service, "cluster.local")["spec"]["exportTo"], (Json{".", "front"}));
}

TEST(Judge, TakesAWholesomeService) {
  EXPECT_EQ(reason(web()), "");
  kube::Service shadow = web();
  shadow.mode = "shadow";
  EXPECT_EQ(reason(shadow), "");
  shadow.ports = {
      {"grpc-web-api", 80, "TCP", ""}, {"x", 81, "TCP", "kubernetes.io/h2c"}, {"http2-a", 82, "TCP", ""}};
  EXPECT_EQ(reason(shadow), "");
}

TEST(Judge, RefusesWhatItCannotKeepWhole) {
  kube::Service service = web();
  service.mode = "Active";
  EXPECT_EQ(reason(service), "BadMode");
  service = web();
  service.type = "ExternalName";
  EXPECT_EQ(reason(service), "ExternalName");
  service = web();
  service.headless = true;
  EXPECT_EQ(reason(service), "Headless");
  service = web();
  service.node_local = true;
  EXPECT_EQ(reason(service), "NodeLocal");
  service = web();
  service.ports.clear();
  EXPECT_EQ(reason(service), "NoPorts");
  for (const kube::ServicePort& odd : {kube::ServicePort{"dns", 53, "UDP", ""},
                                       {"mysql", 3306, "TCP", ""},
                                       {"", 80, "TCP", ""},
                                       {"httpx", 80, "TCP", ""},
                                       {"http", 80, "TCP", "tcp"}}) {
    service = web();
    service.ports.push_back(odd);
    EXPECT_EQ(reason(service), "MixedProtocols") << odd.name << odd.protocol << odd.app_protocol;
  }
}

TEST(Judge, RefusesASecondOwnerOfTheHost) {
  for (const char* host :
       {"web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "*", "*.cluster.local"}) {
    EXPECT_EQ(reason(web(), {{"VirtualService", "shop", "mine", {host}}}), "TwoOwners") << host;
  }
  for (const char* host : {"api", "web.other", "web.shop.svc.other.domain", "*.example.com", ""}) {
    EXPECT_EQ(reason(web(), {{"DestinationRule", "shop", "mine", {host}}}), "") << host;
  }
  EXPECT_EQ(reason(web(), {{"VirtualService", "other", "theirs", {"web"}}}), "")
      << "a short name of another namespace";
  const auto refusal = judge(web(), {{"VirtualService", "shop", "mine", {"web"}}}, "cluster.local");
  EXPECT_THAT(refusal->message, HasSubstr("shop/mine"));
}

TEST(ConflictingRoutes, AreNotOursAndNotOfGatewaysAlone) {
  Json object = {{"metadata", {{"namespace", "shop"}, {"name", "v"}}}, {"spec", {{"hosts", {"web"}}}}};
  ASSERT_TRUE(parse_conflicting_route("VirtualService", object));
  EXPECT_EQ(parse_conflicting_route("VirtualService", object)->hosts, std::vector<std::string>{"web"});
  object["spec"]["gateways"] = {"edge"};
  EXPECT_FALSE(parse_conflicting_route("VirtualService", object));
  object["spec"]["gateways"] = {"edge", "mesh"};
  EXPECT_TRUE(parse_conflicting_route("VirtualService", object));
  object["metadata"]["labels"][kManagedByLabel] = kManagedBy;
  EXPECT_FALSE(parse_conflicting_route("VirtualService", object));
  EXPECT_TRUE(parse_conflicting_route("DestinationRule", Json{{"spec", 3}})) << "garbage is survived";
}

TEST(Released, ReadsTheAnnotation) {
  EXPECT_EQ(released(Json{{kReleasedAnnotation, "shop/web,,a/b"}}),
            (std::set<std::string>{"a/b", "shop/web"}));
  EXPECT_TRUE(released(Json()).empty());
}

}  // namespace
}  // namespace ballast::actuate::istio
