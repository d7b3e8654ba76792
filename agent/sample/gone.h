// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <vector>

#include "agent/sample/sample.h"
#include "core/base/clock.h"

namespace ballast::sample {

/// When the figures of cgroups that are gone are taken out of the maps: after kForgetNs, so that
/// their last ones can still be read. Where more than kMost are gone the oldest go earlier, after
/// kCrowdedNs: a map that they filled would leave those unmeasured that come next.
class GoneCgroups {
 public:
  static constexpr MonotonicNs kForgetNs = 300'000'000'000ULL;
  static constexpr MonotonicNs kCrowdedNs = 10'000'000'000ULL;
  static constexpr std::size_t kMost = 256;

  /// `gone`: the cgroups in the maps that exist no more. Gives those to be forgotten now. One that is
  /// not named the next time is back, or was forgotten.
  std::vector<CgroupId> due(const std::vector<CgroupId>& gone, MonotonicNs now);

 private:
  std::map<CgroupId, MonotonicNs> since_;
};

}  // namespace ballast::sample
