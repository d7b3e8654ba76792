// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <numeric>
#include <string>
#include <vector>

#include "agent/guard/guard.h"

namespace ballast::guard::testing {

inline const spec::ServiceId kWeb{"shop", "web"};
inline constexpr MonotonicNs kTick = 250'000'000ULL;

/// A fresh, healthy view of shop/web with these relative weights.
inline ServiceView view(const std::vector<double>& weights) {
  ServiceView v{.service = kWeb, .neutral = false, .why = "weighted", .p99_ns = 1e8, .qps = 100};
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    v.endpoints.push_back({.id = {kWeb, "web-" + std::to_string(i)},
                           .address = "127.1.0." + std::to_string(i),
                           .port = 8080,
                           .known = true,
                           .age_s = 0.1,
                           .share = weights[i] / sum});
  }
  return v;
}

}  // namespace ballast::guard::testing
