// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "agent/actuate/istio/istiod_probe.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/service/discovery/v3/discovery.grpc.pb.h"

namespace ballast::actuate::istio {

/// Answers every question for a cluster with the endpoints that it has, in their order.
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
  }
  std::string id() const {
    const std::lock_guard lock(mutex_);
    return id_;
  }
  grpc::Status StreamAggregatedResources(grpc::ServerContext*,
                                         grpc::ServerReaderWriter<Response, Request>* stream) override {
    Request request;
    while (stream->Read(&request)) {
      Response response;
      envoy::config::endpoint::v3::ClusterLoadAssignment assignment;
      assignment.set_cluster_name(request.resource_names(0));
      auto* locality = assignment.add_endpoints();
      {
        const std::lock_guard lock(mutex_);
        id_ = request.node().id();
        for (const ProbedEndpoint& one : endpoints_) {
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

 private:
  mutable std::mutex mutex_;
  std::vector<ProbedEndpoint> endpoints_;
  std::string id_;
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace ballast::actuate::istio
