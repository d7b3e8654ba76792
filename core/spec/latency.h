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

/// By how much answers end later than they begin: their medians, and their means.
struct Stretch {
  double p50 = 1;
  double mean = 1;
};

/// Of the answers of one time: last byte over first byte, at least 1. In both means nothing counts for more
/// than a hundred times what three quarters of the answers end within, so that a few streams that stay open
/// for hours say nothing. Answers that have begun and did not end count as the longest that there is, beyond
/// the tenth that may begin in one time and end in the next. Total.
Stretch stretch_of(const Latency& first_byte, const Latency& last_byte);

}  // namespace ballast::spec
