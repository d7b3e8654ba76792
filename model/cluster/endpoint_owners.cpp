// SPDX-License-Identifier: Apache-2.0
#include "model/cluster/endpoint_owners.h"

namespace ballast::cluster {

bool EndpointOwners::owns(const std::string& node, const spec::EndpointTelemetry& endpoint) {
  const std::lock_guard lock(mutex_);
  if (const std::uint64_t version = catalog_.version(); version != version_) {
    version_ = version;
    places_.clear();
    for (const kube::Service& service : catalog_.services()) {
      for (const kube::Endpoint& e : service.endpoints) {
        // A StatefulSet's pod that moves is in the slices twice: ready where it is, ending where it was.
        Place& place = places_[{service.ns, service.name, e.pod}];
        if (e.ready || place.node.empty()) {
          place = {e.node, e.address};
        }
      }
    }
  }
  const auto found = places_.find({endpoint.id.service.ns, endpoint.id.service.name, endpoint.id.pod});
  return found != places_.end() && found->second.node == node &&
         (endpoint.address.empty() || endpoint.address == found->second.address);
}

}  // namespace ballast::cluster
