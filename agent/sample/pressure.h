// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string_view>

namespace ballast::sample {

/// Pressure stall information of one resource (Documentation/accounting/psi.rst, kernel 4.20 on).
struct PressureLine {
  double avg10 = 0;            ///< share of the last ten seconds, in percent
  std::uint64_t total_us = 0;  ///< since the cgroup was made
};
struct Pressure {
  PressureLine some;  ///< at least one task waited for the resource
  PressureLine full;  ///< all tasks that could do something waited
};

enum class Resource { kCpu, kMemory, kIo };
inline constexpr std::array<Resource, 3> kResources = {Resource::kCpu, Resource::kMemory, Resource::kIo};
const char* resource_name(Resource resource);  ///< "cpu", "memory", "io"

/// By place in kResources. None: this kernel or cgroup has no such file (v1, psi=0, cgroup gone).
using Pressures = std::array<std::optional<Pressure>, kResources.size()>;

/// The text of a `*.pressure` file; `full` of the CPU is absent before 5.13. nullopt: no such text.
std::optional<Pressure> parse_pressure(std::string_view text);

/// Of one cgroup's folder below the v2 mount. The files need no controller, so a hybrid host has
/// them beside v1's.
Pressures read_pressures(const std::filesystem::path& cgroup_folder);

}  // namespace ballast::sample
