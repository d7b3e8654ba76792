// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/map_fill.h"

#include <bpf/bpf.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <system_error>

#include "core/base/unique_fd.h"

namespace ballast::sample {

namespace {

std::optional<MapFill> fill_of(const std::filesystem::path& pin) {
  const UniqueFd map(::bpf_obj_get(pin.c_str()));
  bpf_map_info info{};
  std::uint32_t size = sizeof info;
  if (!map || ::bpf_obj_get_info_by_fd(map.get(), &info, &size) != 0 || info.type != BPF_MAP_TYPE_HASH) {
    return std::nullopt;
  }
  MapFill fill{pin.filename().string(), 0, info.max_entries};
  std::vector<char> key(info.key_size);
  std::vector<char> next(info.key_size);
  const char* previous = nullptr;
  errno = 0;
  // A key that is removed under the walk sends it back to the beginning: bounded all the same.
  while (fill.entries < fill.max_entries && ::bpf_map_get_next_key(map.get(), previous, next.data()) == 0) {
    ++fill.entries;
    key.swap(next);
    previous = key.data();
  }
  // What is pinned here may be a link, whose information only looks like a map's.
  return previous == nullptr && errno != ENOENT ? std::nullopt : std::make_optional(fill);
}

}  // namespace

std::vector<MapFill> map_fills(const std::filesystem::path& bpffs) {
  std::vector<MapFill> fills;
  std::error_code ignored;
  for (const auto& pin : std::filesystem::directory_iterator(bpffs, ignored)) {
    if (auto fill = fill_of(pin.path())) {
      fills.push_back(std::move(*fill));
    }
  }
  std::sort(fills.begin(), fills.end(), [](const MapFill& a, const MapFill& b) { return a.name < b.name; });
  return fills;
}

}  // namespace ballast::sample
