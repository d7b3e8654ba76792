// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

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
          .node = std::string("n1"),
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
  service.ports = {{"http", 80, "TCP"}, {"grpc", 90, "TCP"}};
  service.endpoints = {endpoint("10.0.0.1"), endpoint("10.0.0.2", false), endpoint("10.0.0.3")};
  return service;
}

std::string reason(const kube::Service& service, const std::vector<ConflictingRoute>& conflicting_routes = {},
                   Way way = Way::kOwnHost) {
  const auto refusal = judge(service, way, conflicting_routes, "cluster.local");
  return refusal ? refusal->reason : "";
}

/// All pods are known: in the mesh, of one account, on a node of a region and zone.
Facts facts_of(const kube::Service& service) {
  Facts facts;
  for (const kube::Endpoint& one : service.endpoints) {
    facts.pods[pod_key(one)] = {{{"app", "web"}, {"security.istio.io/tlsMode", "istio"}},
                                std::string("web-account")};
    facts.localities[one.node] = "r/z/";
  }
  return facts;
}

std::map<std::string, Json> entries(const kube::Service& service, const Weights& weights = {},
                                    Way way = Way::kOwnHost) {
  return service_entries(service, way, weights, facts_of(service), {});
}
Json only_entry(const kube::Service& service, const Weights& weights = {}, Way way = Way::kOwnHost) {
  const auto all = entries(service, weights, way);
  EXPECT_EQ(all.size(), 1U);
  return all.begin()->second;
}

TEST(Endpoints, OnlyReadyOnesWithTheirWeightsAndWhatTheirPodsBring) {
  const Json list = only_entry(web(), {{{"10.0.0.1", 8080}, 1700}})["spec"]["endpoints"];
  ASSERT_THAT(list, SizeIs(2));
  EXPECT_EQ(
      list[0],
      (Json{{"address", "10.0.0.1"},
            {"weight", 1700},
            {"ports", {{"http", 8080}, {"grpc", 9090}}},
            {"labels",
             {{"app", "web"}, {"security.istio.io/tlsMode", "istio"}, {"kubernetes.io/hostname", "n1"}}},
            {"serviceAccount", "web-account"},
            {"locality", "r/z/"}}));
  EXPECT_EQ(list[1]["weight"], 1000) << "unknown to the loop: a fair share";
}

TEST(Endpoints, AWeightIsNeverZero) {
  EXPECT_EQ(only_entry(web(), {{{"10.0.0.1", 8080}, 0}})["spec"]["endpoints"][0]["weight"], 1);
}

TEST(Endpoints, WithoutAnIdentityThereIsNone) {
  kube::Service service = web();
  Facts facts = facts_of(service);
  facts.pods.erase("u10.0.0.1");
  auto all = service_entries(service, Way::kOwnHost, {}, facts, {});
  ASSERT_EQ(all.size(), 1U);
  EXPECT_THAT(all.begin()->second["spec"]["endpoints"], SizeIs(1));
  facts = facts_of(service);
  facts.localities.clear();
  EXPECT_TRUE(service_entries(service, Way::kOwnHost, {}, facts, {}).empty()) << "a locality is part of it";
}

TEST(Endpoints, APodOutsideTheMeshIsNotSpokenToByMtls) {
  kube::Service service = web();
  Facts facts = facts_of(service);
  facts.pods["u10.0.0.1"].labels = {{"app", "web"}};
  const Json list =
      service_entries(service, Way::kOwnHost, {}, facts, {}).begin()->second["spec"]["endpoints"];
  EXPECT_EQ(list[0]["labels"]["security.istio.io/tlsMode"], "disabled")
      << "istiod takes an account without the label for mTLS";
  EXPECT_EQ(list[0]["serviceAccount"], "web-account");
}

TEST(Endpoints, APodsOwnLocalityComesBeforeItsNodes) {
  kube::Service service = web();
  Facts facts = facts_of(service);
  facts.pods["u10.0.0.1"].labels = {{"app", "web"}, {"istio-locality", "a.b.c"}};
  const Json list =
      service_entries(service, Way::kOwnHost, {}, facts, {}).begin()->second["spec"]["endpoints"];
  EXPECT_FALSE(list[0].contains("locality")) << "istiod reads the label from the labels that we write";
}

TEST(Endpoints, AreAnAddressAndItsPorts) {
  kube::Service service = web();
  service.ports = {{"http", 80, "TCP"}};
  service.endpoints = {endpoint("192.0.2.5"), endpoint("192.0.2.5")};
  service.endpoints[0].ports = {{"http", 8080}};
  service.endpoints[1].ports = {{"http", 8081}};
  const Json list =
      only_entry(service, {{{"192.0.2.5", 8080}, 700}, {{"192.0.2.5", 8081}, 300}})["spec"]["endpoints"];
  ASSERT_THAT(list, SizeIs(2));
  EXPECT_EQ(list[0]["weight"], 700);
  EXPECT_EQ(list[1]["weight"], 300);
  EXPECT_EQ(list[1]["ports"]["http"], 8081);
}

TEST(Endpoints, ThatServeOtherPortsAreInAnotherEntry) {
  kube::Service service = web();
  service.endpoints[0].ports = {{"http", 8080}};
  service.endpoints[2].ports = {{"grpc", 9090}};
  const auto all = entries(service);
  ASSERT_EQ(all.size(), 2U);
  for (const auto& [name, port] : {std::pair("web-ballast.http", 80), std::pair("web-ballast.grpc", 90)}) {
    const Json& spec = all.at(name).at("spec");
    EXPECT_THAT(spec.at("ports"), SizeIs(1));
    EXPECT_EQ(spec.at("ports")[0].at("number"), port);
    EXPECT_THAT(spec.at("endpoints"), SizeIs(1));
  }
  service.endpoints[0].ports = {};
  EXPECT_EQ(entries(service).size(), 1U) << "who serves no port of the Service's is no endpoint of it";
}

TEST(Endpoints, OfWhateverPortsAreInEntriesOfDifferentNames) {
  kube::Service service = web();
  service.ports = {{"a", 1, "TCP"}, {"b", 2, "TCP"}, {"a-b", 3, "TCP"}, {"1", 4, "TCP"}, {"a-1", 5, "TCP"}};
  using Ports = std::map<std::string, int>;
  const std::vector<Ports> groups = {
      {{"a", 1}, {"b", 2}}, {{"a-b", 3}}, {{"1", 4}}, {{"a-1", 5}}, {{"a", 1}}};
  service.endpoints.clear();
  for (std::size_t i = 0; i < 5 * groups.size(); ++i) {
    service.endpoints.push_back(endpoint("10.0.0." + std::to_string(i + 1)));
    service.endpoints.back().ports = groups[i % groups.size()];
  }
  std::size_t written = 0;
  const PlanOptions in_parts{.entry_endpoints = 4};
  for (const auto& [name, entry] : service_entries(service, Way::kOwnHost, {}, facts_of(service), in_parts)) {
    written += entry.at("spec").at("endpoints").size();
  }
  EXPECT_EQ(written, service.endpoints.size());
}

TEST(Endpoints, ManyAreSplitAndStayWhereTheyAre) {
  kube::Service service = web();
  service.endpoints.clear();
  for (int i = 0; i < 2500; ++i) {
    service.endpoints.push_back(endpoint("10.1." + std::to_string(i / 250) + "." + std::to_string(i % 250)));
  }
  const auto before = entries(service);
  EXPECT_EQ(before.size(), 8U);
  std::size_t endpoints = 0;
  for (const auto& [name, object] : before) {
    EXPECT_LT(object.dump().size(), 400'000U) << "etcd takes 1.5 MB";
    endpoints += object["spec"]["endpoints"].size();
  }
  EXPECT_EQ(endpoints, 2500U);
  service.endpoints.erase(service.endpoints.begin());
  const auto after = entries(service);
  std::size_t changed = 0;
  for (const auto& [name, object] : after) {
    changed += object != before.at(name) ? 1 : 0;
  }
  EXPECT_EQ(changed, 1U) << "one pod, one write";
}

TEST(Weights, OfAServiceThatIsNotMeasuredAreThoseOfItsPods) {
  kube::Service second = web();
  second.name = "second";
  second.ports = {{"admin", 81, "TCP"}};
  for (kube::Endpoint& one : second.endpoints) {
    one.ports = {{"admin", 9999}};
  }
  const WeightsOfServices weights{{"shop/web", Weights{{{"10.0.0.1", 8080}, 1700}}}};
  const auto lent = lent_weights(second, weights);
  ASSERT_TRUE(lent);
  EXPECT_EQ(only_entry(second, *lent)["spec"]["endpoints"][0]["weight"], 1700);
  kube::Service elsewhere = second;
  elsewhere.ns = "other";
  EXPECT_FALSE(lent_weights(elsewhere, weights)) << "not over namespaces";
}

TEST(Objects, OfTheOwnHostSayAllThatIstiodKnowsOfTheService) {
  kube::Service service = web();
  service.ports = {{"http", 80, "TCP"}, {"grpc", 90, "TCP", "GRPC"}, {"db", 3306, "TCP"}, {"x", 81, "TCP"}};
  const Json entry = only_entry(service);
  EXPECT_EQ(entry["spec"]["hosts"], Json::array({"web.shop.svc.cluster.local"}));
  EXPECT_EQ(entry["spec"]["exportTo"], Json::array({"~"})) << "a Service of istiod's that no proxy sees";
  EXPECT_EQ(entry["metadata"]["labels"]["networking.istio.io/enable-autoallocate-ip"], "false");
  EXPECT_FALSE(entry["spec"].contains("addresses"));
  EXPECT_EQ(entry["spec"]["location"], "MESH_INTERNAL");
  EXPECT_EQ(entry["spec"]["resolution"], "STATIC");
  EXPECT_EQ(entry["spec"]["ports"][0], (Json{{"number", 80}, {"name", "http"}, {"protocol", "HTTP"}}));
  EXPECT_EQ(entry["metadata"]["annotations"]["kustomize.toolkit.fluxcd.io/reconcile"], "disabled");
}

TEST(Objects, BelongToWhatLetsUsWriteThem) {
  kube::Service service = web();
  const auto all = service_entries(service, Way::kOwnHost, {}, facts_of(service),
                                   {.lease = "ns.lease", .owner_name = "ballast-writer", .owner_uid = "r1"});
  const Json& metadata = all.begin()->second.at("metadata");
  EXPECT_EQ(metadata["ownerReferences"][0]["kind"], "ClusterRole");
  EXPECT_EQ(metadata["ownerReferences"][0]["uid"], "r1");
  EXPECT_EQ(metadata["labels"][kLeaseLabel], "ns.lease");
  EXPECT_FALSE(only_entry(service)["metadata"].contains("ownerReferences"));
}

TEST(Objects, LeadFromTheServiceToItsShadowPortByPort) {
  const Json route = virtual_service(web(), {});
  EXPECT_EQ(route["spec"]["hosts"], Json::array({"web.shop.svc.cluster.local"}));
  ASSERT_THAT(route["spec"]["http"], SizeIs(2));
  EXPECT_EQ(route["spec"]["http"][1]["match"][0]["port"], 90);
  EXPECT_EQ(route["spec"]["http"][1]["route"][0]["destination"],
            (Json{{"host", "web.shop.ballast.internal"}, {"port", {{"number", 90}}}}));
  const Json entry = only_entry(web(), {}, Way::kRoute);
  EXPECT_EQ(entry["spec"]["hosts"], Json::array({"web.shop.ballast.internal"}));
  EXPECT_FALSE(entry["spec"].contains("addresses"));
}

TEST(Objects, OfTheShadowAreSeenWhereTheServiceIsAndStayInItsZone) {
  kube::Service service = web();
  EXPECT_FALSE(only_entry(service, {}, Way::kRoute)["spec"].contains("exportTo"));
  service.export_to = {".", "front"};
  service.zone_local = true;
  const Json entry = only_entry(service, {}, Way::kRoute);
  EXPECT_EQ(entry["spec"]["exportTo"], (Json{".", "front"}));
  EXPECT_EQ(entry["metadata"]["annotations"]["networking.istio.io/traffic-distribution"], "PreferClose");
  EXPECT_EQ(virtual_service(service, {})["spec"]["exportTo"], (Json{".", "front"}));
}

/// istiod's own rule, protocol by protocol (its pkg/config/kube/conversion.go).
TEST(Ports, AreOfTheProtocolThatIstiodTakesThemFor) {
  const auto protocol = [](const kube::ServicePort& port) {
    kube::Service service = web();
    service.ports = {port};
    for (kube::Endpoint& one : service.endpoints) {
      one.ports = {{port.name, 8080}};
    }
    return kube::text_at(only_entry(service)["spec"]["ports"][0], {"protocol"});
  };
  EXPECT_EQ(protocol({"http-web", 80, "TCP"}), "HTTP");
  EXPECT_EQ(protocol({"web", 80, "TCP", "HTTP"}), "HTTP") << "without regard to case";
  EXPECT_EQ(protocol({"web", 80, "TCP", "http-foo"}), "HTTP") << "up to the dash, appProtocol too";
  EXPECT_EQ(protocol({"http", 80, "TCP", "tcp"}), "TCP") << "appProtocol comes first";
  EXPECT_EQ(protocol({"http", 80, "TCP", "unheard-of"}), "");
  EXPECT_EQ(protocol({"GRPC-Web-x", 80, "TCP"}), "GRPC-WEB");
  EXPECT_EQ(protocol({"x", 80, "TCP", "kubernetes.io/h2c"}), "HTTP2");
  EXPECT_EQ(protocol({"x", 80, "TCP", "kubernetes.io/ws"}), "HTTP");
  EXPECT_EQ(protocol({"x", 443, "TCP", "kubernetes.io/wss"}), "HTTPS");
  EXPECT_EQ(protocol({"x", 3306, "TCP"}), "TCP") << "a server that speaks first";
  EXPECT_EQ(protocol({"x", 53, "UDP"}), "UDP");
  EXPECT_EQ(protocol({"x", 80, "TCP"}), "") << "istiod looks at the bytes";
  EXPECT_EQ(protocol({"", 50051, "TCP", "grpc"}), "GRPC");
}

TEST(Ports, WithoutANameGoByRouteUnderAMadeOne) {
  kube::Service service = web();
  service.ports = {{"", 80, "TCP", "http"}};
  service.endpoints = {endpoint("10.0.0.1")};
  service.endpoints[0].ports = {{"", 8080}};
  EXPECT_EQ(way_of(service, true), Way::kRoute)
      << "istiod joins endpoints to ports by name, and ours needs one";
  const Json spec = only_entry(service, {}, Way::kRoute)["spec"];
  EXPECT_EQ(spec["ports"][0]["name"], "port-80");
  EXPECT_EQ(spec["endpoints"][0]["ports"]["port-80"], 8080);
}

TEST(Ways, AreTheOwnHostUnlessToldOrSeenOtherwise) {
  EXPECT_EQ(way_of(web(), true), Way::kOwnHost);
  EXPECT_EQ(way_of(web(), false), Way::kRoute);
  kube::Service service = web();
  service.by = "route";
  EXPECT_EQ(way_of(service, true), Way::kRoute);
  service.by = "subset";
  EXPECT_EQ(way_of(service, false), Way::kSubset);
}

TEST(Judge, TakesAWholesomeService) {
  EXPECT_EQ(reason(web()), "");
  kube::Service shadow = web();
  shadow.mode = "shadow";
  EXPECT_EQ(reason(shadow, {}, Way::kRoute), "");
  shadow.ports = {{"grpc-web-api", 80, "TCP"}, {"x", 81, "TCP", "kubernetes.io/h2c"}, {"http2-a", 82, "TCP"}};
  EXPECT_EQ(reason(shadow, {}, Way::kRoute), "");
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
  service = web();
  service.waypoint = "waypoint";
  EXPECT_EQ(reason(service, {}, Way::kRoute), "Ambient") << "it has no cluster of the shadow";
  EXPECT_EQ(reason(service, {}, Way::kSubset), "Ambient");
  EXPECT_EQ(reason(service), "") << "by its own host it takes, tests/mesh/ambient_test.cpp";
  for (const kube::ServicePort& odd : {kube::ServicePort{"dns", 53, "UDP"},
                                       {"mysql", 3306, "TCP"},
                                       {"https", 443, "TCP"},
                                       {"http", 80, "TCP", "tcp"}}) {
    service = web();
    service.ports.push_back(odd);
    EXPECT_EQ(reason(service, {}, Way::kRoute), "MixedProtocols") << odd.name << odd.protocol;
    EXPECT_EQ(reason(service), "") << "by its own host nothing is routed, whatever it speaks";
  }
}

TEST(Judge, RefusesASecondOwnerOfARouteAndOfNothingElse) {
  for (const char* host :
       {"web", "web.shop", "web.shop.svc", "web.shop.svc.cluster.local", "*", "*.cluster.local"}) {
    EXPECT_EQ(reason(web(), {{"VirtualService", "shop", "mine", {host}}}, Way::kRoute), "TwoOwners") << host;
    EXPECT_EQ(reason(web(), {{"VirtualService", "shop", "mine", {host}}}), "") << host;
    EXPECT_EQ(reason(web(), {{"DestinationRule", "shop", "mine", {host}}}), "") << host;
  }
  for (const char* host : {"api", "web.other", "web.shop.svc.other.domain", "*.example.com", ""}) {
    EXPECT_EQ(reason(web(), {{"DestinationRule", "shop", "mine", {host}}}, Way::kRoute), "") << host;
  }
  EXPECT_EQ(reason(web(), {{"VirtualService", "other", "theirs", {"web"}}}, Way::kRoute), "")
      << "a short name of another namespace";
  const auto refusal =
      judge(web(), Way::kRoute, {{"VirtualService", "shop", "mine", {"web"}}}, "cluster.local");
  EXPECT_THAT(refusal->message, HasSubstr("shop/mine"));
}

TEST(Judge, RefusesWhoseClientsAreKeptAtTheirPodsByAHash) {
  const Json hash = {{"loadBalancer", {{"consistentHash", {{"httpHeaderName", "x-user"}}}}}};
  Json rule = {{"metadata", {{"namespace", "shop"}, {"name", "sticky"}}}, {"spec", {{"host", "web"}}}};
  const auto judged = [&](Way way) {
    return reason(web(), {*parse_conflicting_route("DestinationRule", rule)}, way);
  };
  EXPECT_EQ(judged(Way::kOwnHost), "");
  const Json plain = rule;
  rule["spec"]["trafficPolicy"] = hash;
  for (const Way way : {Way::kOwnHost, Way::kRoute}) {
    EXPECT_EQ(judged(way), "ConsistentHash") << "each change of a weight would send clients to other pods";
  }
  rule = plain;
  rule["spec"]["trafficPolicy"]["portLevelSettings"] = Json::array({hash});
  EXPECT_EQ(judged(Way::kOwnHost), "ConsistentHash");
  rule = plain;
  rule["spec"]["subsets"] =
      Json::array({{{"name", "v1"}, {"labels", {{"version", "v1"}}}},
                   {{"name", "v2"}, {"labels", {{"version", "v2"}}}, {"trafficPolicy", hash}}});
  EXPECT_EQ(judged(Way::kOwnHost), "ConsistentHash");
  EXPECT_EQ(judged(Way::kSubset), "ConsistentHash");
  rule["spec"]["host"] = "*.other.svc.cluster.local";
  EXPECT_EQ(judged(Way::kOwnHost), "");
  rule["spec"]["host"] = "*.shop.svc.cluster.local";
  EXPECT_EQ(judged(Way::kOwnHost), "ConsistentHash");
  rule["spec"]["subsets"][1]["trafficPolicy"] = {{"loadBalancer", {{"simple", "LEAST_REQUEST"}}}};
  EXPECT_EQ(judged(Way::kOwnHost), "");
}

TEST(ConflictingRoutes, AreHttpRoutesWhoseParentIsTheService) {
  Json route = {
      {"metadata", {{"namespace", "shop"}, {"name", "canary"}}},
      {"spec", {{"parentRefs", Json::array({{{"group", ""}, {"kind", "Service"}, {"name", "web"}}})}}}};
  const auto seen = parse_conflicting_route("HTTPRoute", route);
  ASSERT_TRUE(seen);
  EXPECT_EQ(reason(web(), {*seen}, Way::kRoute), "TwoOwners");
  EXPECT_EQ(reason(web(), {*seen}), "");
  route["spec"]["parentRefs"][0]["kind"] = "Gateway";
  EXPECT_FALSE(parse_conflicting_route("HTTPRoute", route));
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

TEST(Subsets, OnlyOneThatHasAShareCanLackPods) {
  const std::vector<Subset> subsets = {{"v1", {{"app", "web"}}}, {"v2", {{"app", "new"}}}};
  EXPECT_TRUE(lacks_pods(web(), subsets, {{"v1", 60}, {"v2", 40}}, facts_of(web())));
  EXPECT_FALSE(lacks_pods(web(), subsets, {{"v1", 100}, {"v2", 0}}, facts_of(web())));
}

TEST(Released, ReadsTheAnnotation) {
  EXPECT_EQ(released(Json{{kReleasedAnnotation, "shop/web,,a/b"}}),
            (std::set<std::string>{"a/b", "shop/web"}));
  EXPECT_TRUE(released(Json()).empty());
}

}  // namespace
}  // namespace ballast::actuate::istio
