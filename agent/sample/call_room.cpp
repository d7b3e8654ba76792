// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/call_room.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>
#include <string>

#include "core/base/unique_fd.h"

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

Status make_call_room(const PinnedMaps& maps, const std::filesystem::path& bpffs) {
  const auto rows = maps.calls();
  if (!rows) {
    return rows.error();
  }
  if (rows->size() * 4 < BALLAST_MAX_CALLS * 3U) {
    return ok();
  }
  const UniqueFd map(::bpf_obj_get((bpffs / BALLAST_MAP_CALLS).c_str()));
  for (const ballast_call_key& key : crowding_calls(*rows, kMostCalls)) {
    if (::bpf_map_delete_elem(map.get(), &key) != 0 && errno != ENOENT) {
      return Error::failed(std::string("erasing from map ") + BALLAST_MAP_CALLS + ": " +
                           std::strerror(errno));
    }
  }
  return ok();
}

}  // namespace ballast::sample
