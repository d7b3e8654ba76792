// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "agent/actuate/istio/istio_sink.h"
#include "agent/actuate/istio/istiod_probe.h"
#include "agent/guard/guard.h"
#include "control_plane.h"
#include "node.h"
#include "proxy.h"

namespace ballast::mesh {

inline const std::string kWeb = "web.shop.svc.cluster.local";
inline const std::string kShadow = "web.shop.ballast.internal";

inline double quantile(std::vector<double> values, double q) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0
                        : values[static_cast<std::size_t>(q * static_cast<double>(values.size() - 1) + 0.5)];
}

/// A node, a Service `web` that opted in, an Envoy as its client.
class MeshTest : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto why = missing()) {
      GTEST_SKIP() << "*** SKIPPED, no control plane to test against: " << *why;
    }
    ASSERT_NE(plane(), nullptr);
    node_ = std::make_unique<Node>(*plane(), "node-a");
    auto proxy = Proxy::start(*plane());
    ASSERT_TRUE(proxy.ok()) << proxy.error().message;
    proxy_ = std::move(*proxy);
  }
  void TearDown() override {
    sink_.reset();
    proxy_.reset();
    node_.reset();
    if (!IsSkipped() && plane() != nullptr) {
      for (const char* kind : {"virtualservices", "serviceentries"}) {
        const std::string all = std::string("/apis/networking.istio.io/v1/namespaces/shop/") + kind;
        // An API server that is slow may answer before it has deleted, and the next test find what is going.
        EXPECT_TRUE(eventually([&] {
          plane()->status_of("DELETE", all);
          return kube::at(plane()->must("GET", all), {"items"}).empty();
        }));
      }
      plane()->status_of("DELETE", kMergeWindow);
      plane()->status_of("DELETE", kLease);
      plane()->status_of("DELETE", "/api/v1/namespaces/shop/events");
    }
  }

  static constexpr const char* kMergeWindow =
      "/apis/networking.istio.io/v1alpha3/namespaces/istio-system/envoyfilters/ballast-merge-window";
  static constexpr const char* kLease =
      "/apis/coordination.k8s.io/v1/namespaces/ballast-system/leases/ballast-leader";

  std::unique_ptr<actuate::IstioSink> make_sink(
      const std::string& holder, bool active = true, int lease_s = 4, bool fast = false,
      std::chrono::milliseconds look_pause = std::chrono::seconds(1)) {
    actuate::IstioOptions options;
    options.api = plane()->options(plane()->admin_token());
    options.api.retry_budget = std::chrono::milliseconds(2000);
    options.lease.holder = holder;
    options.lease.duration_s = lease_s;
    options.active = active;
    options.istio_fast = fast;
    options.look_pause = look_pause;
    options.istiod = std::string(kHost) + ":" + std::to_string(kIstiodPort);
    auto sink = actuate::IstioSink::create(std::move(options));
    EXPECT_TRUE(sink.ok());
    return sink ? std::move(*sink) : nullptr;
  }
  void start_web(int pods, const PodOptions& options = {.cpus = 0}) {
    node_->add_service("web", "active");
    for (int i = 0; i < pods; ++i) {
      node_->add_pod("web", options);
    }
  }
  /// Guarded weights with these shares, in the order of the node's pods.
  guard::GuardedWeights weights(const std::vector<double>& shares) {
    std::vector<std::string> addresses;
    for (const auto& pod : node_->pods()) {
      addresses.push_back(node_->address(pod));
    }
    return weights_of("web", addresses, shares);
  }
  static guard::GuardedWeights weights_of(const std::string& service,
                                          const std::vector<std::string>& addresses,
                                          const std::vector<double>& shares) {
    guard::GuardOptions options;
    options.mode = guard::Mode::kActive;
    options.floor = 0.01;
    options.cap = 100;
    options.max_step = 10;
    options.deadband = 0;
    guard::Guard guard(options);
    double sum = 0;
    for (const double share : shares) {
      sum += share;
    }
    guard::ServiceView view{.service = {"shop", service}, .neutral = false};
    for (std::size_t i = 0; i < shares.size() && i < addresses.size(); ++i) {
      guard::EndpointView endpoint;
      endpoint.id = {view.service, "pod-" + addresses[i]};
      endpoint.address = addresses[i];
      endpoint.port = 8080;
      endpoint.known = true;
      endpoint.share = shares[i] / sum;
      view.endpoints.push_back(endpoint);
    }
    guard.apply(view, 1'000'000'000ULL);
    return guard.apply(view, 2'000'000'000ULL);
  }
  /// What Envoy should have for them.
  std::map<std::string, std::uint32_t> expected(const guard::GuardedWeights& guarded) {
    std::map<std::string, std::uint32_t> out;
    for (const auto& endpoint : guarded.endpoints()) {
      out[endpoint.address] = endpoint.weight;
    }
    return out;
  }
  /// Are there endpoints in the cluster of a Service's own host, and does this hold for each one's weight?
  template <typename Is>
  static bool each_weight(const Proxy& proxy, const std::string& host, Is is) {
    const auto weights = proxy.weights(host);
    return !weights.empty() &&
           std::all_of(weights.begin(), weights.end(), [&](const auto& one) { return is(one.second); });
  }
  bool weighted() {
    return each_weight(*proxy_, kWeb, [](std::uint32_t weight) { return weight > 1; });
  }
  /// As istiod has it of a Service: all alike.
  static bool plain(const Proxy& proxy, const std::string& host) {
    return each_weight(proxy, host, [](std::uint32_t weight) { return weight == 1; });
  }
  bool plain() { return plain(*proxy_, kWeb); }
  bool routed_to_shadow() { return proxy_->routed_to(kWeb) == "outbound|80||" + kShadow; }
  long route_status() {
    return plane()->status_of("GET",
                              "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/web-ballast");
  }
  long entry_status() {
    return plane()->status_of("GET",
                              "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast");
  }
  /// Of our entry; empty where there is none.
  static std::string entry_uid() {
    const auto reply = plane()->admin().call(
        {.path = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast"});
    const Json object = reply ? reply->json() : Json();
    return kube::text_at(object, {"metadata", "uid"});
  }
  /// It is weighed, by an entry that stays: one as old as its Service is made anew.
  bool managed(const std::string& service = "web") {
    const auto said = reasons(service);
    return std::find(said.begin(), said.end(), "Managed") != said.end();
  }
  /// The endpoints that we wrote for a Service; null when there are none.
  static Json entry_endpoints(const std::string& service) {
    const auto reply = plane()->admin().call(
        {.path = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/" + service + "-ballast"});
    const Json object = reply ? reply->json() : Json();
    return kube::at(object, {"spec", "endpoints"});
  }
  /// Reasons of the Events at a Service.
  std::vector<std::string> reasons(const std::string& service) {
    std::vector<std::string> found;
    const Json events = plane()->must("GET", "/api/v1/namespaces/shop/events");
    for (const Json& event : kube::at(events, {"items"})) {
      if (kube::text_at(event, {"involvedObject", "name"}) == service) {
        found.push_back(kube::text_at(event, {"reason"}));
      }
    }
    return found;
  }
  /// The user's object as it is now, every field.
  Json service(const std::string& name = "web") {
    return plane()->must("GET", "/api/v1/namespaces/shop/services/" + name);
  }
  /// A figure for the report (tools/bench/mesh.sh), beside the line that is printed.
  static void figure(const std::string& name, double value) { RecordProperty(name, std::to_string(value)); }

  std::unique_ptr<Node> node_;
  std::unique_ptr<Proxy> proxy_;
  std::unique_ptr<actuate::IstioSink> sink_;
};

}  // namespace ballast::mesh
