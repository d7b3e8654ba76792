// SPDX-License-Identifier: Apache-2.0
#include "model/sync/robust.h"

#include <algorithm>
#include <bit>
#include <limits>

namespace ballast::sync {

namespace {

constexpr std::size_t kLanes = 16;  // coordinates sorted side by side, so that the compiler vectorises
using Lane = std::array<float, kLanes>;

void order(Lane& low, Lane& high) {
  for (std::size_t i = 0; i < kLanes; ++i) {
    const float a = low[i];
    const float b = high[i];
    low[i] = b < a ? b : a;
    high[i] = b < a ? a : b;
  }
}

// Batcher's odd-even merge sort (Knuth, volume 3, algorithm 5.2.2M): no branch depends on the values.
// REQUIRES a power of two.
void sort_lanes(std::span<Lane> lanes) {
  const std::size_t n = lanes.size();
  for (std::size_t p = n / 2; p > 0; p /= 2) {
    std::size_t r = 0;
    std::size_t d = p;
    for (std::size_t q = n / 2;; q /= 2) {
      for (std::size_t i = 0; i + d < n; ++i) {
        if ((i & p) == r) {
          order(lanes[i], lanes[i + d]);
        }
      }
      if (q == p) {
        break;
      }
      d = q - p;
      r = p;
    }
  }
}

}  // namespace

std::vector<float> trimmed_mean(std::span<const std::vector<float>> rows, double trim) {
  const std::size_t k = rows.size();
  const std::size_t length = rows.front().size();
  const auto share_of = static_cast<std::size_t>(trim * static_cast<double>(k));
  const std::size_t cut = trim > 0 && k >= 3 ? std::max<std::size_t>(1, share_of) : 0;
  std::vector<float> mean(length);
  // Padding sorts behind every value and is never averaged.
  Lane padding;
  padding.fill(std::numeric_limits<float>::infinity());
  std::vector<Lane> lanes(std::bit_ceil(k));
  const double share = 1.0 / static_cast<double>(k - 2 * cut);
  for (std::size_t at = 0; at < length; at += kLanes) {
    const std::size_t width = std::min(kLanes, length - at);
    for (std::size_t row = 0; row < lanes.size(); ++row) {
      lanes[row] = padding;
      if (row < k) {
        std::copy_n(rows[row].begin() + static_cast<std::ptrdiff_t>(at), width, lanes[row].begin());
      }
    }
    if (cut > 0) {
      sort_lanes(lanes);
    }
    for (std::size_t i = 0; i < width; ++i) {
      double sum = 0;
      for (std::size_t row = cut; row < k - cut; ++row) {
        sum += static_cast<double>(lanes[row][i]);
      }
      mean[at + i] = static_cast<float>(sum * share);
    }
  }
  return mean;
}

void RunningMedian::add(double value) {
  values_[next_] = value;
  next_ = (next_ + 1) % kWindow;
  count_ = std::min(count_ + 1, kWindow);
  std::array<double, kWindow> sorted = values_;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(count_ / 2);
  std::nth_element(sorted.begin(), middle, sorted.begin() + static_cast<std::ptrdiff_t>(count_));
  median_ = *middle;
}

}  // namespace ballast::sync
