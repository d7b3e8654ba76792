// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace ballast::guard {

/// Relative weights: 1 is a fair share, N of them sum to N.
struct Bound {
  double low = 0;
  double high = 0;
};

/// The weights clamp(scale * w_i, low_i, high_i), with the one scale that makes them sum to N:
/// what a bound takes from one endpoint flows to the others in proportion to their weights.
///
/// REQUIRES w finite and not negative, 0 < low <= high, sum of low <= N <= sum of high (within
/// rounding). Weights of 0 count as a millionth, so that they too can take up what others cannot.
std::vector<double> water_fill(const std::vector<double>& weights, const std::vector<Bound>& bounds);

/// Relative weights as whole units of `scale` a fair share, that sum to scale * N (largest
/// remainder) and are never below 1. REQUIRES weights that sum to N; each one below 1 / scale adds
/// up to a unit to the sum.
std::vector<std::uint32_t> to_units(const std::vector<double>& weights, std::uint32_t scale);

}  // namespace ballast::guard
