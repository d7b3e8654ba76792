// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "agent/sample/sample.h"

namespace ballast::telemetry {

/// Upper bounds in seconds that OpenTelemetry advises for http.server.request.duration.
inline constexpr std::array<double, 14> kDurationBounds = {0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25,
                                                           0.5,   0.75, 1,     2.5,  5,     7.5, 10};

/// The place of a duration among the buckets of kDurationBounds.
std::size_t bucket_of(double seconds);

/// A tick's kernel buckets among those of kDurationBounds. One that a bound cuts is counted, whole, where its
/// middle lies, so a request is at most 6.25 % from its place.
struct DurationFold {
  explicit DurationFold(const spec::Latency& latency);
  std::array<std::uint64_t, kDurationBounds.size() + 1> counts{};
  /// Of each bucket; times its count they add up to the kernel's sum.
  std::array<double, kDurationBounds.size() + 1> mean_s{};
};

/// A histogram that only grows: counts below each bound (not cumulative), and above the last.
struct DurationHistogram {
  std::array<std::uint64_t, kDurationBounds.size() + 1> counts{};
  double sum_s = 0;

  void add(const spec::Latency& latency);
};

}  // namespace ballast::telemetry
