// SPDX-License-Identifier: Apache-2.0
#include "model/sync/network/robust.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

namespace ballast::sync {

namespace {

// Coordinates sorted side by side, in vectors of the compiler's that every machine has: plain loops over
// them are not vectorised at -O2, and cost the server more than all its network.
constexpr std::size_t kWidth = 4;
constexpr std::size_t kVectors = 4;
constexpr std::size_t kLanes = kWidth * kVectors;
using Vector = float __attribute__((vector_size(kWidth * sizeof(float))));
using Lane = std::array<Vector, kVectors>;

inline void order(Lane& low, Lane& high) {
  for (std::size_t i = 0; i < kVectors; ++i) {
    const Vector a = low[i];
    const Vector b = high[i];
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
  constexpr float kLast = std::numeric_limits<float>::infinity();
  Lane padding;
  padding.fill(Vector{kLast, kLast, kLast, kLast});
  std::vector<Lane> lanes(std::bit_ceil(k));
  const float share = 1.0F / static_cast<float>(k - 2 * cut);
  for (std::size_t at = 0; at < length; at += kLanes) {
    const std::size_t width = std::min(kLanes, length - at);
    for (std::size_t row = 0; row < lanes.size(); ++row) {
      lanes[row] = padding;
      if (row < k) {
        std::memcpy(lanes[row].data(), rows[row].data() + at, width * sizeof(float));
      }
    }
    if (cut > 0) {
      sort_lanes(lanes);
    }
    Lane sum{};
    for (std::size_t row = cut; row < k - cut; ++row) {
      for (std::size_t i = 0; i < kVectors; ++i) {
        sum[i] += lanes[row][i];
      }
    }
    for (Vector& x : sum) {
      x *= share;
    }
    std::memcpy(mean.data() + at, sum.data(), width * sizeof(float));
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
