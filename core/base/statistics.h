// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

namespace ballast {

/// Quantile q in [0, 1] by linear interpolation between the two nearest ranks (numpy's default);
/// 0 when empty. REQUIRES values sorted upwards.
double quantile_of_sorted(const std::vector<double>& values, double q);

/// Quantile q in [0, 1] as the value of rank ceil(q n), which is what a histogram's reader finds;
/// 0 when empty. REQUIRES values sorted upwards.
double nearest_rank_of_sorted(const std::vector<double>& values, double q);

/// The middle value, or the mean of the two; 0 when empty. The first leaves `values` in another order.
double median_in_place(std::span<double> values);
double median(std::vector<double> values);

/// A value that is there: of an even number the lesser of the two in the middle, or the greater; 0 when
/// empty. By the lesser, of two none can speak for both.
double median_low(std::vector<double> values);
double median_high(std::vector<double> values);

}  // namespace ballast
