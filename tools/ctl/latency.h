// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>

#include "agent/sample/sample.h"

namespace ballast::ctl {

inline spec::Latency latency_of(const ballast_latency& wire) {
  spec::Latency latency;
  latency.count = wire.count;
  latency.sum_ns = wire.sum_ns;
  std::copy(std::begin(wire.buckets), std::end(wire.buckets), latency.buckets.begin());
  return latency;
}

/// A quantile in ns; no more than the largest value seen, which the bucket's width could exceed.
inline double quantile_ns(const ballast_latency& wire, double q) {
  return std::min(latency_of(wire).quantile_ns(q), static_cast<double>(wire.max_ns));
}

}  // namespace ballast::ctl
