// SPDX-License-Identifier: Apache-2.0
#include "agent/fleet/join.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "agent/observe/observation.h"

namespace ballast::fleet {

namespace {

using ById = std::map<spec::EndpointId, const decide::Proposal*>;

ById by_id(const decide::ServiceProposal* proposal) {
  ById out;
  if (proposal != nullptr) {
    for (const decide::Proposal& p : proposal->endpoints) {
      out[p.id] = &p;
    }
  }
  return out;
}

double seconds(MonotonicNs from, MonotonicNs to) {
  return to > from ? static_cast<double>(to - from) * 1e-9 : 0;
}

void set_shares(ServiceView& view) {
  const auto log_weight = [](const EndpointView& e) { return e.log_prior + e.offset; };
  double highest = -INFINITY;
  for (const EndpointView& e : view.endpoints) {
    highest = std::max(highest, log_weight(e));
  }
  double sum = 0;
  for (EndpointView& e : view.endpoints) {
    e.share = view.neutral ? 1 : std::exp(log_weight(e) - highest);
    sum += e.share;
  }
  for (EndpointView& e : view.endpoints) {
    e.share /= sum;
  }
}

}  // namespace

ServiceView join_service(const spec::ServiceAggregate& aggregate,
                         std::span<const spec::EndpointTelemetry> endpoints,
                         const decide::ServiceProposal* proposal, MonotonicNs now) {
  ServiceView view{.service = aggregate.service,
                   .neutral = proposal == nullptr || proposal->neutral,
                   .why = proposal == nullptr ? "neutral: no policy has spoken" : proposal->why,
                   .p99_ns = aggregate.p99_ns,
                   .error_rate = aggregate.error_rate};
  const ById proposals = by_id(proposal);
  view.endpoints.reserve(endpoints.size());
  for (const spec::EndpointTelemetry& t : endpoints) {
    EndpointView e{.id = t.id,
                   .address = t.address,
                   .port = t.port,
                   .known = t.known,
                   .age_s = seconds(t.taken, now),
                   .log_prior = observe::log_prior(t, aggregate)};
    if (const auto it = proposals.find(t.id); t.known && it != proposals.end()) {
      e.log_prior = it->second->log_prior;
      e.offset = it->second->offset;
    }
    view.qps += t.known && std::isfinite(t.qps) ? std::max(t.qps, 0.0) : 0;
    view.endpoints.push_back(std::move(e));
  }
  set_shares(view);
  return view;
}

}  // namespace ballast::fleet
