// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/gone.h"

#include <algorithm>
#include <utility>

namespace ballast::sample {

std::vector<CgroupId> GoneCgroups::due(const std::vector<CgroupId>& gone, MonotonicNs now) {
  std::map<CgroupId, MonotonicNs> since;
  std::vector<std::pair<MonotonicNs, CgroupId>> oldest;
  for (const CgroupId id : gone) {
    const auto known = since_.find(id);
    oldest.emplace_back(since[id] = known == since_.end() ? now : known->second, id);
  }
  since_ = std::move(since);
  std::sort(oldest.begin(), oldest.end());
  std::vector<CgroupId> forgotten;
  for (const auto& [went, id] : oldest) {
    const bool crowded = oldest.size() - forgotten.size() > kMost;
    if (now - went < (crowded ? kCrowdedNs : kForgetNs)) {
      break;
    }
    forgotten.push_back(id);
  }
  return forgotten;
}

}  // namespace ballast::sample
