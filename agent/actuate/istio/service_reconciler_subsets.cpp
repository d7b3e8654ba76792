// SPDX-License-Identifier: Apache-2.0
//
// A Service whose weights are those of its subsets.
#include <algorithm>
#include <cstdlib>
#include <tuple>
#include <utility>

#include "agent/actuate/istio/service_reconciler.h"

namespace ballast::actuate::istio {

void ServiceReconciler::keep_subsets(const kube::Service& service, const Wanted& wanted, MonotonicNs now) {
  Held& held = held_[service.key()];
  held.ns = service.ns;
  held.name = object_name(service);
  if (!learn_facts(service, now) || held.retry > now) {
    due(held.retry > now ? held.retry : now + options_.retry_ns);
    return;
  }
  const SubsetShares found =
      subset_shares(service, subsets_of(service, wanted.conflicting_routes, options_.domain),
                    wanted.weights.at(service.key()), facts_);
  if (found.refusal) {
    // What is in force stays until there is a subset for everyone: a rolling update passes through here.
    say(service, true, found.refusal->reason, found.refusal->message);
    return;
  }
  const bool routed = held.phase == Phase::kRouted && held.endpoints.is_null() && !held.shares.empty();
  const bool changed = drifted(held, wanted, now);
  int step = 0;
  bool same = routed && held.shares.size() == found.shares.size();
  for (const auto& [subset, share] : found.shares) {
    const auto before = held.shares.find(subset);
    same = same && before != held.shares.end();
    step = std::max(step, same ? std::abs(share - before->second) : 0);
  }
  if (same && !changed && step < options_.subset_step) {
    return;
  }
  if (same && !changed && now - held.written < options_.subset_apart_ns) {
    due(held.written + options_.subset_apart_ns);
    return;
  }
  if (!write_route(service, held, virtual_service(service, options_.domain, found.shares), now)) {
    return;
  }
  held.shares = found.shares;
  say(service, false, "Managed",
      "traffic to the subsets of " + service_host(service, options_.domain) +
          " is weighted by Ballast; `ballastctl release` gives it back");
  if (!std::exchange(held.endpoints, Json()).is_null()) {
    std::ignore = counted(service.key(), writer_.remove("ServiceEntry", held.ns, held.name));
  }
}

}  // namespace ballast::actuate::istio
