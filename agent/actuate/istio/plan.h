// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/kube/catalog.h"

/// What Ballast writes for one Service, as pure functions of what the API server said.
///
/// By the Service's own host (Way::kOwnHost): ServiceEntries of that host in the Service's namespace, STATIC,
/// with inline endpoints. istiod merges them with the Service's own endpoints, ours first, and Envoy keeps
/// the first of two endpoints with one address: every cluster of the host has our weights, subsets and
/// gateways included, and no cluster, listener or route changes. Or, by route (Way::kRoute): ServiceEntries
/// of a shadow host, and a VirtualService that leads to it. Measured with istiod 1.32-dev: a change of
/// `endpoints[].weight` is an EDS-only push. Weight 0 is never written: Istio reads 0 as 1.
namespace ballast::actuate::istio {

using kube::Json;

inline constexpr const char* kManagedByLabel = "app.kubernetes.io/managed-by";
inline constexpr const char* kManagedBy = "ballast";
inline constexpr const char* kFieldManager = "ballast";

/// The ClusterRole that owns our objects, unless another is named (PlanOptions).
inline constexpr const char* kOwnerRole = "ballast-writer";

/// Which Ballast of the cluster an object belongs to: NAMESPACE.NAME of its Lease.
inline constexpr const char* kLeaseLabel = "ballast.dev/lease";
inline constexpr const char* kServiceLabel = "ballast.dev/service";

/// What is the same for all Services.
struct PlanOptions {
  std::string domain = "cluster.local";
  std::string lease;       ///< for kLeaseLabel; empty: not written
  std::string owner_name;  ///< ClusterRole whose end takes our objects along; empty: none
  std::string owner_uid;
  std::size_t entry_endpoints = 500;  ///< more are split over several ServiceEntries, far below etcd's limit
};

/// Of an object of ours: name, label, owner, and what keeps other tools from taking it for theirs.
Json metadata(const std::string& ns, const std::string& name, const PlanOptions& options);

/// How weights are written.
enum class Way { kOwnHost, kRoute, kSubset };

/// A version of a Service, as a DestinationRule names it.
struct Subset {
  std::string name;
  std::map<std::string, std::string> labels;  ///< of its pods
};

/// Somebody else's object that says how traffic to a host goes.
struct ConflictingRoute {
  std::string kind;  ///< VirtualService, DestinationRule or HTTPRoute
  std::string ns;
  std::string name;
  std::vector<std::string> hosts;    ///< as written: short, full or with a leading wildcard
  std::vector<Subset> subsets = {};  ///< of a DestinationRule
  bool hashes = false;  ///< a DestinationRule that keeps clients at their pods by a consistent hash
};
/// nullopt for an object of ours, and for a VirtualService of gateways alone (mesh is not among them).
std::optional<ConflictingRoute> parse_conflicting_route(const std::string& kind, const Json& object);

/// Why a Service that opted in is left alone; an Event says it at the Service.
struct Refusal {
  std::string reason;   ///< UpperCamelCase
  std::string message;  ///< what is wrong and what to do
};

/// The Service's host, its spelling in the mesh: web.shop.svc.cluster.local.
std::string service_host(const kube::Service& service, const std::string& domain);
/// What shadow hosts end with.
inline constexpr const char* kShadowDomain = ".ballast.internal";
/// web.shop.ballast.internal
std::string shadow_host(const kube::Service& service);
/// Name of the VirtualService and of the first ServiceEntry, in the Service's namespace.
std::string object_name(const kube::Service& service);

/// Does the Service, or its namespace for it, name a waypoint of the ambient mesh?
bool has_waypoint(const kube::Service& service);

/// The way that the Service's annotation asks for, or the best that is left: the own host unless `own_host`
/// is false (it was seen not to take), or the Service's port has no name, which a ServiceEntry's has to have.
Way way_of(const kube::Service& service, bool own_host);

/// Subsets of the DestinationRule of the Service's host; empty when there is none.
std::vector<Subset> subsets_of(const kube::Service& service,
                               const std::vector<ConflictingRoute>& conflicting_routes,
                               const std::string& domain);
/// nullopt: it can be managed in this way. Modes off and shadow are no refusals.
std::optional<Refusal> judge(const kube::Service& service, Way way,
                             const std::vector<ConflictingRoute>& conflicting_routes,
                             const std::string& domain);

/// Who a pod is to Istio: its labels and service account decide about mTLS, subsets and telemetry.
struct PodFacts {
  Shared<std::map<std::string, std::string>> labels;
  Shared<std::string> service_account;
  bool ambient = false;  ///< its traffic goes through ztunnel
  bool gone = false;     ///< the API server does not know it (any more)
};

struct Facts {
  /// By uid; of endpoints that name no pod by address, and `gone` where no pod has it.
  std::map<std::string, PodFacts> pods;
  std::map<std::string, std::string> localities;  ///< by node, as istiod writes it: region/zone/subzone
};
/// The key of an endpoint's pod in Facts::pods.
inline const std::string& pod_key(const kube::Endpoint& endpoint) {
  return endpoint.uid.empty() ? endpoint.address : endpoint.uid;
}
/// Is all known that istiod would say of the endpoint? Only then may it be written.
bool identified(const kube::Endpoint& endpoint, const Facts& facts);

/// Weight by address and port. What it does not name gets the weight of a fair share.
using Weights = std::map<std::pair<std::string, std::uint16_t>, std::uint32_t>;
/// By NAMESPACE/NAME.
using WeightsOfServices = std::map<std::string, Shared<Weights>>;
std::uint32_t weight_of(const kube::Endpoint& endpoint, const Weights& weights);

/// A Service that has no weights of its own, since its pods are measured as those of another Service of its
/// namespace, is lent theirs: a pod has one capacity, whoever sends to it.
std::optional<Weights> lent_weights(const kube::Service& service, const WeightsOfServices& weights);

/// The ServiceEntries for the endpoints that are ready and identified, by name. Endpoints that serve
/// different ports of the Service are in different entries, because Istio gives every endpoint of an entry
/// all its ports. Of many endpoints each entry has its share, and one keeps its entry while the number of
/// entries stays.
std::map<std::string, Json> service_entries(const kube::Service& service, Way way, const Weights& weights,
                                            const Facts& facts, const PlanOptions& options);
Json virtual_service(const kube::Service& service, const PlanOptions& options);

/// Of one hundred, what each subset's ready pods weigh together: largest remainders, and 1 at least where
/// there is a ready pod. Subsets without one are left out, since Istio would route to nobody. A Refusal when
/// a ready pod is in no subset: it would be left without traffic.
struct SubsetShares {
  std::map<std::string, int> shares;  ///< by subset
  std::optional<Refusal> refusal;
};
SubsetShares subset_shares(const kube::Service& service, const std::vector<Subset>& subsets,
                           const Weights& weights, const Facts& facts);
/// Is there none of the Service's ready pods, as far as they are known, in one of the subsets that have a
/// share?
bool lacks_pods(const kube::Service& service, const std::vector<Subset>& subsets,
                const std::map<std::string, int>& shares, const Facts& facts);
/// Routes the Service's host to its own subsets.
Json virtual_service(const kube::Service& service, const PlanOptions& options,
                     const std::map<std::string, int>& shares);

}  // namespace ballast::actuate::istio
