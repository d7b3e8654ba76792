// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/istio/merge_window.h"

#include <algorithm>
#include <utility>

namespace ballast::actuate::istio {

Json merge_window_filter(const std::set<std::string>& hosts, const std::string& root_ns,
                         const PlanOptions& options) {
  Json patches = Json::array();
  for (const std::string& host : hosts) {
    // Not ANY: that would be the pods' inbound clusters as well.
    for (const char* context : {"SIDECAR_OUTBOUND", "GATEWAY"}) {
      patches.push_back(
          {{"applyTo", "CLUSTER"},
           {"match", {{"context", context}, {"cluster", {{"service", host}}}}},
           {"patch",
            {{"operation", "MERGE"}, {"value", {{"common_lb_config", {{"update_merge_window", "0s"}}}}}}}});
    }
  }
  return {{"apiVersion", "networking.istio.io/v1alpha3"},
          {"kind", "EnvoyFilter"},
          {"metadata", metadata(root_ns, kMergeWindowName, options)},
          {"spec", {{"priority", -1000}, {"configPatches", std::move(patches)}}}};
}

Status MergeWindow::put(const PlanOptions& plan, MonotonicNs now) {
  looked_ = now;
  const Json wanted = merge_window_filter(hosts_, options_.root_ns, plan);
  Others others = Others::kNothing;
  return writer_.put(wanted, have_, others);
}

Status MergeWindow::keep(const std::set<std::string>& hosts, const PlanOptions& plan, MonotonicNs now,
                         MonotonicNs& next) {
  next = 0;
  if (options_.root_ns.empty()) {
    return ok();
  }
  const auto due = [&](MonotonicNs at) { next = next == 0 || at < next ? at : next; };
  // Since when each host has been other than the object says; the oldest decides for all of its kind.
  const auto note = [&](std::map<std::string, MonotonicNs>& since, const std::set<std::string>& now_there,
                        const std::set<std::string>& before, MonotonicNs wait) {
    std::erase_if(
        since, [&](const auto& one) { return !now_there.contains(one.first) || before.contains(one.first); });
    MonotonicNs oldest = now;
    for (const std::string& host : now_there) {
      if (!before.contains(host)) {
        oldest = std::min(oldest, since.try_emplace(host, now).first->second);
      }
    }
    if (!since.empty() && now - oldest < wait) {
      due(oldest + wait);
    }
    return !since.empty() && now - oldest >= wait;
  };
  const bool more = note(comes_, hosts, hosts_, options_.gather_ns);
  const bool fewer = note(went_, hosts_, hosts, options_.linger_ns);
  if (fewer && hosts.empty()) {
    // Until it is gone the hosts are its own, so that a removal that failed is tried again.
    Status removed = remove();
    if (!removed) {
      due(now + options_.gather_ns);
    }
    return removed;
  }
  if (more) {
    hosts_.insert(hosts.begin(), hosts.end());
  }
  if (fewer) {
    hosts_ = hosts;
  }
  if (hosts_.empty()) {
    return ok();
  }
  const bool look = now - looked_ >= options_.look_ns;
  if (look && !have_.uid.empty()) {
    looked_ = now;
    if (Status looked = writer_.look(merge_window_filter(hosts_, options_.root_ns, plan), have_); !looked) {
      due(now + options_.gather_ns);
      return looked;
    }
  }
  // A write that failed is tried again when one that is refused may have been allowed.
  if (more || fewer || look) {
    if (Status done = put(plan, now); !done) {
      have_ = {};
      looked_ = now > options_.look_ns ? now - options_.look_ns + options_.gather_ns : 0;
      due(now + options_.gather_ns);
      return done;
    }
  }
  due(looked_ + options_.look_ns);
  return ok();
}

Status MergeWindow::remove() {
  if (options_.root_ns.empty()) {
    return ok();
  }
  if (Status removed = writer_.remove("EnvoyFilter", options_.root_ns, kMergeWindowName, have_.uid);
      !removed) {
    return removed;
  }
  have_ = {};
  hosts_.clear();
  comes_.clear();
  went_.clear();
  return ok();
}

}  // namespace ballast::actuate::istio
