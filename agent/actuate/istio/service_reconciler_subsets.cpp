// SPDX-License-Identifier: Apache-2.0
//
// A Service whose weights are those of its subsets.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include "agent/actuate/istio/service_reconciler.h"

namespace ballast::actuate::istio {

/// False: it has to be let go.
bool ServiceReconciler::keep_subsets(const kube::Service& service, Held& held, const Weights& weights,
                                     const Wanted& wanted, MonotonicNs now) {
  const std::vector<Subset> subsets = subsets_of(service, wanted.conflicting_routes, options_.plan.domain);
  const auto leads_nowhere = [&] { return held.route && lacks_pods(service, subsets, held.shares, facts_); };
  // A share that nobody can answer is as bad as an address that is dead, and may last no longer.
  const auto waits = [&] { return !behind(service, held, leads_nowhere(), {}, now); };
  if (!learn_facts(service, held, now) || held.retry > now) {
    due(held.retry > now ? held.retry : now + options_.retry_ns);
    return waits();
  }
  const SubsetShares found = subset_shares(service, subsets, weights, facts_);
  if (found.refusal) {
    // What is in force stays until there is a subset for everyone: a rolling update passes through here.
    say(service, true, found.refusal->reason, found.refusal->message);
    return !leads_nowhere();
  }
  if (held.route) {
    look_for_drift(held, wanted, now);
  }
  int step = 0;
  bool same = held.route && !held.route->spec.is_null() && held.shares.size() == found.shares.size();
  for (const auto& [subset, share] : found.shares) {
    const auto before = held.shares.find(subset);
    same = same && before != held.shares.end();
    step = std::max(step, same ? std::abs(share - before->second) : 0);
  }
  if (same && step < options_.subset_step) {
    return true;
  }
  if (same && now - held.written < options_.subset_apart_ns) {
    due(held.written + options_.subset_apart_ns);
    return true;
  }
  if (!write_route(service, held, virtual_service(service, options_.plan, found.shares), now)) {
    return waits();
  }
  held.shares = found.shares;
  held.behind = 0;
  say(service, false, "Managed", managed_message(service, held));
  return true;
}

}  // namespace ballast::actuate::istio
