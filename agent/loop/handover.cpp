// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/handover.h"

#include <algorithm>

namespace ballast::loop {

guard::Answer Handover::settle(const spec::ServiceId& id, Service& service) const {
  const guard::Answer answer = sink_.answer(id);
  if (answer.in_force()) {
    service.in_force = service.handed_over;
  }
  return answer;
}

void Handover::settle() {
  for (auto& [id, service] : services_) {
    settle(id, service);
  }
}

Status Handover::take(turn::Decision& decision) {
  const guard::GuardedWeights& weights = decision.weights;
  Service& service = services_[weights.service()];
  if (weights.changed() || !service.refusal) {
    service.refusal = sink_.publish(weights);
    if (service.refusal) {
      service.handed_over.clear();
      for (const guard::WeightedEndpoint& endpoint : weights.endpoints()) {
        service.handed_over[endpoint.id.pod] = endpoint.weight;
      }
    }
  } else {
    sink_.renew(weights.service());
  }
  complete(decision);
  return service.refusal;
}

bool Handover::refused() const {
  return std::ranges::any_of(services_, [](const auto& one) { return !one.second.refusal; });
}

void Handover::complete(turn::Decision& decision) {
  Service& service = services_[decision.weights.service()];
  decision.answer = settle(decision.weights.service(), service);
  if (!service.refusal) {
    decision.answer = {guard::Outcome::kRefused, service.refusal.error().message};
  }
  decision.in_force.clear();
  for (const guard::WeightedEndpoint& endpoint : decision.weights.endpoints()) {
    const auto found = service.in_force.find(endpoint.id.pod);
    decision.in_force.push_back(found == service.in_force.end() ? 0 : found->second);
  }
}

}  // namespace ballast::loop
