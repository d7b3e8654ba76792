// SPDX-License-Identifier: Apache-2.0
#include "agent/observe/window.h"

#include <algorithm>

namespace ballast::observe {
namespace {

constexpr double kGatherFactor = 3;
constexpr double kMinSpeed = 0.01;
// Bounds memory when ticks are absurdly short: five seconds of 5 ms ticks.
constexpr std::size_t kMaxTicks = 1000;
// Most of a tick's histogram is empty: it is passed over an octave at a time.
constexpr std::size_t kBlock = BALLAST_HIST_SUB;
constexpr std::uint64_t kUsualBuckets = 16;

std::uint64_t saturating_subtract(std::uint64_t a, std::uint64_t b) {
  return a > b ? a - b : 0;
}

}  // namespace

void TickCounts::add(const TickCounts& other) {
  interval_ns += other.interval_ns;
  requests += other.requests;
  responses += other.responses;
  errors += other.errors;
  on_cpu_ns += other.on_cpu_ns;
  wait_ns += other.wait_ns;
  external_wait_ns += other.external_wait_ns;
  unanswered += other.unanswered;
  unknown += other.unknown;
  ready_ns += other.ready_ns;
}

// Only what was added is subtracted, so nothing runs below zero; unsigned sums that wrapped wrap
// back.
void TickCounts::subtract(const TickCounts& other) {
  interval_ns -= other.interval_ns;
  requests -= other.requests;
  responses -= other.responses;
  errors -= other.errors;
  on_cpu_ns -= other.on_cpu_ns;
  wait_ns -= other.wait_ns;
  external_wait_ns -= other.external_wait_ns;
  unanswered -= other.unanswered;
  unknown -= other.unknown;
  ready_ns -= other.ready_ns;
}

std::uint64_t external_wait_ns(const sample::CgroupSample& cgroup) {
  const std::uint64_t waited = saturating_subtract(cgroup.wait_ns, cgroup.self_wait_ns);
  if (cgroup.throttled_ns == 0) {
    return waited;
  }
  const double waiting_behind_own = static_cast<double>(cgroup.self_wait_ns) /
                                    static_cast<double>(std::max<std::uint64_t>(cgroup.on_cpu_ns, 1));
  const double throttled =
      static_cast<double>(cgroup.throttled_ns) * (1 + kGatherFactor * waiting_behind_own);
  const double external = static_cast<double>(waited) - throttled;
  return external > 0 ? std::min(waited, static_cast<std::uint64_t>(external)) : 0;
}

double speed_of(const TickCounts& counts, double limit_cores) {
  const double on = static_cast<double>(counts.on_cpu_ns);
  const double wanted = on + static_cast<double>(counts.external_wait_ns);
  const double shown = wanted > 0 ? on / wanted : 1;
  const double allowed = limit_cores * static_cast<double>(counts.interval_ns);
  const double got = allowed > 0 ? on / allowed : 0;
  return std::clamp(std::max(shown, got), kMinSpeed, 1.0);
}

void Window::clear() {
  ticks_.clear();
  sum_ = {};
  first_byte_ = {};
  last_byte_ = {};
}

Window::Kept Window::add(spec::Latency& to, const spec::Latency& latency) {
  const auto& buckets = latency.buckets;
  Kept kept{latency.count, latency.sum_ns, {}};
  kept.buckets.reserve(std::min<std::uint64_t>(latency.count, kUsualBuckets));
  for (std::size_t begin = 0; begin < buckets.size(); begin += kBlock) {
    const std::size_t end = std::min(begin + kBlock, buckets.size());
    std::uint64_t any = 0;
    for (std::size_t i = begin; i < end; ++i) {
      any |= buckets[i];
    }
    for (std::size_t i = begin; any != 0 && i < end; ++i) {
      if (buckets[i] > 0) {
        kept.buckets.emplace_back(static_cast<std::uint16_t>(i), buckets[i]);
        to.buckets[i] += buckets[i];
      }
    }
  }
  to.count += latency.count;
  to.sum_ns += latency.sum_ns;
  return kept;
}

void Window::subtract(spec::Latency& from, const Kept& kept) {
  for (const auto& [bucket, count] : kept.buckets) {
    from.buckets[bucket] -= count;
  }
  from.count -= kept.count;
  from.sum_ns -= kept.sum_ns;
}

void Window::push(const TickCounts& counts, const spec::Latency& first_byte, const spec::Latency& last_byte) {
  sum_.add(counts);
  ticks_.push_back({counts, add(first_byte_, first_byte), add(last_byte_, last_byte)});
  while (ticks_.size() > kMaxTicks ||
         (ticks_.size() > 1 && sum_.interval_ns - ticks_.front().counts.interval_ns >= length_ns_)) {
    drop_oldest();
  }
}

void Window::drop_oldest() {
  const Tick& oldest = ticks_.front();
  sum_.subtract(oldest.counts);
  subtract(first_byte_, oldest.first_byte);
  subtract(last_byte_, oldest.last_byte);
  ticks_.pop_front();
}

}  // namespace ballast::observe
