// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/membership.h"

#include <set>

namespace ballast::loop {

std::vector<spec::EndpointTelemetry> members(const std::vector<spec::EndpointTelemetry>& endpoints,
                                             const std::vector<identity::Pod>& pods) {
  std::set<spec::EndpointId> there;
  std::set<spec::ServiceId> served;
  for (const identity::Pod& pod : pods) {
    if (!pod.service.empty() && (!pod.local || pod.cgroup_id != 0)) {
      there.insert({{pod.ns, pod.service}, pod.pod});
      served.insert({pod.ns, pod.service});
    }
  }
  std::vector<spec::EndpointTelemetry> kept;
  kept.reserve(endpoints.size());
  for (const spec::EndpointTelemetry& endpoint : endpoints) {
    if (there.contains(endpoint.id) || !served.contains(endpoint.id.service)) {
      kept.push_back(endpoint);
    }
  }
  return kept;
}

}  // namespace ballast::loop
