// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "agent/sample/maps.h"
#include "core/base/result.h"

namespace ballast::sample {

/// Edges that one caller may have where the map of calls is nearly full.
inline constexpr std::size_t kMostCalls = BALLAST_MAX_CALLS / 16;

/// Of each caller with more than `most` edges all but its latest.
std::vector<ballast_call_key> crowding_calls(const std::vector<CallRow>& rows, std::size_t most);

/// Where the calls fill three quarters of their map, the oldest of those with more than kMostCalls go, and
/// are counted in their callers' coverage: one that calls everybody would leave no room for the others.
Status make_call_room(const PinnedMaps& maps, MonotonicNs now);

}  // namespace ballast::sample
