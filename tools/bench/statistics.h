// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <vector>

namespace ballast::bench {

/// A figure with its 95 % interval.
struct Estimate {
  double value = 0;
  double low = 0;
  double high = 0;
};

/// Mean of the middle half; of n values the outer quarters are cut, a value at the edge counted in
/// part (rliable's IQM: Agarwal et al., NeurIPS 2021). 0 when empty.
double interquartile_mean(std::vector<double> values);

/// `statistic` of 0..n-1 and the percentile interval of its value over 2,000 resamples of these
/// indices with replacement (Efron 1979). Deterministic. An empty sample gives zeros.
Estimate bootstrap(std::size_t n, const std::function<double(const std::vector<std::size_t>&)>& statistic);

Estimate bootstrap_mean(const std::vector<double>& values);
Estimate bootstrap_iqm(const std::vector<double>& values);
/// Geometric mean of a_i / b_i over pairs (the same seed on both sides). Both 0 is a ratio of 1;
/// one of them 0: the other side is taken as a thousandth of its greatest.
Estimate paired_ratio(const std::vector<double>& a, const std::vector<double>& b);

}  // namespace ballast::bench
