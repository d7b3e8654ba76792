// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/call_room.h"

#include <algorithm>
#include <iterator>
#include <map>

namespace ballast::sample {

std::vector<ballast_call_key> crowding_calls(const std::vector<CallRow>& rows, std::size_t most) {
  std::map<CgroupId, std::vector<const CallRow*>> callers;
  for (const CallRow& row : rows) {
    callers[row.key.cgroup_id].push_back(&row);
  }
  std::vector<ballast_call_key> out;
  for (auto& [id, edges] : callers) {
    if (edges.size() > most) {
      std::ranges::sort(edges, {}, [](const CallRow* row) { return row->value.last_seen_ns; });
      edges.resize(edges.size() - most);
      std::ranges::transform(edges, std::back_inserter(out), [](const CallRow* row) { return row->key; });
    }
  }
  return out;
}

Status make_call_room(const PinnedMaps& maps, MonotonicNs now) {
  const auto rows = maps.calls();
  if (!rows) {
    return rows.error();
  }
  if (rows->size() * 4 < BALLAST_MAX_CALLS * 3U) {
    return ok();
  }
  return maps.crowd_out_calls(crowding_calls(*rows, kMostCalls), now);
}

}  // namespace ballast::sample
