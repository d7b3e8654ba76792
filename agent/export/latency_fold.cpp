// SPDX-License-Identifier: Apache-2.0
#include "agent/export/latency_fold.h"

#include <algorithm>

namespace ballast::telemetry {

namespace {

using Places = std::array<std::uint8_t, BALLAST_HIST_BUCKETS>;

Places make_places() {
  Places places{};
  for (unsigned int bucket = 0; bucket < BALLAST_HIST_BUCKETS; ++bucket) {
    const double lower = static_cast<double>(ballast_hist_lower(bucket));
    const double upper =
        bucket + 1 < BALLAST_HIST_BUCKETS ? static_cast<double>(ballast_hist_lower(bucket + 1)) : lower;
    const double middle_s = (lower + upper) / 2 * 1e-9;
    const auto bound = std::ranges::lower_bound(kDurationBounds, middle_s);
    places[bucket] = static_cast<std::uint8_t>(bound - kDurationBounds.begin());
  }
  return places;
}

}  // namespace

void DurationHistogram::add(const spec::Latency& latency) {
  static const Places kPlaces = make_places();
  if (latency.count == 0) {
    return;
  }
  for (std::size_t bucket = 0; bucket < latency.buckets.size(); ++bucket) {
    counts[kPlaces[bucket]] += latency.buckets[bucket];
  }
  sum_s += static_cast<double>(latency.sum_ns) * 1e-9;
}

}  // namespace ballast::telemetry
