// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "bpf/wire/histogram.h"
#include "core/spec/telemetry.h"

namespace ballast::spec {

/// A latency histogram's growth over some time, or its total. Buckets as in bpf/wire/histogram.h.
struct Latency {
  std::uint64_t count = 0;
  std::uint64_t sum_ns = 0;
  std::array<std::uint64_t, BALLAST_HIST_BUCKETS> buckets{};

  void add(const Latency& other);
  /// Of buckets alone: count grows with them, the sum stays. A bucket that does not exist is left out.
  void add(const LatencyBuckets& other);
  /// What is not empty, in place of what `out` holds; a count beyond 32 bits is the greatest.
  void store(LatencyBuckets& out) const;
  /// Quantile q in [0,1] in ns, linear inside the bucket; 0 when empty.
  double quantile_ns(double q) const;
};

}  // namespace ballast::spec
