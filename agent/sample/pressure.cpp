// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/pressure.h"

#include <charconv>
#include <cstddef>
#include <string>

#include "core/base/file.h"

namespace ballast::sample {

namespace {

/// The number after `key` in a line of key=value pairs.
template <typename Number>
bool pair(std::string_view line, std::string_view key, Number& value) {
  const std::size_t at = line.find(key);
  if (at == std::string_view::npos) {
    return false;
  }
  const char* begin = line.data() + at + key.size();
  return std::from_chars(begin, line.data() + line.size(), value).ec == std::errc{};
}

bool parse_line(std::string_view text, std::string_view kind, PressureLine& out) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (line.substr(0, kind.size()) == kind) {
      PressureLine parsed;
      if (pair(line, " avg10=", parsed.avg10) && pair(line, " total=", parsed.total_us)) {
        out = parsed;
        return true;
      }
      return false;
    }
    at = end + 1;
  }
  return false;
}

}  // namespace

const char* resource_name(Resource resource) {
  switch (resource) {
    case Resource::kCpu:
      return "cpu";
    case Resource::kMemory:
      return "memory";
    case Resource::kIo:
      break;
  }
  return "io";
}

std::optional<Pressure> parse_pressure(std::string_view text) {
  Pressure pressure;
  if (!parse_line(text, "some ", pressure.some)) {
    return std::nullopt;
  }
  parse_line(text, "full ", pressure.full);
  return pressure;
}

Pressures read_pressures(const std::filesystem::path& cgroup_folder) {
  Pressures pressures;
  for (std::size_t i = 0; i < kResources.size(); ++i) {
    const auto text = read_file(cgroup_folder / (std::string(resource_name(kResources[i])) + ".pressure"));
    pressures[i] = text ? parse_pressure(*text) : std::nullopt;
  }
  return pressures;
}

}  // namespace ballast::sample
