// SPDX-License-Identifier: Apache-2.0
#include "core/base/statistics.h"

#include <algorithm>
#include <cmath>

namespace ballast {
namespace {

double nth(std::vector<double>& values, std::size_t n) {
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(n);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

}  // namespace

double quantile_of_sorted(const std::vector<double>& values, double q) {
  if (values.empty()) {
    return 0;
  }
  const double at = std::clamp(q, 0.0, 1.0) * static_cast<double>(values.size() - 1);
  const auto low = static_cast<std::size_t>(std::floor(at));
  const std::size_t high = std::min(low + 1, values.size() - 1);
  const double part = at - static_cast<double>(low);
  return values[low] + (values[high] - values[low]) * part;
}

double nearest_rank_of_sorted(const std::vector<double>& values, double q) {
  if (values.empty()) {
    return 0;
  }
  const double rank = std::ceil(std::clamp(q, 0.0, 1.0) * static_cast<double>(values.size()));
  return values[static_cast<std::size_t>(std::max(rank, 1.0)) - 1];
}

double median_in_place(std::span<double> values) {
  if (values.empty()) {
    return 0;
  }
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  if (values.size() % 2 == 1) {
    return *middle;
  }
  return (*middle + *std::max_element(values.begin(), middle)) / 2;
}

double median(std::vector<double> values) {
  return median_in_place(values);
}

double median_low(std::vector<double> values) {
  return values.empty() ? 0 : nth(values, (values.size() - 1) / 2);
}

double median_high(std::vector<double> values) {
  return values.empty() ? 0 : nth(values, values.size() / 2);
}

}  // namespace ballast
