// SPDX-License-Identifier: Apache-2.0
#include "agent/observe/window.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "node.h"

namespace ballast::observe {
namespace {

using testing::kMillisecond;

TEST(ExternalWait, IsWaitWithoutOwnTasksAndOwnQuota) {
  EXPECT_EQ(external_wait_ns(testing::cgroup_sample({.wait_ns = 100})), 100U);
  EXPECT_EQ(external_wait_ns(testing::cgroup_sample({.wait_ns = 100, .self_wait_ns = 30})), 70U);
  EXPECT_EQ(external_wait_ns(testing::cgroup_sample({.wait_ns = 100, .throttled_ns = 40})), 60U);
}

TEST(ExternalWait, IsNeverNegative) {
  EXPECT_EQ(external_wait_ns(testing::cgroup_sample({.wait_ns = 100, .throttled_ns = 400})), 0U);
  EXPECT_EQ(external_wait_ns(testing::cgroup_sample({.wait_ns = 100, .self_wait_ns = 400})), 0U);
}

TEST(ExternalWait, ThreadsThatSitOutOneThrottleTogetherAreNotExternal) {
  // 25 ms ran with one more waiting behind it; then 100 ms of throttle with three waiting.
  const auto pool = testing::cgroup_sample({.requests = 25,
                                            .cpu_ns_per_request = kMillisecond,
                                            .wait_ns = 325 * kMillisecond,
                                            .self_wait_ns = 25 * kMillisecond,
                                            .throttled_ns = 100 * kMillisecond});
  EXPECT_EQ(external_wait_ns(pool), 0U);
}

// One CPU, 20 ms quota periods and a pool of threads that share the CPU; nobody else wants it.
// Gives the mean speed over ticks of 250 ms, which is 1 when no throttle is taken for a neighbour.
double mean_speed_of_a_throttled_pool(double quota, double load, std::uint64_t seed) {
  constexpr double kStepMs = 0.05;
  std::mt19937_64 random(seed);
  std::exponential_distribution<double> gap_ms(load * quota / 2.0);
  std::lognormal_distribution<double> demand_ms(std::log(2.0) - 0.32, 0.8);
  std::vector<double> running;
  double next_ms = gap_ms(random);
  double budget_ms = 0;
  double speeds = 0;
  int ticks = 0;
  sample::CgroupSample s;
  TickCounts counts;
  for (int step = 0; step < 600'000; ++step) {
    if (step % 400 == 0) {
      budget_ms = 20 * quota;
    }
    for (; next_ms <= step * kStepMs; next_ms += gap_ms(random)) {
      running.push_back(demand_ms(random));
    }
    const auto step_ns = static_cast<std::uint64_t>(kStepMs * 1e6);
    if (!running.empty() && budget_ms <= 0) {
      s.throttled_ns += step_ns;
      s.wait_ns += step_ns * running.size();
    } else if (!running.empty()) {
      budget_ms -= kStepMs;
      s.on_cpu_ns += step_ns;
      s.wait_ns += step_ns * (running.size() - 1);
      s.self_wait_ns += step_ns * (running.size() - 1);
      const auto at = running.begin() + static_cast<std::ptrdiff_t>(random() % running.size());
      *at -= kStepMs;
      if (*at <= 0) {
        running.erase(at);
      }
    }
    if (step % 5000 == 4999) {
      counts.interval_ns = 250 * kMillisecond;
      counts.on_cpu_ns = s.on_cpu_ns;
      counts.external_wait_ns = external_wait_ns(s);
      speeds += speed_of(counts, quota);
      ++ticks;
      s = {};
    }
  }
  return speeds / ticks;
}

TEST(Speed, OfAThrottledThreadPoolIsHardlyTouchedByItsOwnThrottle) {
  for (const double quota : {0.1, 0.2, 0.4}) {
    for (const double load : {0.5, 0.7, 0.85}) {
      EXPECT_GT(mean_speed_of_a_throttled_pool(quota, load, 1), 0.94)
          << "quota " << quota << " load " << load;
    }
  }
}

TEST(Speed, IsTheShareOfWantedTimeThatWasHad) {
  TickCounts counts;
  counts.interval_ns = 1000;
  counts.on_cpu_ns = 100;
  counts.external_wait_ns = 300;
  EXPECT_DOUBLE_EQ(speed_of(counts, 1), 0.25);
}

TEST(Speed, IsNoLessThanTheShareOfTheLimitThatWasUsed) {
  TickCounts counts;
  counts.interval_ns = 1000;
  counts.on_cpu_ns = 90;
  counts.external_wait_ns = 900;
  EXPECT_DOUBLE_EQ(speed_of(counts, 0.1), 0.9);
}

TEST(Speed, StaysAboveZeroAndAtMostOne) {
  TickCounts counts;
  EXPECT_DOUBLE_EQ(speed_of(counts, 1), 1);
  counts.external_wait_ns = ~0ULL;
  EXPECT_DOUBLE_EQ(speed_of(counts, 1), 0.01);
  counts = {};
  counts.on_cpu_ns = ~0ULL;
  counts.interval_ns = 1;
  EXPECT_DOUBLE_EQ(speed_of(counts, 1), 1);
}

spec::Latency one_at(std::size_t bucket) {
  spec::Latency latency;
  latency.count = 1;
  latency.sum_ns = 7;
  latency.buckets[bucket] = 1;
  return latency;
}

TEST(Window, KeepsTheTicksOfItsLengthAlone) {
  Window window(1000);
  for (std::uint64_t i = 0; i < 10; ++i) {
    TickCounts counts;
    counts.interval_ns = 250;
    counts.requests = i;
    window.push(counts, one_at(i), one_at(i + 1));
  }
  EXPECT_EQ(window.sum().interval_ns, 1000U);
  EXPECT_EQ(window.sum().requests, 6U + 7U + 8U + 9U);
  EXPECT_EQ(window.first_byte().count, 4U);
  EXPECT_EQ(window.first_byte().sum_ns, 28U);
  for (std::size_t i = 0; i < 10; ++i) {
    EXPECT_EQ(window.first_byte().buckets[i], i >= 6 ? 1U : 0U) << i;
    EXPECT_EQ(window.last_byte().buckets[i + 1], i >= 6 ? 1U : 0U) << i;
  }
  window.clear();
  EXPECT_TRUE(window.empty());
  EXPECT_EQ(window.first_byte().count, 0U);
}

TEST(Window, NewestTickStaysHoweverLong) {
  Window window(1000);
  TickCounts counts;
  counts.interval_ns = 250;
  window.push(counts, one_at(1));
  counts.interval_ns = 50'000;
  window.push(counts, one_at(2));
  EXPECT_EQ(window.sum().interval_ns, 50'000U);
  EXPECT_EQ(window.first_byte().buckets[1], 0U);
}

TEST(Window, IsBoundedWhenTicksAreAbsurdlyShort) {
  Window window(5'000'000'000ULL);
  TickCounts counts;
  counts.interval_ns = 1;
  for (int i = 0; i < 3000; ++i) {
    window.push(counts, {});
  }
  EXPECT_EQ(window.sum().interval_ns, 1000U);
}

}  // namespace
}  // namespace ballast::observe
