// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace ballast::spec {

/// A mean with the bounds that it lies between, with the confidence of whoever made them.
struct Interval {
  double mean = 0;
  double low = 0;
  double high = 0;
};

/// What bounds say of something new beside what it would replace.
enum class Standing {
  kBetter,    ///< the gain's lower bound is above 0
  kUnproven,  ///< it may be none; a tie is no improvement
  kWorse,     ///< its upper bound is below 0
};

/// The one verdict of a gain, for the gate of files and for canary nodes. Bounds that are not finite prove
/// nothing.
inline Standing standing(const Interval& gain) {
  return gain.low > 0 ? Standing::kBetter : gain.high < 0 ? Standing::kWorse : Standing::kUnproven;
}

/// Of one part of what is judged (a scenario): at worst `tolerance` times as much as what it is compared
/// with.
inline bool not_worse(const Interval& ratio, double tolerance) {
  return ratio.high <= tolerance;
}

}  // namespace ballast::spec
