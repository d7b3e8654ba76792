// SPDX-License-Identifier: Apache-2.0
#include "agent/observe/callers.h"

#include <arpa/inet.h>

#include <algorithm>
#include <cstring>
#include <iterator>

namespace ballast::observe {

namespace {

std::string name_of(const std::string& ns, const std::string& pod) {
  return ns + "/" + pod;
}

/// As the kernel writes it: IPv6, v4 mapped.
bool parse(const std::string& text, std::array<std::uint8_t, 16>& out) {
  out = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  return ::inet_pton(AF_INET, text.c_str(), out.data() + 12) == 1 ||
         ::inet_pton(AF_INET6, text.c_str(), out.data()) == 1;
}

/// None where the map was made anew.
Callers::Seen grown(const ballast_call_value& now, const Callers::Seen& before) {
  Callers::Seen delta;
  if (now.responses < before.answers || now.first_byte.sum_ns < before.first_byte.sum_ns) {
    return delta;
  }
  delta.answers = now.responses - before.answers;
  delta.first_byte.sum_ns = now.first_byte.sum_ns - before.first_byte.sum_ns;
  for (std::size_t i = 0; i < delta.first_byte.buckets.size(); ++i) {
    const std::uint64_t bucket = now.first_byte.buckets[i];
    delta.first_byte.buckets[i] = bucket - std::min(bucket, before.first_byte.buckets[i]);
    delta.first_byte.count += delta.first_byte.buckets[i];
  }
  return delta;
}

}  // namespace

void Callers::plan(const std::vector<identity::Pod>& pods, const std::vector<std::string>& sidecars) {
  endpoints_.clear();
  callers_.clear();
  for (const identity::Pod& pod : pods) {
    if (!pod.local || pod.cgroup_id == 0) {
      continue;
    }
    callers_[pod.cgroup_id] = {name_of(pod.ns, pod.pod),
                               std::ranges::find(sidecars, pod.container) != sidecars.end()};
    Peer peer{{}, pod.port};
    if (!pod.service.empty() && parse(pod.address, peer.first)) {
      auto& at = endpoints_[peer];
      const spec::EndpointId id{{pod.ns, pod.service}, pod.pod};
      if (std::ranges::find(at, id) == at.end()) {
        at.push_back(id);
      }
    }
  }
  std::erase_if(known_, [this](const auto& one) { return !endpoints_.contains(one.first); });
  std::erase_if(before_, [this](const auto& one) { return !endpoints_.contains(one.first.second.first); });
}

std::map<spec::EndpointId, Callers::Seen> Callers::update(const std::vector<sample::CallRow>& rows) {
  std::map<spec::EndpointId, Seen> from_sidecar;
  std::map<spec::EndpointId, Seen> from_others;
  for (const sample::CallRow& row : rows) {
    Peer peer{{}, row.key.port};
    std::copy(std::begin(row.key.peer), std::end(row.key.peer), peer.first.begin());
    const auto called = endpoints_.find(peer);
    if (called == endpoints_.end()) {
      continue;
    }
    Seen& before = before_[{row.key.cgroup_id, {peer, row.key.protocol}}];
    const Seen delta = grown(row.value, before);
    before.answers = row.value.responses;
    before.first_byte.sum_ns = row.value.first_byte.sum_ns;
    std::copy(std::begin(row.value.first_byte.buckets), std::end(row.value.first_byte.buckets),
              before.first_byte.buckets.begin());
    const auto caller = callers_.find(row.key.cgroup_id);
    const auto known = known_.find(peer);
    for (const spec::EndpointId& id : called->second) {
      const bool own = caller != callers_.end() && caller->second.pod == name_of(id.service.ns, id.pod);
      if (known == known_.end() || (own && !caller->second.sidecar)) {
        continue;
      }
      known->second |= own;
      Seen& seen = own ? from_sidecar[id] : from_others[id];
      seen.answers += delta.answers;
      seen.first_byte.add(delta.first_byte);
    }
  }
  std::map<spec::EndpointId, Seen> out;
  for (const auto& [peer, ids] : endpoints_) {
    const auto [known, fresh] = known_.try_emplace(peer, false);
    for (const spec::EndpointId& id : ids) {
      if (!fresh) {
        out[id] = known->second ? from_sidecar[id] : from_others[id];
      }
    }
  }
  return out;
}

}  // namespace ballast::observe
