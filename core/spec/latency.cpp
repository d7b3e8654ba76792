// SPDX-License-Identifier: Apache-2.0
#include "core/spec/latency.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace ballast::spec {

void Latency::add(const Latency& other) {
  count += other.count;
  sum_ns += other.sum_ns;
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    buckets[i] += other.buckets[i];
  }
}

void Latency::add(const LatencyBuckets& other) {
  for (const LatencyBucket& bucket : other) {
    if (bucket.index < buckets.size()) {
      buckets[bucket.index] += bucket.count;
      count += bucket.count;
    }
  }
}

void Latency::store(LatencyBuckets& out) const {
  constexpr std::uint64_t kMost = std::numeric_limits<std::uint32_t>::max();
  out.clear();
  for (std::size_t i = 0; i < buckets.size(); ++i) {
    if (buckets[i] > 0) {
      out.push_back({static_cast<std::uint16_t>(i), static_cast<std::uint32_t>(std::min(buckets[i], kMost))});
    }
  }
}

double Latency::quantile_ns(double q) const {
  // The kernel raises count and a bucket in two steps; only the buckets agree with themselves.
  std::uint64_t total = 0;
  for (const auto bucket : buckets) {
    total += bucket;
  }
  if (total == 0) {
    return 0;
  }
  const double rank = std::clamp(q, 0.0, 1.0) * static_cast<double>(total);
  double below = 0;
  double upper = 0;
  for (std::uint32_t i = 0; i < buckets.size(); ++i) {
    if (buckets[i] == 0) {
      continue;
    }
    const double inside = static_cast<double>(buckets[i]);
    const double lower = static_cast<double>(ballast_hist_lower(i));
    // The last bucket is open; it is read as if it were one sub-bucket wide.
    upper = i + 1 < BALLAST_HIST_BUCKETS ? static_cast<double>(ballast_hist_lower(i + 1))
                                         : lower * (1.0 + 1.0 / BALLAST_HIST_SUB);
    if (below + inside >= rank) {
      return lower + (upper - lower) * (rank - below) / inside;
    }
    below += inside;
  }
  return upper;
}

namespace {

constexpr double kLongestOverUsual = 100;
constexpr double kUsual = 0.75;
constexpr std::uint64_t kMayBeOpen = 10;  // one answer in so many,
constexpr std::uint64_t kFewOpen = 2;     // and so many

double mean_up_to(const Latency& latency, double longest_ns) {
  double count = 0;
  double sum = 0;
  for (std::size_t i = 0; i < latency.buckets.size(); ++i) {
    if (latency.buckets[i] > 0) {
      const auto n = static_cast<double>(latency.buckets[i]);
      const auto index = static_cast<std::uint32_t>(i);
      double each = longest_ns;
      if (i + 1 < latency.buckets.size()) {
        each = (static_cast<double>(ballast_hist_lower(index)) +
                static_cast<double>(ballast_hist_lower(index + 1))) /
               2;
      }
      count += n;
      sum += n * std::min(each, longest_ns);
    }
  }
  return count > 0 ? sum / count : 0;
}

std::uint64_t total(const Latency& latency) {
  return std::accumulate(latency.buckets.begin(), latency.buckets.end(), std::uint64_t{0});
}

double at_least_one(double last_ns, double first_ns) {
  return first_ns > 0 && last_ns > first_ns ? last_ns / first_ns : 1;
}

}  // namespace

Stretch stretch_of(const Latency& first_byte, const Latency& last_byte) {
  if (first_byte.buckets == last_byte.buckets) {
    return {};
  }
  const std::uint64_t begun = total(first_byte);
  const std::uint64_t ended = total(last_byte) + begun / kMayBeOpen + kFewOpen;
  const Latency* last = &last_byte;
  Latency with_open;
  if (begun > ended) {
    with_open = last_byte;
    with_open.buckets.back() += begun - ended;
    last = &with_open;
  }
  const double longest_ns = kLongestOverUsual * last->quantile_ns(kUsual);
  return {at_least_one(last->quantile_ns(0.5), first_byte.quantile_ns(0.5)),
          at_least_one(mean_up_to(*last, longest_ns), mean_up_to(first_byte, longest_ns))};
}

double mean_ns(const LatencyBuckets& buckets) {
  double count = 0;
  double sum = 0;
  for (const auto& [index, n] : buckets) {
    if (index + 1 < BALLAST_HIST_BUCKETS) {
      count += n;
      sum += n *
             (static_cast<double>(ballast_hist_lower(index)) +
              static_cast<double>(ballast_hist_lower(index + 1U))) /
             2;
    }
  }
  return count > 0 ? sum / count : 0;
}

}  // namespace ballast::spec
