// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/istio/plan.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <set>
#include <utility>

#include "agent/guard/guard.h"

namespace ballast::actuate::istio {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return std::tolower(c); });
  return text;
}

/// The protocol that istiod takes a port for (pkg/config/kube/conversion.go), as a ServiceEntry names it;
/// empty where it looks at the bytes. appProtocol, when there is one, is read in place of the name, by the
/// same rule.
std::string protocol_of(const kube::ServicePort& port) {
  if (port.protocol == "UDP") {
    return "UDP";
  }
  std::string said = lower(port.app_protocol.value_or(port.name));
  if (port.app_protocol && said.starts_with("kubernetes.io/")) {
    return said == "kubernetes.io/h2c"   ? "HTTP2"
           : said == "kubernetes.io/ws"  ? "HTTP"
           : said == "kubernetes.io/wss" ? "HTTPS"
                                         : "";
  }
  if (said.starts_with("grpc-web")) {
    return "GRPC-WEB";
  }
  said = said.substr(0, said.find('-'));
  for (const char* known :
       {"tcp", "udp", "grpc", "http", "http_proxy", "http2", "https", "tls", "mongo", "redis", "mysql"}) {
    if (said == known) {
      std::transform(said.begin(), said.end(), said.begin(), [](unsigned char c) { return std::toupper(c); });
      return said;
    }
  }
  const bool server_first =
      port.number == 25 || port.number == 53 || port.number == 3306 || port.number == 27017;
  return server_first ? "TCP" : "";
}

/// Do the http routes of a VirtualService match it? They do where istiod looks at the bytes, too.
bool routed_as_http(const kube::ServicePort& port) {
  const std::string protocol = protocol_of(port);
  return port.protocol != "UDP" && port.protocol != "SCTP" &&
         (protocol.empty() || protocol.starts_with("HTTP") || protocol.starts_with("GRPC")) &&
         protocol != "HTTPS";
}

/// A ServiceEntry's port has to have a name, a Service's only one need not.
std::string port_name(const kube::ServicePort& port) {
  return port.name.empty() ? "port-" + std::to_string(port.number) : port.name;
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

/// A consistent hash, of the whole host or of one of its ports.
bool hashes(const Json& policy) {
  if (kube::at(policy, {"loadBalancer", "consistentHash"}).is_object()) {
    return true;
  }
  const Json& ports = kube::at(policy, {"portLevelSettings"});
  return ports.is_array() && std::any_of(ports.begin(), ports.end(), [](const Json& port) {
           return kube::at(port, {"loadBalancer", "consistentHash"}).is_object();
         });
}

Json metadata(const kube::Service& service, const std::string& name, const PlanOptions& options) {
  Json out = istio::metadata(service.ns, name, options);
  out["labels"][kServiceLabel] = service.name;
  return out;
}

std::optional<Refusal> judge_shape(const kube::Service& service, Way way) {
  if (service.mode != "active" && service.mode != "shadow" && service.mode != "off") {
    return Refusal{"BadMode", "label " + std::string(kube::kModeLabel) + " is \"" + service.mode +
                                  "\"; set it to active, shadow or off"};
  }
  if (!service.by.empty() && service.by != "endpoint" && service.by != "route" && service.by != "subset") {
    return Refusal{"BadMode", "annotation " + std::string(kube::kByAnnotation) + " is \"" + service.by +
                                  "\"; set it to endpoint, route or subset, or remove it"};
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
  // A waypoint has clusters of its own Services alone: none of a shadow host.
  if (has_waypoint(service) && way != Way::kOwnHost) {
    return Refusal{
        "Ambient",
        "its traffic goes through the waypoint " + service.waypoint +
            ", where weights by route or by subset have not been shown to take; it is not weighed, "
            "and traffic is the plain Service's; by its own host (ballast.dev/by: endpoint, ports "
            "with names) it can be"};
  }
  for (const kube::ServicePort& port : service.ports) {
    if (way != Way::kOwnHost && !routed_as_http(port)) {
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

Json metadata(const std::string& ns, const std::string& name, const PlanOptions& options) {
  Json out = {{"name", name},
              {"namespace", ns},
              {"labels", {{kManagedByLabel, kManagedBy}}},
              {"annotations",
               {{"argocd.argoproj.io/compare-options", "IgnoreExtraneous"},
                {"argocd.argoproj.io/sync-options", "Prune=false"},
                {"kustomize.toolkit.fluxcd.io/prune", "disabled"},
                {"kustomize.toolkit.fluxcd.io/reconcile", "disabled"},
                {"helm.toolkit.fluxcd.io/driftDetection", "disabled"}}}};
  if (!options.lease.empty()) {
    out["labels"][kLeaseLabel] = options.lease;
  }
  // With the right to write it, the garbage collector takes the object away: so do `kubectl delete -k` and
  // whoever takes our rights. With its Service gone the writer does, or its successor's first act.
  if (!options.owner_uid.empty()) {
    out["ownerReferences"] = Json::array({{{"apiVersion", "rbac.authorization.k8s.io/v1"},
                                           {"kind", "ClusterRole"},
                                           {"name", options.owner_name},
                                           {"uid", options.owner_uid},
                                           {"controller", false},
                                           {"blockOwnerDeletion", false}}});
  }
  return out;
}

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
    const Json& subsets = kube::at(object, {"spec", "subsets"});
    conflicting_route.subsets = parse_subsets(subsets);
    conflicting_route.hashes =
        hashes(kube::at(object, {"spec", "trafficPolicy"})) ||
        (subsets.is_array() && std::any_of(subsets.begin(), subsets.end(), [](const Json& subset) {
           return hashes(kube::at(subset, {"trafficPolicy"}));
         }));
    return conflicting_route;
  }
  if (kind == "HTTPRoute") {
    // A route of the mesh has Services for parents; one of a gateway does not touch what sidecars do.
    const Json& parents = kube::at(object, {"spec", "parentRefs"});
    for (const Json& parent : parents.is_array() ? parents : Json::array()) {
      if (kube::text_at(parent, {"kind"}) == "Service") {
        const std::string ns = kube::text_at(parent, {"namespace"});
        conflicting_route.hosts.push_back(kube::text_at(parent, {"name"}) + "." +
                                          (ns.empty() ? conflicting_route.ns : ns));
      }
    }
    return conflicting_route.hosts.empty() ? std::nullopt : std::optional(std::move(conflicting_route));
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
  return service.name + "." + service.ns + kShadowDomain;
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

bool has_waypoint(const kube::Service& service) {
  return !service.waypoint.empty() && service.waypoint != "none";
}

Way way_of(const kube::Service& service, bool own_host) {
  if (service.by == "subset") {
    return Way::kSubset;
  }
  // istiod joins endpoints to a Service's port by its name, and ours has to have one.
  const bool unnamed = std::any_of(service.ports.begin(), service.ports.end(),
                                   [](const kube::ServicePort& port) { return port.name.empty(); });
  return service.by == "route" || !own_host || unnamed ? Way::kRoute : Way::kOwnHost;
}

std::optional<Refusal> judge(const kube::Service& service, Way way,
                             const std::vector<ConflictingRoute>& conflicting_routes,
                             const std::string& domain) {
  if (auto refusal = judge_shape(service, way)) {
    return refusal;
  }
  const std::string full = service_host(service, domain);
  if (way == Way::kSubset && subsets_of(service, conflicting_routes, domain).size() < 2) {
    return Refusal{"NoSubsets", "annotation " + std::string(kube::kByAnnotation) +
                                    " is subset, but no DestinationRule of " + full +
                                    " names two subsets or more; write one, or remove the annotation"};
  }
  for (const ConflictingRoute& conflicting_route : conflicting_routes) {
    if (conflicting_route.hashes && is_of(conflicting_route, service, full)) {
      return Refusal{
          "ConsistentHash",
          "DestinationRule " + conflicting_route.ns + "/" + conflicting_route.name + " keeps clients of " +
              full +
              " at their pods by a consistent hash, and each change of a weight would send some to "
              "another pod; take consistentHash out of it, or remove the label " +
              kube::kModeLabel};
    }
    // By its own host nothing is routed anew, and whatever others say of the host holds.
    if (way == Way::kOwnHost || (conflicting_route.kind == "DestinationRule" && way == Way::kSubset)) {
      continue;
    }
    if (is_of(conflicting_route, service, full)) {
      return Refusal{"TwoOwners",
                     conflicting_route.kind + " " + conflicting_route.ns + "/" + conflicting_route.name +
                         " already says how traffic to " + full +
                         " goes, and a route of ours would undo it; let Ballast weigh it by its own host "
                         "(no annotation " +
                         kube::kByAnnotation + ", a name for each port), or remove the label " +
                         kube::kModeLabel};
    }
  }
  return std::nullopt;
}

bool identified(const kube::Endpoint& endpoint, const Facts& facts) {
  const auto pod = facts.pods.find(pod_key(endpoint));
  if (pod == facts.pods.end() || (pod->second.gone && !endpoint.uid.empty())) {
    return false;
  }
  return endpoint.node->empty() || facts.localities.contains(endpoint.node);
}

std::uint32_t weight_of(const kube::Endpoint& endpoint, const Weights& weights) {
  for (const auto& [name, port] : *endpoint.ports) {
    const auto found = weights.find({endpoint.address, static_cast<std::uint16_t>(port)});
    if (found != weights.end()) {
      return std::max<std::uint32_t>(found->second, 1);
    }
  }
  // Measured at another of its ports, by another Service of the same pods perhaps: a pod has one capacity.
  const auto near = weights.lower_bound({endpoint.address, 0});
  return near != weights.end() && near->first.first == endpoint.address
             ? std::max<std::uint32_t>(near->second, 1)
             : guard::GuardedWeights::kWeightScale;
}

namespace {

bool has(const Weights& weights, const std::string& address) {
  const auto near = weights.lower_bound({address, 0});
  return near != weights.end() && near->first.first == address;
}

/// As istiod would make it of the pod (pilot/pkg/serviceregistry/kube/controller/endpoint_builder.go).
Json endpoint_json(const kube::Service& service, const kube::Endpoint& endpoint, const Weights& weights,
                   const Facts& facts) {
  constexpr const char* kTlsMode = "security.istio.io/tlsMode";
  Json entry = {{"address", endpoint.address}, {"weight", weight_of(endpoint, weights)}};
  for (const kube::ServicePort& port : service.ports) {
    if (const auto found = endpoint.ports->find(port.name); found != endpoint.ports->end()) {
      entry["ports"][port_name(port)] = found->second;
    }
  }
  const PodFacts& pod = facts.pods.at(pod_key(endpoint));
  if (!pod.gone) {
    entry["labels"] = *pod.labels;
    if (!pod.service_account->empty()) {
      entry["serviceAccount"] = *pod.service_account;
    }
    // With an account and no label an entry's endpoint is taken for one that speaks mTLS; a pod is not.
    if (!pod.labels->contains(kTlsMode)) {
      entry["labels"][kTlsMode] = "disabled";
    }
    // It labels a pod's endpoint with the pod's node, whatever the pod says, and an entry's with none.
    if (!endpoint.node->empty()) {
      entry["labels"]["kubernetes.io/hostname"] = *endpoint.node;
    }
  }
  // A label of the pod's own comes before its node's, and istiod reads it from the labels here too.
  const bool own_locality =
      pod.labels->contains("topology.istio.io/locality") || pod.labels->contains("istio-locality");
  const auto locality = facts.localities.find(endpoint.node);
  if (!own_locality && !pod.gone && locality != facts.localities.end() && !locality->second.empty()) {
    entry["locality"] = locality->second;
  }
  return entry;
}

Json service_entry(const kube::Service& service, Way way, const std::string& name,
                   const std::set<std::string>& ports, Json endpoints, const PlanOptions& options) {
  Json listed = Json::array();
  for (const kube::ServicePort& port : service.ports) {
    if (!ports.contains(port.name)) {
      continue;
    }
    Json one = {{"number", port.number}, {"name", port_name(port)}};
    if (const std::string protocol = protocol_of(port); !protocol.empty()) {
      one["protocol"] = protocol;
    }
    listed.push_back(std::move(one));
  }
  const bool own = way == Way::kOwnHost;
  Json entry = {
      {"apiVersion", "networking.istio.io/v1"},
      {"kind", "ServiceEntry"},
      {"metadata", metadata(service, name, options)},
      {"spec",
       {{"hosts", Json::array({own ? service_host(service, options.domain) : shadow_host(service)})},
        {"location", "MESH_INTERNAL"},
        {"resolution", "STATIC"},
        {"ports", std::move(listed)},
        {"endpoints", std::move(endpoints)}}}};
  if (service.zone_local) {
    entry["metadata"]["annotations"]["networking.istio.io/traffic-distribution"] = "PreferClose";
  }
  if (own) {
    // Its endpoints count wherever the Service is seen. As a Service of its own nobody is to see it: of two
    // of one host and namespace istiod's routes name the younger's addresses, which are one for each entry.
    entry["spec"]["exportTo"] = {"~"};
    // Else istiod gives it an address and writes that into its status, after which our next write finds
    // another version.
    entry["metadata"]["labels"]["networking.istio.io/enable-autoallocate-ip"] = "false";
  } else if (!service.export_to.empty()) {
    entry["spec"]["exportTo"] = service.export_to;
  }
  return entry;
}

/// FNV-1a: the same in every process, so that a successor finds an endpoint in the same entry.
std::uint64_t fnv1a(const std::string& text) {
  std::uint64_t hash = 14695981039346656037ULL;
  for (const unsigned char c : text) {
    hash = (hash ^ c) * 1099511628211ULL;
  }
  return hash;
}

}  // namespace

std::optional<Weights> lent_weights(const kube::Service& service, const WeightsOfServices& weights) {
  std::optional<Weights> lent;
  for (auto other = weights.lower_bound(service.ns + "/");
       other != weights.end() && other->first.starts_with(service.ns + "/"); ++other) {
    const bool shares =
        std::any_of(service.endpoints.begin(), service.endpoints.end(), [&](const kube::Endpoint& endpoint) {
          return endpoint.ready && has(other->second, endpoint.address);
        });
    if (shares) {
      lent = lent.value_or(Weights());
      lent->insert(other->second->begin(), other->second->end());
    }
  }
  return lent;
}

std::map<std::string, Json> service_entries(const kube::Service& service, Way way, const Weights& weights,
                                            const Facts& facts, const PlanOptions& options) {
  // By the ports that they serve.
  std::map<std::set<std::string>, std::vector<const kube::Endpoint*>> groups;
  for (const kube::Endpoint& endpoint : service.endpoints) {
    std::set<std::string> ports;
    for (const kube::ServicePort& port : service.ports) {
      if (endpoint.ports->contains(port.name)) {
        ports.insert(port.name);
      }
    }
    if (endpoint.ready && !ports.empty() && identified(endpoint, facts)) {
      groups[ports].push_back(&endpoint);
    }
  }
  std::map<std::string, Json> entries;
  for (const auto& [ports, endpoints] : groups) {
    // The ports' own names tell the entries apart, so that a group that goes does not rename the others; by
    // dots, which neither they nor a Service's name have.
    std::string suffix;
    if (ports.size() < service.ports.size()) {
      for (const std::string& port : ports) {
        suffix += "." + port;
      }
      suffix = suffix.size() < 100 ? suffix : "." + std::to_string(fnv1a(suffix));
    }
    // Powers of two: a Service that grows rarely moves its endpoints to other entries.
    const std::size_t buckets =
        std::bit_ceil((endpoints.size() + options.entry_endpoints - 1) / options.entry_endpoints);
    std::vector<Json> lists(buckets, Json::array());
    for (const kube::Endpoint* endpoint : endpoints) {
      lists[fnv1a(endpoint->address) % buckets].push_back(endpoint_json(service, *endpoint, weights, facts));
    }
    for (std::size_t i = 0; i < buckets; ++i) {
      const std::string name = object_name(service) + (i == 0 ? "" : "-" + std::to_string(i)) + suffix;
      if (!lists[i].empty()) {
        entries[name] = service_entry(service, way, name, ports, std::move(lists[i]), options);
      }
    }
  }
  return entries;
}

Json virtual_service(const kube::Service& service, const PlanOptions& options) {
  Json routes = Json::array();
  for (const kube::ServicePort& port : service.ports) {
    routes.push_back(
        {{"name", "ballast-" + std::to_string(port.number)},
         {"match", Json::array({{{"port", port.number}}})},
         {"route",
          Json::array(
              {{{"destination", {{"host", shadow_host(service)}, {"port", {{"number", port.number}}}}}}})}});
  }
  Json spec = {{"hosts", Json::array({service_host(service, options.domain)})}, {"http", std::move(routes)}};
  if (!service.export_to.empty()) {
    spec["exportTo"] = service.export_to;
  }
  return {{"apiVersion", "networking.istio.io/v1"},
          {"kind", "VirtualService"},
          {"metadata", metadata(service, object_name(service), options)},
          {"spec", std::move(spec)}};
}

}  // namespace ballast::actuate::istio
