// SPDX-License-Identifier: Apache-2.0
#include "agent/turn/turn.h"

#include <algorithm>
#include <utility>

#include "agent/turn/join.h"
#include "core/observe/observation.h"

namespace ballast::turn {

fleet::LocalReport Turn::report(std::vector<spec::EndpointTelemetry> own, const spec::LoopTiming& loop,
                                bool writes) const {
  fleet::LocalReport report{.loop = loop, .writes = writes, .endpoints = {}};
  report.endpoints.reserve(own.size());
  for (spec::EndpointTelemetry& telemetry : own) {
    double offset = 0;
    if (const auto service = offsets_.find(telemetry.id.service); service != offsets_.end()) {
      const auto found = service->second.find(telemetry.id);
      offset = found == service->second.end() ? 0 : found->second.in_force;
    }
    report.endpoints.push_back({std::move(telemetry), offset});
  }
  return report;
}

const std::vector<spec::ServiceObservation>& Turn::observe(std::vector<fleet::Service> services,
                                                           const spec::LoopTiming& loop) {
  loop_ = loop;
  services_ = std::move(services);
  observations_.clear();
  for (const fleet::Service& service : services_) {
    const Offsets& offsets = offsets_[service.aggregate.service];
    auto& seen = observations_.emplace_back(
        observe::observe(service.aggregate, service.endpoints, service.offsets, loop));
    for (std::size_t i = 0; i < seen.endpoints.size(); ++i) {
      spec::EndpointObservation& endpoint = seen.endpoints[i];
      endpoint.own = service.own[i];
      const auto found = offsets.find(endpoint.telemetry.id);
      endpoint.offset = !endpoint.own ? service.offsets[i] : found == offsets.end() ? 0 : found->second.kept;
    }
  }
  return observations_;
}

guard::GuardedWeights Turn::apply(const fleet::Service& service, const decide::ServiceProposal& proposal,
                                  const WordOf& word_of) {
  guard::ServiceView view = join(service, proposal, loop_.now);
  view.word = word_of ? word_of(view.service) : guard::Word();
  Offsets& offsets = offsets_[service.aggregate.service];
  Offsets next;
  for (const decide::Proposal& p : proposal.endpoints) {
    next[p.id].kept = proposal.level ? offsets[p.id].kept : p.offset;
  }
  for (const guard::EndpointView& e : view.endpoints) {
    next[e.id].in_force = e.offset;
  }
  offsets = std::move(next);
  return guard_.apply(view, loop_.now);
}

std::vector<Decision> Turn::act(std::vector<decide::ServiceProposal> proposals, const WordOf& word_of) {
  std::vector<Decision> decisions;
  for (std::size_t i = 0; i < std::min(proposals.size(), services_.size()); ++i) {
    spec::ServiceObservation& seen = observations_[i];
    decide::ServiceProposal& proposal = proposals[i];
    for (std::size_t e = 0; e < std::min(seen.endpoints.size(), proposal.endpoints.size()); ++e) {
      if (!seen.endpoints[e].own) {
        proposal.endpoints[e] = {.id = proposal.endpoints[e].id,
                                 .log_prior = proposal.endpoints[e].log_prior,
                                 .offset = seen.endpoints[e].offset};
      }
    }
    guard::GuardedWeights weights = apply(services_[i], proposal, word_of);
    decisions.push_back({std::move(seen), std::move(proposal), std::move(weights)});
  }
  for (auto known = offsets_.begin(); known != offsets_.end();) {
    const bool there = std::ranges::any_of(
        services_, [&](const fleet::Service& service) { return service.aggregate.service == known->first; });
    if (!there) {
      decisions.push_back({{}, {}, guard_.apply({.service = known->first}, loop_.now)});
    }
    known = there ? std::next(known) : offsets_.erase(known);
  }
  std::ranges::sort(decisions, {}, [](const Decision& decision) { return decision.weights.service(); });
  return decisions;
}

std::vector<Decision> Turn::decide(std::vector<fleet::Service> services, const spec::LoopTiming& loop,
                                   decide::Policy& policy, const WordOf& word_of) {
  std::vector<decide::ServiceProposal> proposals;
  for (const spec::ServiceObservation& seen : observe(std::move(services), loop)) {
    proposals.push_back(policy.decide(seen, loop));
  }
  return act(std::move(proposals), word_of);
}

std::vector<Decision> Turn::release() {
  std::vector<Decision> decisions;
  for (const spec::ServiceId& service : guard_.services()) {
    decisions.push_back({{}, {}, guard_.release(service)});
  }
  return decisions;
}

}  // namespace ballast::turn
