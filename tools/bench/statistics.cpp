// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/statistics.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "model/sim/random.h"

namespace ballast::bench {
namespace {

constexpr std::size_t kResamples = 2000;
constexpr std::uint64_t kSeed = 20'000;

double mean(const std::vector<double>& values) {
  return values.empty()
             ? 0
             : std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::vector<double> picked(const std::vector<double>& values, const std::vector<std::size_t>& indices) {
  std::vector<double> out;
  out.reserve(indices.size());
  for (const std::size_t i : indices) {
    out.push_back(values[i]);
  }
  return out;
}

}  // namespace

double interquartile_mean(std::vector<double> values) {
  if (values.empty()) {
    return 0;
  }
  std::sort(values.begin(), values.end());
  const double n = static_cast<double>(values.size());
  double sum = 0;
  double weight = 0;
  for (std::size_t i = 0; i < values.size(); ++i) {
    // How much of the value's place [i, i + 1) lies in the middle half.
    const double place = static_cast<double>(i);
    const double inside = std::min(place + 1, 0.75 * n) - std::max(place, 0.25 * n);
    if (inside > 0) {
      sum += inside * values[i];
      weight += inside;
    }
  }
  return sum / weight;
}

Estimate bootstrap(std::size_t n, const std::function<double(const std::vector<std::size_t>&)>& statistic) {
  if (n == 0) {
    return {};
  }
  std::vector<std::size_t> indices(n);
  std::iota(indices.begin(), indices.end(), std::size_t{0});
  const double value = statistic(indices);
  sim::Rng random(kSeed);
  std::vector<double> seen;
  seen.reserve(kResamples);
  for (std::size_t k = 0; k < kResamples; ++k) {
    for (auto& index : indices) {
      index = random.below(static_cast<std::uint32_t>(n));
    }
    seen.push_back(statistic(indices));
  }
  std::sort(seen.begin(), seen.end());
  const auto at = [&](double q) {
    return seen[static_cast<std::size_t>(std::lround(q * static_cast<double>(kResamples - 1)))];
  };
  return {value, at(0.025), at(0.975)};
}

Estimate bootstrap_mean(const std::vector<double>& values) {
  return bootstrap(values.size(), [&](const auto& indices) { return mean(picked(values, indices)); });
}

Estimate bootstrap_iqm(const std::vector<double>& values) {
  return bootstrap(values.size(),
                   [&](const auto& indices) { return interquartile_mean(picked(values, indices)); });
}

Estimate paired_ratio(const std::vector<double>& a, const std::vector<double>& b) {
  const std::size_t n = std::min(a.size(), b.size());
  const auto greatest = [](const std::vector<double>& v) {
    return v.empty() ? 0.0 : *std::max_element(v.begin(), v.end());
  };
  const double least = std::max(greatest(a), greatest(b)) / 1000;
  std::vector<double> logs;
  for (std::size_t i = 0; i < n; ++i) {
    logs.push_back(least <= 0 ? 0 : std::log(std::max(a[i], least)) - std::log(std::max(b[i], least)));
  }
  const Estimate interval = bootstrap_mean(logs);
  return {std::exp(interval.value), std::exp(interval.low), std::exp(interval.high)};
}

}  // namespace ballast::bench
