// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/istio/plan.h"

#include <algorithm>
#include <utility>

#include "agent/guard/guard.h"

namespace ballast::actuate::istio {
namespace {

/// The protocol that Istio takes a port for, if it is one that a VirtualService's http routes match:
/// appProtocol, else the port's name up to its first dash (istio.io, "Protocol selection").
std::string http_family(const kube::ServicePort& port) {
  const std::string said =
      port.app_protocol.empty() ? port.name.substr(0, port.name.find('-')) : port.app_protocol;
  if (said == "http" || said == "kubernetes.io/ws") {
    return "HTTP";
  }
  if (said == "http2" || said == "kubernetes.io/h2c") {
    return "HTTP2";
  }
  if (said == "grpc") {
    return "GRPC";
  }
  // grpc-web is the one protocol whose name has a dash.
  return port.app_protocol == "grpc-web" || port.name.starts_with("grpc-web") ? "GRPC-WEB" : "";
}

/// Does a host of a conflicting_route in namespace `ns` stand for the Service?
bool same_host(const std::string& written, const std::string& ns, const kube::Service& service,
               const std::string& full) {
  if (written.empty()) {
    return false;
  }
  if (written.front() == '*') {
    return full.ends_with(written.substr(1));
  }
  if (written.find('.') == std::string::npos) {
    return ns == service.ns && written == service.name;
  }
  return written == full || written == service.name + "." + service.ns ||
         written == service.name + "." + service.ns + ".svc";
}

bool is_of(const ConflictingRoute& conflicting_route, const kube::Service& service, const std::string& full) {
  return std::any_of(
      conflicting_route.hosts.begin(), conflicting_route.hosts.end(),
      [&](const std::string& host) { return same_host(host, conflicting_route.ns, service, full); });
}

/// Of ours: told by the label that we put on it.
bool ours(const Json& object) {
  return kube::text_at(object, {"metadata", "labels", kManagedByLabel}) == kManagedBy;
}

std::vector<Subset> parse_subsets(const Json& list) {
  std::vector<Subset> subsets;
  if (!list.is_array()) {
    return subsets;
  }
  for (const Json& item : list) {
    Subset subset{kube::text_at(item, {"name"}), {}};
    if (const Json& labels = kube::at(item, {"labels"}); labels.is_object()) {
      for (const auto& [key, value] : labels.items()) {
        subset.labels[key] = value.is_string() ? value.get<std::string>() : "";
      }
    }
    subsets.push_back(std::move(subset));
  }
  return subsets;
}

Json metadata(const kube::Service& service) {
  return {{"name", object_name(service)},
          {"namespace", service.ns},
          {"labels", {{kManagedByLabel, kManagedBy}, {"ballast.dev/service", service.name}}},
          {"annotations",
           {{"argocd.argoproj.io/compare-options", "IgnoreExtraneous"},
            {"argocd.argoproj.io/sync-options", "Prune=false"},
            {"kustomize.toolkit.fluxcd.io/prune", "disabled"},
            {"kustomize.toolkit.fluxcd.io/reconcile", "disabled"},
            {"helm.toolkit.fluxcd.io/driftDetection", "disabled"}}},
          // With its Service gone, the garbage collector takes the override away.
          {"ownerReferences", Json::array({{{"apiVersion", "v1"},
                                            {"kind", "Service"},
                                            {"name", service.name},
                                            {"uid", service.uid},
                                            {"controller", false},
                                            {"blockOwnerDeletion", false}}})}};
}

std::optional<Refusal> judge_shape(const kube::Service& service) {
  if (service.mode != "active" && service.mode != "shadow" && service.mode != "off") {
    return Refusal{"BadMode", "label " + std::string(kube::kModeLabel) + " is \"" + service.mode +
                                  "\"; set it to active, shadow or off"};
  }
  if (!service.by.empty() && service.by != "endpoint" && !by_subset(service)) {
    return Refusal{"BadMode", "annotation " + std::string(kube::kByAnnotation) + " is \"" + service.by +
                                  "\"; set it to endpoint or subset, or remove it"};
  }
  if (service.type == "ExternalName") {
    return Refusal{"ExternalName",
                   "a Service of type ExternalName has no endpoints to weigh; remove the label"};
  }
  if (service.headless) {
    return Refusal{"Headless",
                   "clients of a headless Service pick the pod themselves, so there is nothing to weigh; "
                   "give the Service a clusterIP or remove the label"};
  }
  if (service.node_local) {
    return Refusal{
        "NodeLocal",
        "its traffic is to stay on the client's node (internalTrafficPolicy or "
        "trafficDistribution), which weights would undo; let it leave the node or remove the label"};
  }
  if (service.ports.empty()) {
    return Refusal{"NoPorts", "the Service has no ports; add one or remove the label"};
  }
  for (const kube::ServicePort& port : service.ports) {
    if (port.protocol != "TCP" || http_family(port).empty()) {
      return Refusal{
          "MixedProtocols",
          "port " + (port.name.empty() ? std::to_string(port.number) : "\"" + port.name + "\"") +
              " is not declared as HTTP, HTTP/2 or gRPC, and a route for some ports would take the "
              "others along; name it http-..., http2-... or grpc-..., set appProtocol, or move it "
              "to a Service of its own"};
    }
  }
  return std::nullopt;
}

}  // namespace

std::optional<ConflictingRoute> parse_conflicting_route(const std::string& kind, const Json& object) {
  if (ours(object)) {
    return std::nullopt;
  }
  ConflictingRoute conflicting_route{kind,
                                     kube::text_at(object, {"metadata", "namespace"}),
                                     kube::text_at(object, {"metadata", "name"}),
                                     {}};
  if (kind == "DestinationRule") {
    conflicting_route.hosts.push_back(kube::text_at(object, {"spec", "host"}));
    conflicting_route.subsets = parse_subsets(kube::at(object, {"spec", "subsets"}));
    return conflicting_route;
  }
  if (const Json& gateways = kube::at(object, {"spec", "gateways"});
      gateways.is_array() && !gateways.empty()) {
    if (std::find(gateways.begin(), gateways.end(), Json("mesh")) == gateways.end()) {
      return std::nullopt;
    }
  }
  if (const Json& hosts = kube::at(object, {"spec", "hosts"}); hosts.is_array()) {
    for (const Json& host : hosts) {
      conflicting_route.hosts.push_back(host.is_string() ? host.get<std::string>() : "");
    }
  }
  return conflicting_route;
}

std::string service_host(const kube::Service& service, const std::string& domain) {
  return service.name + "." + service.ns + ".svc." + domain;
}

std::string shadow_host(const kube::Service& service) {
  return service.name + "." + service.ns + ".ballast.internal";
}

std::string object_name(const kube::Service& service) {
  return service.name + "-ballast";
}

std::vector<Subset> subsets_of(const kube::Service& service,
                               const std::vector<ConflictingRoute>& conflicting_routes,
                               const std::string& domain) {
  for (const ConflictingRoute& conflicting_route : conflicting_routes) {
    if (conflicting_route.kind == "DestinationRule" && !conflicting_route.subsets.empty() &&
        is_of(conflicting_route, service, service_host(service, domain))) {
      return conflicting_route.subsets;
    }
  }
  return {};
}

std::optional<Refusal> judge(const kube::Service& service,
                             const std::vector<ConflictingRoute>& conflicting_routes,
                             const std::string& domain) {
  if (auto refusal = judge_shape(service)) {
    return refusal;
  }
  const std::string full = service_host(service, domain);
  if (by_subset(service) && subsets_of(service, conflicting_routes, domain).size() < 2) {
    return Refusal{"NoSubsets", "annotation " + std::string(kube::kByAnnotation) +
                                    " is subset, but no DestinationRule of " + full +
                                    " names two subsets or more; write one, or remove the annotation"};
  }
  for (const ConflictingRoute& conflicting_route : conflicting_routes) {
    if (conflicting_route.kind == "DestinationRule" && by_subset(service)) {
      continue;
    }
    if (is_of(conflicting_route, service, full)) {
      return Refusal{"TwoOwners", conflicting_route.kind + " " + conflicting_route.ns + "/" +
                                      conflicting_route.name + " already says how traffic to " + full +
                                      " goes, and a second one would undo it; take this host out of it, or "
                                      "remove the label " +
                                      kube::kModeLabel};
    }
  }
  return std::nullopt;
}

Json endpoints_json(const kube::Service& service, const Weights& weights, const Facts& facts) {
  Json list = Json::array();
  for (const kube::Endpoint& endpoint : service.endpoints) {
    if (!endpoint.ready) {
      continue;
    }
    const auto weight = weights.find(endpoint.address);
    Json entry = {{"address", endpoint.address},
                  {"weight", weight == weights.end() ? guard::GuardedWeights::kWeightScale
                                                     : std::max<std::uint32_t>(weight->second, 1)}};
    for (const kube::ServicePort& port : service.ports) {
      if (const auto found = endpoint.ports.find(port.name); found != endpoint.ports.end()) {
        entry["ports"][port.name] = found->second;
      }
    }
    if (const auto pod = facts.pods.find(endpoint.uid); pod != facts.pods.end()) {
      if (!pod->second.labels.empty()) {
        entry["labels"] = pod->second.labels;
      }
      if (!pod->second.service_account.empty()) {
        entry["serviceAccount"] = pod->second.service_account;
      }
    }
    const auto locality = facts.localities.find(endpoint.node);
    if (locality != facts.localities.end() && !locality->second.empty()) {
      entry["locality"] = locality->second;
    }
    list.push_back(std::move(entry));
  }
  return list;
}

Json service_entry(const kube::Service& service, const Json& endpoints) {
  Json ports = Json::array();
  for (const kube::ServicePort& port : service.ports) {
    ports.push_back({{"number", port.number}, {"name", port.name}, {"protocol", http_family(port)}});
  }
  Json entry = {{"apiVersion", "networking.istio.io/v1"},
                {"kind", "ServiceEntry"},
                {"metadata", metadata(service)},
                {"spec",
                 {{"hosts", Json::array({shadow_host(service)})},
                  {"location", "MESH_INTERNAL"},
                  {"resolution", "STATIC"},
                  {"ports", std::move(ports)},
                  {"endpoints", endpoints}}}};
  if (service.zone_local) {
    entry["metadata"]["annotations"]["networking.istio.io/traffic-distribution"] = "PreferClose";
  }
  if (!service.export_to.empty()) {
    entry["spec"]["exportTo"] = service.export_to;
  }
  return entry;
}

Json virtual_service(const kube::Service& service, const std::string& domain) {
  Json routes = Json::array();
  for (const kube::ServicePort& port : service.ports) {
    routes.push_back(
        {{"name", "ballast-" + std::to_string(port.number)},
         {"match", Json::array({{{"port", port.number}}})},
         {"route",
          Json::array(
              {{{"destination", {{"host", shadow_host(service)}, {"port", {{"number", port.number}}}}}}})}});
  }
  Json spec = {{"hosts", Json::array({service_host(service, domain)})}, {"http", std::move(routes)}};
  if (!service.export_to.empty()) {
    spec["exportTo"] = service.export_to;
  }
  return {{"apiVersion", "networking.istio.io/v1"},
          {"kind", "VirtualService"},
          {"metadata", metadata(service)},
          {"spec", std::move(spec)}};
}

}  // namespace ballast::actuate::istio
