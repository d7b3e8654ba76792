// SPDX-License-Identifier: Apache-2.0
#include "agent/fleet/local.h"

#include <algorithm>
#include <utility>

#include "core/observe/aggregate.h"

namespace ballast::fleet {

namespace {

/// Whether CPU limits a service's pods is one question, which each node answers from its own pods: the median
/// holds for all, or two nodes' capacities would not be on one scale.
void agree_on_evidence(std::vector<spec::EndpointTelemetry>& endpoints) {
  std::vector<double> evidence;
  for (const spec::EndpointTelemetry& endpoint : endpoints) {
    if (endpoint.known) {
      evidence.push_back(endpoint.cpu_evidence);
    }
  }
  if (evidence.empty()) {
    return;
  }
  const auto middle = evidence.begin() + static_cast<std::ptrdiff_t>(evidence.size() / 2);
  std::nth_element(evidence.begin(), middle, evidence.end());
  for (spec::EndpointTelemetry& endpoint : endpoints) {
    endpoint.cpu_evidence = endpoint.known ? *middle : endpoint.cpu_evidence;
  }
}

}  // namespace

std::vector<Service> LocalFleet::exchange(LocalReport report) {
  std::map<spec::EndpointId, Member*> latest;
  for (Member& member : report.endpoints) {
    latest[member.telemetry.id] = &member;
  }
  std::vector<Service> services;
  for (const auto& [id, member] : latest) {
    if (services.empty() || services.back().aggregate.service != id.service) {
      services.emplace_back().aggregate.service = id.service;
    }
    Service& service = services.back();
    service.endpoints.push_back(std::move(member->telemetry));
    service.offsets.push_back(member->offset);
    service.own.push_back(member->own);
  }
  std::map<spec::ServiceId, observe::PersistenceEstimator> kept;
  for (Service& service : services) {
    const spec::ServiceId id = service.aggregate.service;
    agree_on_evidence(service.endpoints);
    auto& persistence = kept[id] = std::move(persistence_[id]);
    service.aggregate = observe::aggregate(id, service.endpoints, service.offsets, report.loop, persistence);
  }
  persistence_ = std::move(kept);
  return services;
}

}  // namespace ballast::fleet
