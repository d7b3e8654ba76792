// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/dry_run.h"

#include <iterator>

#include "core/base/log.h"

namespace ballast::actuate {

Status DryRunSink::publish(const guard::GuardedWeights& weights) {
  std::string list;
  for (const guard::WeightedEndpoint& endpoint : weights.endpoints()) {
    fmt::format_to(std::back_inserter(list), "{}{}={}", list.empty() ? "" : ",", endpoint.id.pod,
                   endpoint.weight);
  }
  spdlog::info("dry run, would publish service={}/{} neutral={} weights={}", weights.service().ns,
               weights.service().name, weights.neutral(), list);
  return ok();
}

Status DryRunSink::withdraw(const spec::ServiceId& service) {
  spdlog::info("dry run, would withdraw service={}/{}", service.ns, service.name);
  return ok();
}

}  // namespace ballast::actuate
