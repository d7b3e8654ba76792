// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

namespace ballast::sync {

/// Coordinate-wise trimmed mean (Yin et al. 2018, "Byzantine-Robust Distributed Learning"): of each
/// coordinate's K values the floor(trim * K) smallest and as many of the largest are left out and
/// the rest averaged; of three and more values at least one at either end, unless trim is 0. Holds
/// against as many liars as are left out at one end, whatever they say.
/// REQUIRES rows of one length, all finite, none empty; 0 <= trim < 0.5.
std::vector<float> trimmed_mean(std::span<const std::vector<float>> rows, double trim);

/// The median of the last kWindow values: the scale against which outliers are judged.
class RunningMedian {
 public:
  static constexpr std::size_t kWindow = 128;
  void add(double value);
  std::size_t count() const { return count_; }  ///< in the window
  /// 0 while there is none.
  double median() const { return median_; }

 private:
  std::array<double, kWindow> values_{};
  std::size_t count_ = 0;
  std::size_t next_ = 0;
  double median_ = 0;
};

}  // namespace ballast::sync
