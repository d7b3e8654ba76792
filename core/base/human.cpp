// SPDX-License-Identifier: Apache-2.0
#include "core/base/human.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <utility>

namespace ballast {

std::string human_number(double value) {
  if (!std::isfinite(value)) {
    return "-";
  }
  const double size = std::abs(value);
  if (size == 0) {
    return "0";
  }
  // The limits are where rounding to three digits reaches the next power of ten.
  if (size >= 99.95) {
    return fmt::format("{:.0f}", value);
  }
  if (size >= 9.995) {
    return fmt::format("{:.1f}", value);
  }
  return size >= 0.0995 ? fmt::format("{:.2f}", value) : fmt::format("{:.3g}", value);
}

std::string human_duration_ns(double ns) {
  if (!std::isfinite(ns)) {
    return "-";
  }
  constexpr std::array<std::pair<double, const char*>, 6> kUnits = {
      {{1, "ns"}, {1e3, "µs"}, {1e6, "ms"}, {1e9, "s"}, {60e9, "min"}, {3600e9, "h"}}};
  std::size_t unit = 0;
  while (unit + 1 < kUnits.size()) {
    // Seconds up to two minutes, minutes up to two hours: "90 s" reads better than "1.5 min".
    const double next = kUnits[unit + 1].first * (unit >= 3 ? 2 : 0.9995);
    if (std::abs(ns) < next) {
      break;
    }
    ++unit;
  }
  return human_number(ns / kUnits[unit].first) + " " + kUnits[unit].second;
}

std::string human_bytes(double bytes) {
  if (!std::isfinite(bytes)) {
    return "-";
  }
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  std::size_t unit = 0;
  while (unit + 1 < kUnits.size() && std::abs(bytes) >= 1024) {
    bytes /= 1024;
    ++unit;
  }
  return (unit == 0 ? fmt::format("{:.0f}", bytes) : human_number(bytes)) + " " + kUnits[unit];
}

std::string human_percent(double share) {
  return std::isfinite(share) ? human_number(share * 100) + " %" : "-";
}

}  // namespace ballast
