// SPDX-License-Identifier: Apache-2.0
#include "agent/export/latency_fold.h"

#include <algorithm>

namespace ballast::telemetry {

namespace {

struct Place {
  std::uint8_t bucket = 0;
  double middle_s = 0;
};
using Places = std::array<Place, BALLAST_HIST_BUCKETS>;

Places make_places() {
  Places places{};
  for (unsigned int bucket = 0; bucket < BALLAST_HIST_BUCKETS; ++bucket) {
    const double lower = static_cast<double>(ballast_hist_lower(bucket));
    const double upper =
        bucket + 1 < BALLAST_HIST_BUCKETS ? static_cast<double>(ballast_hist_lower(bucket + 1)) : lower;
    const double middle_s = (lower + upper) / 2 * 1e-9;
    places[bucket] = {static_cast<std::uint8_t>(bucket_of(middle_s)), middle_s};
  }
  return places;
}

}  // namespace

std::size_t bucket_of(double seconds) {
  return static_cast<std::size_t>(std::ranges::lower_bound(kDurationBounds, seconds) -
                                  kDurationBounds.begin());
}

DurationFold::DurationFold(const spec::Latency& latency) {
  static const Places kPlaces = make_places();
  if (latency.count == 0) {
    return;
  }
  double sum = 0;
  for (std::size_t i = 0; i < latency.buckets.size(); ++i) {
    const double part = kPlaces[i].middle_s * static_cast<double>(latency.buckets[i]);
    counts[kPlaces[i].bucket] += latency.buckets[i];
    mean_s[kPlaces[i].bucket] += part;
    sum += part;
  }
  const double right = sum > 0 ? static_cast<double>(latency.sum_ns) * 1e-9 / sum : 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    mean_s[i] *= counts[i] > 0 ? right / static_cast<double>(counts[i]) : 0;
  }
}

void DurationHistogram::add(const spec::Latency& latency) {
  const DurationFold fold(latency);
  for (std::size_t i = 0; i < counts.size(); ++i) {
    counts[i] += fold.counts[i];
  }
  sum_s += static_cast<double>(latency.sum_ns) * 1e-9;
}

}  // namespace ballast::telemetry
