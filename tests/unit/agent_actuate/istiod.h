// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "agent/actuate/istio/istiod_probe.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/service/discovery/v3/discovery.grpc.pb.h"

namespace ballast::actuate::istio {

/// Answers every question for a cluster with the endpoints that it has, in their order, and again when they
/// change; and the question for all clusters with that cluster and its merge window.
class Istiod final : public envoy::service::discovery::v3::AggregatedDiscoveryService::Service {
  using Request = envoy::service::discovery::v3::DiscoveryRequest;
  using Response = envoy::service::discovery::v3::DiscoveryResponse;

 public:
  Istiod() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  void say(std::vector<ProbedEndpoint> endpoints) {
    const std::lock_guard lock(mutex_);
    endpoints_ = std::move(endpoints);
    ++version_;
  }
  /// Clusters whose names hold this have no endpoints; empty: none is hidden.
  void hide(std::string part) {
    const std::lock_guard lock(mutex_);
    hidden_ = std::move(part);
    ++version_;
  }
  /// No value: the cluster says nothing of it.
  void say_window(std::optional<double> seconds) {
    const std::lock_guard lock(mutex_);
    window_s_ = seconds;
  }
  std::string id() const {
    const std::lock_guard lock(mutex_);
    return id_;
  }
  grpc::Status StreamAggregatedResources(grpc::ServerContext* context,
                                         grpc::ServerReaderWriter<Response, Request>* stream) override {
    Request request;
    int told = 0;
    while (stream->Read(&request)) {
      Response response;
      response.set_nonce("n");
      if (request.type_url().ends_with("Cluster")) {
        ++windows_asked;
        if (request.response_nonce().empty()) {
          response.add_resources()->PackFrom(cluster());
          stream->Write(response);
        }
        continue;
      }
      // An acknowledgement is answered by what is new.
      while (!request.response_nonce().empty() && version() == told) {
        if (context->IsCancelled()) {
          return grpc::Status::OK;
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(2));
      }
      told = version();
      envoy::config::endpoint::v3::ClusterLoadAssignment assignment;
      assignment.set_cluster_name(request.resource_names(0));
      auto* locality = assignment.add_endpoints();
      {
        const std::lock_guard lock(mutex_);
        id_ = request.node().id();
        const bool hidden = !hidden_.empty() && request.resource_names(0).find(hidden_) != std::string::npos;
        for (const ProbedEndpoint& one : hidden ? std::vector<ProbedEndpoint>() : endpoints_) {
          auto* endpoint = locality->add_lb_endpoints();
          auto* socket = endpoint->mutable_endpoint()->mutable_address()->mutable_socket_address();
          socket->set_address(one.address);
          socket->set_port_value(one.port);
          endpoint->mutable_load_balancing_weight()->set_value(one.weight);
        }
      }
      response.add_resources()->PackFrom(assignment);
      ++asked;
      stream->Write(response);
    }
    return grpc::Status::OK;
  }

  std::atomic<int> asked{0};
  std::atomic<int> windows_asked{0};

 private:
  int version() const {
    const std::lock_guard lock(mutex_);
    return version_;
  }
  envoy::config::cluster::v3::Cluster cluster() const {
    const std::lock_guard lock(mutex_);
    envoy::config::cluster::v3::Cluster out;
    out.set_name("outbound|80||web.shop.svc.cluster.local");
    if (window_s_) {
      auto* window = out.mutable_common_lb_config()->mutable_update_merge_window();
      window->set_seconds(static_cast<int>(*window_s_));
      window->set_nanos(static_cast<int>((*window_s_ - static_cast<int>(*window_s_)) * 1e9));
    }
    return out;
  }
  mutable std::mutex mutex_;
  int version_ = 1;
  std::optional<double> window_s_;
  std::vector<ProbedEndpoint> endpoints_;
  std::string hidden_;
  std::string id_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace ballast::actuate::istio
