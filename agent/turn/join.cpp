// SPDX-License-Identifier: Apache-2.0
#include "agent/turn/join.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <utility>

#include "core/observe/observation.h"

namespace ballast::turn {

guard::ServiceView join(const fleet::Service& service, const decide::ServiceProposal& proposal,
                        MonotonicNs now) {
  const spec::ServiceAggregate& aggregate = service.aggregate;
  guard::ServiceView view{.service = aggregate.service,
                          .neutral = proposal.neutral,
                          .why = proposal.why,
                          .p99_ns = aggregate.p99_ns,
                          .error_rate = aggregate.error_rate};
  std::map<spec::EndpointId, const decide::Proposal*> proposals;
  for (const decide::Proposal& p : proposal.endpoints) {
    proposals[p.id] = &p;
  }
  std::vector<double> log_weights;
  double highest = -INFINITY;
  for (const spec::EndpointTelemetry& t : service.endpoints) {
    double log_prior = observe::log_prior(t, aggregate);
    double offset = 0;
    if (const auto it = proposals.find(t.id); t.known && it != proposals.end()) {
      log_prior = it->second->log_prior;
      offset = it->second->offset;
    }
    log_weights.push_back(log_prior + offset);
    highest = std::max(highest, log_weights.back());
    view.qps += t.known && std::isfinite(t.qps) ? std::max(t.qps, 0.0) : 0;
    view.endpoints.push_back({.id = t.id,
                              .address = t.address,
                              .port = t.port,
                              .known = t.known,
                              .age_s = now > t.taken ? static_cast<double>(now - t.taken) * 1e-9 : 0,
                              .requests = t.tick_requests,
                              .success = t.success,
                              .in_flight = t.in_flight,
                              .answered = t.tick_p50_ns > 0,
                              .answers_per_s = t.answers_per_s,
                              .seen_per_s = t.seen_per_s,
                              .offset = offset,
                              .p99_ns = t.known ? t.p99_ns : 0,
                              .seen_p99_ns = t.known ? t.seen_p99_ns : 0});
  }
  double sum = 0;
  for (std::size_t i = 0; i < log_weights.size(); ++i) {
    view.endpoints[i].share = view.neutral ? 1 : std::exp(log_weights[i] - highest);
    sum += view.endpoints[i].share;
  }
  for (guard::EndpointView& e : view.endpoints) {
    e.share /= sum;
  }
  return view;
}

}  // namespace ballast::turn
