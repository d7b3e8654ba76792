// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "tools/ctl/names.h"

namespace ballast::ctl {

/// Orders rows of a map by the path of their cgroup.
template <typename Value>
void sort_by_name(std::vector<std::pair<sample::CgroupId, Value>>& rows, Names& names) {
  std::sort(rows.begin(), rows.end(), [&](const auto& a, const auto& b) {
    return names.of(a.first).cgroup < names.of(b.first).cgroup;
  });
}

}  // namespace ballast::ctl
