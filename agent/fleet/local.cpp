// SPDX-License-Identifier: Apache-2.0
#include "agent/fleet/local.h"

#include <utility>

#include "core/observe/aggregate.h"

namespace ballast::fleet {

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
    auto& persistence = kept[id] = std::move(persistence_[id]);
    service.aggregate = observe::aggregate(id, service.endpoints, service.offsets, report.loop, persistence);
  }
  persistence_ = std::move(kept);
  return services;
}

}  // namespace ballast::fleet
