// SPDX-License-Identifier: Apache-2.0
#include "agent/fleet/local.h"

#include <algorithm>

#include "agent/fleet/join.h"
#include "agent/observe/aggregate.h"

namespace ballast::fleet {

void LocalFleet::set_loop(double tick_s, double loop_delay_s, bool /*writes*/) {
  loop_.tick_s = tick_s;
  loop_.loop_delay_s = loop_delay_s;
}

std::vector<spec::ServiceAggregate> LocalFleet::report(const std::vector<spec::EndpointTelemetry>& endpoints,
                                                       MonotonicNs now) {
  loop_.now = now;
  std::map<spec::EndpointId, const spec::EndpointTelemetry*> latest;
  for (const spec::EndpointTelemetry& t : endpoints) {
    latest[t.id] = &t;
  }
  for (auto& [id, service] : services_) {
    service.endpoints.clear();
  }
  for (const auto& [id, telemetry] : latest) {
    services_[id.service].endpoints.push_back(*telemetry);
  }

  std::vector<spec::ServiceAggregate> aggregates;
  for (auto it = services_.begin(); it != services_.end();) {
    Service& service = it->second;
    if (service.endpoints.empty()) {
      gone_.push_back(it->first);
      it = services_.erase(it);
      continue;
    }
    std::vector<double> offsets;
    offsets.reserve(service.endpoints.size());
    for (const spec::EndpointTelemetry& t : service.endpoints) {
      const auto offset = service.offsets.find(t.id);
      offsets.push_back(offset == service.offsets.end() ? 0 : offset->second);
    }
    service.aggregate = observe::aggregate(it->first, service.endpoints, offsets, loop_, service.persistence);
    aggregates.push_back(service.aggregate);
    ++it;
  }
  return aggregates;
}

std::vector<ServiceView> LocalFleet::join(const std::vector<decide::ServiceProposal>& proposals,
                                          MonotonicNs now) {
  std::map<spec::ServiceId, const decide::ServiceProposal*> by_service;
  for (const decide::ServiceProposal& proposal : proposals) {
    by_service[proposal.service] = &proposal;
  }
  std::vector<ServiceView> views;
  for (const spec::ServiceId& id : gone_) {
    if (!services_.contains(id)) {
      views.push_back({.service = id, .why = "no endpoints"});
    }
  }
  gone_.clear();
  for (auto& [id, service] : services_) {
    const auto proposal = by_service.find(id);
    views.push_back(join_service(service.aggregate, service.endpoints,
                                 proposal == by_service.end() ? nullptr : proposal->second, now));
    service.offsets.clear();
    for (const EndpointView& e : views.back().endpoints) {
      service.offsets[e.id] = e.offset;
    }
  }
  std::sort(views.begin(), views.end(), [](const auto& a, const auto& b) { return a.service < b.service; });
  return views;
}

}  // namespace ballast::fleet
