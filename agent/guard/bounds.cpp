// SPDX-License-Identifier: Apache-2.0
#include "agent/guard/bounds.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace ballast::guard {

std::vector<double> water_fill(const std::vector<double>& weights, const std::vector<Bound>& bounds) {
  constexpr double kLeast = 1e-6;
  const auto target = static_cast<double>(weights.size());
  const auto at = [&](double log_scale) {
    const double scale = std::exp(log_scale);
    std::vector<double> out(weights.size());
    for (std::size_t i = 0; i < weights.size(); ++i) {
      out[i] = std::clamp(scale * std::max(weights[i], kLeast), bounds[i].low, bounds[i].high);
    }
    return out;
  };
  // The sum grows with the scale, so bisection finds it; in logs, because the scale that lifts a
  // vanishing weight to its bound is as far from 1 as the weights are from each other.
  double low = -60;
  double high = 60;
  for (int i = 0; i < 80; ++i) {
    const double middle = (low + high) / 2;
    const std::vector<double> tried = at(middle);
    (std::accumulate(tried.begin(), tried.end(), 0.0) < target ? low : high) = middle;
  }
  return at((low + high) / 2);
}

std::vector<std::uint32_t> to_units(const std::vector<double>& weights, std::uint32_t scale) {
  std::vector<std::uint32_t> units(weights.size());
  std::vector<std::pair<double, std::size_t>> remainders;
  remainders.reserve(weights.size());
  std::int64_t left = static_cast<std::int64_t>(scale) * static_cast<std::int64_t>(weights.size());
  for (std::size_t i = 0; i < weights.size(); ++i) {
    // A weight that is a whole number of units but for rounding must not lose one.
    const double exact = weights[i] * scale + 1e-6;
    units[i] = std::max<std::uint32_t>(1, static_cast<std::uint32_t>(exact));
    // One that was lifted to a whole unit already has more than its part.
    remainders.emplace_back(exact < 1 ? 0 : exact - std::floor(exact), i);
    left -= units[i];
  }
  std::stable_sort(remainders.begin(), remainders.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (std::size_t k = 0; left > 0 && k < remainders.size(); ++k, --left) {
    ++units[remainders[k].second];
  }
  return units;
}

}  // namespace ballast::guard
