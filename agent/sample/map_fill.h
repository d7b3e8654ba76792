// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace ballast::sample {

/// How full a map is. A full one is counted under the loss reason map_full; what is in it stays right.
struct MapFill {
  std::string name;
  std::uint64_t entries = 0;
  std::uint64_t max_entries = 0;
};

/// The hash maps that are pinned in `bpffs`, by name. Walks their keys, 0.3 us each, so: not every
/// tick. A map that changes meanwhile may be off by what changed. Maps that cannot be opened are left
/// out.
std::vector<MapFill> map_fills(const std::filesystem::path& bpffs);

}  // namespace ballast::sample
