// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "agent/kube/catalog.h"

/// What Ballast writes for one Service, as pure functions of what the API server said.
///
/// A shadow ServiceEntry (own host, STATIC, inline endpoints with our weights) and one VirtualService
/// that routes the Service's host to it. Measured with istiod 1.32-dev: a change of
/// `endpoints[].weight` is an EDS-only push, and inline endpoints leave the pods' own sidecars their
/// Kubernetes service, which a WorkloadEntry on a pod's address does not. Weight 0 is never written:
/// Istio reads 0 as 1.
namespace ballast::actuate::istio {

using kube::Json;

inline constexpr const char* kManagedByLabel = "app.kubernetes.io/managed-by";
inline constexpr const char* kManagedBy = "ballast";
inline constexpr const char* kFieldManager = "ballast";

/// A version of a Service, as a DestinationRule names it.
struct Subset {
  std::string name;
  std::map<std::string, std::string> labels;  ///< of its pods
};

/// Somebody else's object that says how traffic to a host goes.
struct ConflictingRoute {
  std::string kind;  ///< VirtualService or DestinationRule
  std::string ns;
  std::string name;
  std::vector<std::string> hosts;    ///< as written: short, full or with a leading wildcard
  std::vector<Subset> subsets = {};  ///< of a DestinationRule
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
/// web.shop.ballast.internal
std::string shadow_host(const kube::Service& service);
/// Name of both objects, in the Service's namespace.
std::string object_name(const kube::Service& service);

/// Subsets of the DestinationRule of the Service's host; empty when there is none.
std::vector<Subset> subsets_of(const kube::Service& service,
                               const std::vector<ConflictingRoute>& conflicting_routes,
                               const std::string& domain);
inline bool by_subset(const kube::Service& service) {
  return service.by == "subset";
}

/// nullopt: it can be managed. Modes off and shadow are no refusals.
std::optional<Refusal> judge(const kube::Service& service,
                             const std::vector<ConflictingRoute>& conflicting_routes,
                             const std::string& domain);

/// What a pod brings along: its labels keep mTLS (security.istio.io/tlsMode) and telemetry as they
/// are for the plain Service.
struct PodFacts {
  std::map<std::string, std::string> labels;
  std::string service_account;
};

struct Facts {
  std::map<std::string, PodFacts> pods;           ///< by uid
  std::map<std::string, std::string> localities;  ///< by node: region/zone/subzone
};

/// Weight by address. What it does not name gets the weight of a fair share.
using Weights = std::map<std::string, std::uint32_t>;

/// The inline endpoints: those of the Service that are ready, by address.
Json endpoints_json(const kube::Service& service, const Weights& weights, const Facts& facts);
Json service_entry(const kube::Service& service, const Json& endpoints);
Json virtual_service(const kube::Service& service, const std::string& domain);

/// Of one hundred, what each subset's ready pods weigh together: largest remainders, and 1 at least where
/// there is a ready pod. Subsets without one are left out, since Istio would route to nobody. A Refusal when
/// a ready pod is in no subset: it would be left without traffic.
struct SubsetShares {
  std::map<std::string, int> shares;  ///< by subset
  std::optional<Refusal> refusal;
};
SubsetShares subset_shares(const kube::Service& service, const std::vector<Subset>& subsets,
                           const Weights& weights, const Facts& facts);
/// Routes the Service's host to its own subsets.
Json virtual_service(const kube::Service& service, const std::string& domain,
                     const std::map<std::string, int>& shares);

}  // namespace ballast::actuate::istio
