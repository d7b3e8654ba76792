// SPDX-License-Identifier: Apache-2.0
// What comes out of a map is read as it lies: whatever counters it holds, buckets and quantiles stay
// in their range and in order.
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "core/spec/latency.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::uint64_t ns = 0;
  if (size < sizeof ns) {
    return 0;
  }
  std::memcpy(&ns, data, sizeof ns);
  if (ballast_hist_bucket(ns) >= BALLAST_HIST_BUCKETS ||
      ballast_hist_bucket(ns / 2) > ballast_hist_bucket(ns)) {
    std::abort();
  }
  // Each pair of bytes is a bucket and what is in it.
  ballast::spec::Latency latency;
  for (std::size_t i = sizeof ns; i + 1 < size; i += 2) {
    latency.buckets[data[i] % BALLAST_HIST_BUCKETS] += data[i + 1];
    latency.count += data[i + 1];
  }
  double before = 0;
  for (const double q : {0.0, 0.5, 0.9, 0.99, 1.0}) {
    const double value = latency.quantile_ns(q);
    if (!std::isfinite(value) || value < before) {
      std::abort();
    }
    before = value;
  }
  return 0;
}
