// SPDX-License-Identifier: Apache-2.0
//
// The ambient mesh, as far as its parts can be had here: an istiod that serves it, and an Envoy as the
// waypoint. ztunnel is no program here; what istiod tells it is asked for over its protocol.
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/impl/codegen/proto_utils.h>

#include <algorithm>
#include <cmath>

#include "envoy_delta.pb.h"
#include "istio/workload.pb.h"
#include "mesh_test.h"
#include "pilot_agent.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kWaypoint = "waypoint";
constexpr const char* kWaypointAddress = "10.77.0.4";
constexpr const char* kGateways = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/gateways";

/// What istiod tells a ztunnel of each pod and Service, by name; as bytes, so that nothing is overlooked.
std::map<std::string, std::string> told_to_ztunnel() {
  grpc::TemplatedGenericStub<DeltaDiscoveryRequest, DeltaDiscoveryResponse> stub(grpc::CreateChannel(
      std::string(kHost) + ":" + std::to_string(kIstiodPort), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + seconds(20));
  DeltaDiscoveryRequest request;
  request.mutable_node()->set_id("ztunnel~10.77.0.5~ztunnel-1.istio-system~istio-system.svc.cluster.local");
  auto& metadata = *request.mutable_node()->mutable_metadata()->mutable_fields();
  metadata["NAMESPACE"].set_string_value("istio-system");
  metadata["CLUSTER_ID"].set_string_value("Kubernetes");
  request.set_type_url("type.googleapis.com/istio.workload.Address");
  grpc::CompletionQueue queue;
  const auto done = [&] {
    void* tag = nullptr;
    bool ok = false;
    return queue.Next(&tag, &ok) && ok;
  };
  const auto stream = stub.PrepareCall(
      &context, "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources", &queue);
  stream->StartCall(nullptr);
  bool told = done();
  stream->Write(request, nullptr);
  told = done() && told;
  DeltaDiscoveryResponse response;
  stream->Read(&response, nullptr);
  told = done() && told;
  context.TryCancel();
  grpc::Status status;
  stream->Finish(&status, nullptr);
  done();
  EXPECT_TRUE(told) << "istiod tells ztunnel nothing: " << status.error_message();
  std::map<std::string, std::string> out;
  for (const auto& one : response.resources()) {
    out[one.name()] = one.resource().value();
  }
  return out;
}

class AmbientTest : public MeshTest {
 protected:
  /// An istiod that serves it, and signs certificates: a waypoint waits for its own.
  static void SetUpTestSuite() {
    start_signing_istiod({kWaypoint}, {"PILOT_ENABLE_AMBIENT=true",
                                       // What of it makes the waypoint's Deployment, and says how it is.
                                       "PILOT_ENABLE_GATEWAY_API_DEPLOYMENT_CONTROLLER=false",
                                       "PILOT_ENABLE_GATEWAY_API_STATUS=false"});
  }
  static void TearDownTestSuite() { stop_signing_istiod(); }
  void SetUp() override {
    auto why = missing();
    why = why ? why : missing_pilot_agent();
    if (why) {
      GTEST_SKIP() << "*** SKIPPED, no certificates to test with: " << *why;
    }
    ASSERT_NE(plane(), nullptr);
    node_ = std::make_unique<Node>(*plane(), "node-a");
    auto agent = PilotAgent::start(*plane(), kWaypoint, 15130);
    ASSERT_TRUE(agent.ok()) << agent.error().message;
    agent_ = std::move(*agent);
    auto proxy = Proxy::start(*plane(), agent_->socket());
    ASSERT_TRUE(proxy.ok()) << proxy.error().message;
    proxy_ = std::move(*proxy);
  }
  void TearDown() override {
    sink_.reset();
    waypoint_.reset();
    for (auto path = made_.rbegin(); path != made_.rend(); ++path) {
      plane()->status_of("DELETE", *path, {{"gracePeriodSeconds", 0}});
    }
    MeshTest::TearDown();
    agent_.reset();
  }
  void make(const std::string& collection, const Json& object) {
    plane()->must("POST", collection, object);
    made_.push_back(collection + "/" + kube::text_at(object, {"metadata", "name"}));
  }
  /// What Istio makes of a Gateway of the class istio-waypoint: the Gateway with its address, a Service, a
  /// pod.
  void make_waypoint() {
    const Json labels = {{"gateway.networking.k8s.io/gateway-name", kWaypoint},
                         {"gateway.istio.io/managed", "istio.io-mesh-controller"}};
    make(kGateways,
         {{"apiVersion", "gateway.networking.k8s.io/v1"},
          {"kind", "Gateway"},
          {"metadata", {{"name", kWaypoint}, {"labels", {{"istio.io/waypoint-for", "service"}}}}},
          {"spec",
           {{"gatewayClassName", "istio-waypoint"},
            {"listeners", Json::array({{{"name", "mesh"}, {"port", 15008}, {"protocol", "HBONE"}}})}}}});
    make("/api/v1/namespaces/shop/services",
         {{"metadata", {{"name", kWaypoint}, {"labels", labels}}},
          {"spec",
           {{"selector", {{"gateway.networking.k8s.io/gateway-name", kWaypoint}}},
            {"ports", Json::array({{{"name", "mesh"}, {"port", 15008}, {"appProtocol", "hbone"}}})}}}});
    make("/api/v1/namespaces/shop/pods",
         {{"metadata", {{"name", kWaypoint}, {"labels", labels}}},
          {"spec",
           {{"nodeName", node_->name()},
            {"serviceAccountName", kWaypoint},
            {"containers", Json::array({{{"name", "istio-proxy"}, {"image", "proxy"}}})}}}});
    plane()->must("PATCH", std::string("/api/v1/namespaces/shop/pods/") + kWaypoint + "/status",
                  {{"status",
                    {{"phase", "Running"},
                     {"podIP", kWaypointAddress},
                     {"podIPs", Json::array({{{"ip", kWaypointAddress}}})},
                     {"conditions", Json::array({{{"type", "Ready"}, {"status", "True"}}})}}}},
                  kube::kMergePatch);
    make("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
         {{"metadata", {{"name", "waypoint-1"}, {"labels", {{"kubernetes.io/service-name", kWaypoint}}}}},
          {"addressType", "IPv4"},
          {"ports", Json::array({{{"name", "mesh"}, {"port", 15008}, {"protocol", "TCP"}}})},
          {"endpoints",
           Json::array({{{"addresses", Json::array({kWaypointAddress})},
                         {"conditions", {{"ready", true}}},
                         {"targetRef", {{"kind", "Pod"}, {"namespace", "shop"}, {"name", kWaypoint}}}}})}});
    plane()->must("PATCH", std::string(kGateways) + "/" + kWaypoint + "/status",
                  {{"status",
                    {{"addresses",
                      Json::array({{{"type", "Hostname"}, {"value", "waypoint.shop.svc.cluster.local"}}})}}}},
                  kube::kMergePatch);
  }
  /// As Istio's CNI says it of a pod whose traffic it leads through ztunnel.
  void put_behind_ztunnel(const std::string& pod) {
    plane()->must("PATCH", "/api/v1/namespaces/shop/pods/" + pod,
                  {{"metadata", {{"annotations", {{"ambient.istio.io/redirection", "enabled"}}}}}},
                  kube::kMergePatch);
  }
  std::map<std::string, std::uint32_t> at_waypoint() {
    return waypoint_->weights_in(Proxy::waypoint_cluster(kWeb));
  }

  std::vector<std::string> made_;
  std::unique_ptr<PilotAgent> agent_;
  std::unique_ptr<Proxy> waypoint_;
};

/// ztunnel picks pods itself, where there is no waypoint. istiod prunes what an entry of a Service's own host
/// says before it tells ztunnel: no weight arrives, and nothing else changes.
TEST_F(AmbientTest, ZtunnelIsToldNothingOfTheWeightsAndNothingElseThanBefore) {
  start_web(3);
  put_behind_ztunnel(node_->pods()[0]);  // and not all, so that the Service is weighed for the others
  const auto known = [&](const std::map<std::string, std::string>& told) {
    int workloads = 0;
    int tunnelled = 0;
    int services = 0;
    for (const auto& [name, bytes] : told) {
      istio::workload::Address address;
      EXPECT_TRUE(address.ParseFromString(bytes));
      if (address.has_workload() && address.workload().name().starts_with("web-")) {
        ++workloads;
        tunnelled += address.workload().tunnel_protocol() == istio::workload::HBONE ? 1 : 0;
        EXPECT_FALSE(address.workload().has_capacity()) << address.workload().uid();
      }
      services += address.has_service() && address.service().hostname() == kWeb ? 1 : 0;
    }
    return workloads == 3 && tunnelled == 1 && services == 1;
  };
  std::map<std::string, std::string> before;
  ASSERT_TRUE(eventually([&] { return known(before = told_to_ztunnel()); }, seconds(30), milliseconds(200)));
  sink_ = make_sink("a");
  const auto guarded = weights({4, 2, 1});
  ASSERT_TRUE(sink_->publish(guarded).ok());
  ASSERT_TRUE(eventually([&] { return proxy_->weights(kWeb) == expected(guarded); })) << "at a sidecar";
  std::this_thread::sleep_for(seconds(1));  // ztunnel is told by another way than Envoys are
  const auto with = told_to_ztunnel();
  EXPECT_TRUE(known(with));
  EXPECT_EQ(with, before);
  std::printf("told to ztunnel: %zu pods and Services, the same without and with weights\n", with.size());
}

/// At a waypoint the weights take as at a sidecar: its clusters' endpoints alone move.
TEST_F(AmbientTest, AWaypointSplitsByTheWeights) {
  start_web(3);
  plane()->must("PATCH", "/api/v1/namespaces/shop/services/web",
                {{"metadata", {{"labels", {{"istio.io/use-waypoint", kWaypoint}}}}}}, kube::kMergePatch);
  make_waypoint();
  auto waypoint = Proxy::start_waypoint(*plane(), kWaypoint, kWaypointAddress, kWeb, agent_->socket());
  ASSERT_TRUE(waypoint.ok()) << waypoint.error().message;
  waypoint_ = std::move(*waypoint);
  ASSERT_TRUE(eventually([&] { return at_waypoint().size() == 3; }));
  for (const auto& [address, weight] : at_waypoint()) {
    EXPECT_EQ(weight, 1U) << address;
  }
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb, Proxy::kWaypointPort) == 200; }));
  const auto config = waypoint_->everything();
  const auto refused = waypoint_->refused_listeners();
  EXPECT_GT(config.size() + refused.size(), 3U);

  sink_ = make_sink("a");
  const auto guarded = weights({4, 2, 1});
  ASSERT_TRUE(sink_->publish(guarded).ok());
  ASSERT_TRUE(eventually([&] { return at_waypoint() == expected(guarded); }));
  EXPECT_THAT(reasons("web"), testing::Contains("Managed"));
  EXPECT_THAT(reasons("web"), testing::Not(testing::Contains("Ambient")));
  std::this_thread::sleep_for(seconds(1));
  EXPECT_EQ(waypoint_->everything(), config);
  EXPECT_EQ(waypoint_->refused_listeners(), refused);
  const auto before = waypoint_->requests_in(Proxy::waypoint_cluster(kWeb));
  constexpr int kRequests = 700;
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_EQ(proxy_->get(kWeb, Proxy::kWaypointPort), 200);
  }
  const auto after = waypoint_->requests_in(Proxy::waypoint_cluster(kWeb));
  double sum = 0;
  for (const auto& endpoint : guarded.endpoints()) {
    sum += endpoint.weight;
  }
  for (const auto& endpoint : guarded.endpoints()) {
    const double share = endpoint.weight / sum;
    const auto got = static_cast<double>(after.at(endpoint.address) - before.at(endpoint.address));
    std::printf("waypoint: %s of weight %u has %.0f of %d requests\n", endpoint.address.c_str(),
                endpoint.weight, got, kRequests);
    EXPECT_NEAR(got, share * kRequests, 2.576 * std::sqrt(kRequests * share * (1 - share)) + 1);
  }

  // Pods behind ztunnel are reached through its tunnel, by the same weights; that it is the namespace now
  // that names the waypoint changes nothing.
  const std::string shop = "/api/v1/namespaces/shop";
  const auto name_at = [&](const std::string& object, const Json& named) {
    plane()->must("PATCH", object, {{"metadata", {{"labels", {{"istio.io/use-waypoint", named}}}}}},
                  kube::kMergePatch);
  };
  name_at(shop, kWaypoint);
  name_at(shop + "/services/web", nullptr);
  for (const std::string& pod : node_->pods()) {
    put_behind_ztunnel(pod);
  }
  const auto tunnelled = [&] {
    const auto status = proxy_->get(kWeb, Proxy::kWaypointPort);
    return status != 0 && status != 200;  // nobody is at the tunnel's end here
  };
  EXPECT_TRUE(eventually([&] { return tunnelled() && at_waypoint() == expected(guarded); }));
  std::this_thread::sleep_for(seconds(2));  // for who would take them out for it
  EXPECT_THAT(reasons("web"), testing::Not(testing::Contains("Ambient")));
  EXPECT_EQ(at_waypoint(), expected(guarded));
  name_at(shop, nullptr);
  EXPECT_TRUE(eventually([&] {
    const auto said = reasons("web");
    return std::find(said.begin(), said.end(), "Ambient") != said.end() && entry_status() == 404;
  })) << "behind ztunnel, and without a waypoint";
  name_at(shop, kWaypoint);
  EXPECT_TRUE(eventually([&] { return at_waypoint() == expected(guarded); })) << "and with one again";

  sink_->flush();
  EXPECT_TRUE(eventually([&] {
    const auto now = at_waypoint();
    return now.size() == 3 &&
           std::all_of(now.begin(), now.end(), [](const auto& one) { return one.second == 1; });
  }));
  name_at(shop, nullptr);
}

}  // namespace
}  // namespace ballast::mesh
