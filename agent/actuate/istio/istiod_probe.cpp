// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/istio/istiod_probe.h"

#include <fmt/format.h>
#include <google/protobuf/struct.pb.h>
#include <grpcpp/grpcpp.h>

#include <map>
#include <utility>

#include "core/base/log.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/service/discovery/v3/discovery.grpc.pb.h"

namespace ballast::actuate::istio {
namespace {

namespace discovery = envoy::service::discovery::v3;
using envoy::config::endpoint::v3::ClusterLoadAssignment;

constexpr int kMetadataField = 3;
constexpr const char* kEndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

}  // namespace

Result<std::vector<ProbedEndpoint>> ask_istiod(const std::string& istiod, const std::string& ns,
                                               const std::string& cluster,
                                               std::chrono::milliseconds timeout) {
  const auto channel = grpc::CreateChannel(istiod, grpc::InsecureChannelCredentials());
  const auto stub = discovery::AggregatedDiscoveryService::NewStub(channel);
  grpc::ClientContext context;
  context.set_deadline(std::chrono::system_clock::now() + timeout);
  const auto stream = stub->StreamAggregatedResources(&context);
  discovery::DiscoveryRequest request;
  // As pilot-agent says who its Envoy is; the address is nobody's.
  request.mutable_node()->set_id("sidecar~192.0.2.1~ballast-probe." + ns + "~" + ns + ".svc.cluster.local");
  google::protobuf::Struct metadata;
  (*metadata.mutable_fields())["NAMESPACE"].set_string_value(ns);
  (*metadata.mutable_fields())["CLUSTER_ID"].set_string_value("Kubernetes");
  // Node.metadata, which our part of Envoy's protocol leaves out.
  auto* node = request.mutable_node();
  node->GetReflection()->MutableUnknownFields(node)->AddLengthDelimited(kMetadataField,
                                                                        metadata.SerializeAsString());
  request.set_type_url(kEndpointType);
  request.add_resource_names(cluster);
  discovery::DiscoveryResponse response;
  const bool answered = stream->Write(request) && stream->Read(&response);
  stream->WritesDone();
  context.TryCancel();
  const grpc::Status ended = stream->Finish();
  if (!answered) {
    return Error::failed("istiod at " + istiod + " does not tell of " + cluster + ": " +
                         ended.error_message());
  }
  std::vector<ProbedEndpoint> out;
  for (const auto& resource : response.resources()) {
    ClusterLoadAssignment assignment;
    if (!resource.UnpackTo(&assignment) || assignment.cluster_name() != cluster) {
      continue;
    }
    for (const auto& locality : assignment.endpoints()) {
      for (const auto& one : locality.lb_endpoints()) {
        const auto& socket = one.endpoint().address().socket_address();
        out.push_back({socket.address(), static_cast<std::uint16_t>(socket.port_value()),
                       one.load_balancing_weight().value()});
      }
    }
  }
  return out;
}

Takes compare(const kube::Json& spec, const std::vector<ProbedEndpoint>& seen) {
  std::map<std::pair<std::string, int>, std::uint32_t> first;
  for (const ProbedEndpoint& one : seen) {
    first.try_emplace({one.address, one.port}, one.weight);
  }
  const kube::Json& ports = kube::at(spec, {"ports"});
  const std::string port = ports.is_array() && !ports.empty() ? kube::text_at(ports[0], {"name"}) : "";
  Takes verdict = Takes::kUnknown;
  bool whole = true;
  for (const kube::Json& endpoint : kube::at(spec, {"endpoints"})) {
    const kube::Json& number = kube::at(endpoint, {"ports", port.c_str()});
    const kube::Json& weight = kube::at(endpoint, {"weight"});
    if (!number.is_number_integer() || !weight.is_number_integer()) {
      continue;
    }
    const auto found = first.find({kube::text_at(endpoint, {"address"}), number.get<int>()});
    if (found == first.end() || found->second != weight.get<std::uint32_t>()) {
      // What a plain Service's endpoint weighs. Anything else is of an earlier write, or on its way.
      if (found != first.end() && found->second <= 1) {
        return Takes::kNo;
      }
      whole = false;
    }
    verdict = Takes::kYes;
  }
  return whole ? verdict : Takes::kUnknown;
}

IstiodProbe::IstiodProbe(Options options, Sample sample, std::function<void(const kube::Json&, Takes)> told)
    : options_(std::move(options)), sample_(std::move(sample)), told_(std::move(told)) {
  thread_ = std::thread([this] { run(); });
}

IstiodProbe::~IstiodProbe() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_all();
  thread_.join();
}

void IstiodProbe::run() {
  Takes said = Takes::kUnknown;
  int refuted = 0;
  std::string trouble;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    std::chrono::milliseconds pause = options_.pause;
    if (const kube::Json sample = sample_(); !sample.is_null()) {
      const kube::Json& spec = sample.at("spec");
      const std::string cluster =
          fmt::format("outbound|{}||{}", spec.at("ports").at(0).at("number").get<int>(),
                      spec.at("hosts").at(0).get<std::string>());
      const auto seen =
          ask_istiod(options_.istiod, sample.at("ns").get<std::string>(), cluster, options_.timeout);
      Takes takes = seen ? compare(spec, *seen) : Takes::kUnknown;
      refuted = takes == Takes::kNo ? refuted + 1 : 0;
      if (takes == Takes::kNo && refuted < options_.refutations) {
        takes = Takes::kUnknown;  // it may have been on its way
      }
      if (const std::string now = seen ? "" : seen.error().message; now != trouble) {
        trouble = now;
        if (!now.empty()) {
          spdlog::warn("not verified that entries of own hosts take reason=\"{}\"", now);
        }
      }
      if (takes != Takes::kUnknown) {
        pause = options_.again;
        if (takes != said) {
          spdlog::log(takes == Takes::kYes ? spdlog::level::info : spdlog::level::warn,
                      "entries of own hosts {} cluster={} istiod={}",
                      takes == Takes::kYes ? "take" : "do not take: Services go by route", cluster,
                      options_.istiod);
        }
        said = takes;
        told_(sample, takes);
      }
    } else {
      refuted = 0;
    }
    lock.lock();
    wake_.wait_for(lock, pause, [this] { return stopping_; });
  }
}

}  // namespace ballast::actuate::istio
