// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <set>
#include <string>
#include <vector>

#include "agent/actuate/istio/plan.h"
#include "agent/kube/client.h"
#include "core/base/result.h"

namespace ballast::actuate::istio {

/// Annotation of the leader's Lease: Services (NAMESPACE/NAME, commas between) that an operator took
/// back by hand; "*" for all. The leader leaves them alone until the annotation is gone.
inline constexpr const char* kReleasedAnnotation = "ballast.dev/released";

/// An object of ours in the cluster.
struct Owned {
  std::string ns;
  std::string name;
  std::string service;  ///< the Service that it stands for
  Json spec;
  std::string key() const { return ns + "/" + service; }
};

/// The writes that Ballast makes to Istio's objects, each one call. All of them may be made twice.
class Writer {
 public:
  explicit Writer(kube::Client& client) : client_(client) {}

  /// Server-side apply with our field manager. kUsage when an object of that name is there and is not
  /// ours, or when the server refuses what it says (4xx): the operator has to do something.
  Status apply(const Json& object);
  /// Merge patch of the endpoints alone. `gone` is set when the object is not there any more.
  Status patch_endpoints(const std::string& ns, const std::string& name, const Json& endpoints, bool& gone);
  /// Done too when it is not there. Only ever deletes what carries our label.
  Status remove(const std::string& kind, const std::string& ns, const std::string& name);
  /// All of ours: kind is VirtualService or ServiceEntry. Empty where Istio is not installed.
  Result<std::vector<Owned>> list(const std::string& kind);

  /// Labels and service accounts of the pods that a selector matches.
  Status read_pods(const kube::Service& service, Facts& facts);
  /// Localities of all nodes.
  Status read_nodes(Facts& facts);

 private:
  kube::Client& client_;
};

/// What the Lease's annotations say was released.
std::set<std::string> released(const Json& annotations);

/// `ballastctl release`: notes at the Lease that `service` (NAMESPACE/NAME, or "*" for all) is taken
/// back, so that a leader which lives lets go of it, then removes the overrides itself, which works
/// without a leader too: first the VirtualServices, and two seconds later, when proxies have the plain
/// route again, the ServiceEntries. Says how many objects were removed.
Result<int> release_by_hand(kube::Client& client, const std::string& lease_ns, const std::string& lease_name,
                            const std::string& service);

}  // namespace ballast::actuate::istio
