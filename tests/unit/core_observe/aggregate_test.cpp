// SPDX-License-Identifier: Apache-2.0
#include "core/observe/aggregate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "telemetry.h"

namespace ballast::observe {
namespace {

using testing::endpoint;

const spec::ServiceId kService{"shop", "web"};

spec::ServiceAggregate aggregate_of(const std::vector<spec::EndpointTelemetry>& endpoints,
                                    const std::vector<double>& offsets = {}) {
  PersistenceEstimator persistence;
  return aggregate(kService, endpoints, offsets, {.now = 1'000'000'000}, persistence);
}

TEST(Aggregate, MediansMeansAndSpreadsAreOverKnownEndpoints) {
  std::vector<spec::EndpointTelemetry> e = {endpoint("a", 200), endpoint("b", 100), endpoint("c", 50),
                                            endpoint("d", 50), endpoint("unknown", 9999)};
  e[4].known = false;
  e[4].p50_ns = 1;
  e[0].p50_ns = 10e6;
  e[1].p50_ns = 20e6;
  e[2].p50_ns = 40e6;
  e[3].p50_ns = 80e6;
  e[0].qps = 130;
  e[0].in_flight = 8;
  e[0].utilisation = 0.9;
  e[0].wait_share = 0.4;
  e[0].speed = 0.2;
  const auto a = aggregate_of(e);
  EXPECT_EQ(a.service, kService);
  EXPECT_EQ(a.endpoints, 5U);
  EXPECT_EQ(a.known, 4U);
  EXPECT_DOUBLE_EQ(a.median_p50_ns, 30e6);
  EXPECT_DOUBLE_EQ(a.median_p99_ns, 40e6);
  EXPECT_DOUBLE_EQ(a.median_in_flight, 0);
  EXPECT_DOUBLE_EQ(a.median_wait_share, 0);
  EXPECT_DOUBLE_EQ(a.median_speed, 1);
  EXPECT_DOUBLE_EQ(a.mean_qps, 70);
  EXPECT_DOUBLE_EQ(a.mean_utilisation, 0.6);
  EXPECT_NEAR(a.cpu_imbalance, std::sqrt(0.03) / 0.6, 1e-12);
  EXPECT_DOUBLE_EQ(a.median_capacity_qps, 75);
  EXPECT_DOUBLE_EQ(a.mean_capacity_qps, (400 + 75) / 5.0);
  const double log2 = std::log(2.0);  // logs around the mean: 1.25, .25, -.75, -.75 octaves
  EXPECT_NEAR(a.capacity_spread, log2 * std::sqrt((1.25 * 1.25 + .0625 + 2 * .5625) / 4), 1e-12);
}

double exact(std::vector<double> all, double q) {
  std::sort(all.begin(), all.end());
  return all[static_cast<std::size_t>(q * static_cast<double>(all.size() - 1))];
}

TEST(Aggregate, QuantilesAreThoseOfAllRequestsWithinABucket) {
  std::mt19937_64 random(7);
  std::vector<double> all;
  std::vector<spec::EndpointTelemetry> e;
  // A cache in front of a disk: 19 in 20 requests are quick, and the third pod has another disk.
  for (const double slow_ns : {80e6, 80e6, 900e6}) {
    std::lognormal_distribution<double> quick(std::log(1e6), 0.3);
    std::lognormal_distribution<double> slow(std::log(slow_ns), 0.2);
    std::vector<double> own;
    for (int i = 0; i < 4000; ++i) {
      own.push_back(i % 20 == 0 ? slow(random) : quick(random));
    }
    all.insert(all.end(), own.begin(), own.end());
    e.push_back(endpoint("web-" + std::to_string(e.size())));
    e.back().latency = testing::latencies(own);
  }
  const auto a = aggregate_of(e);
  EXPECT_NEAR(a.p50_ns, exact(all, 0.5), 0.125 * exact(all, 0.5));
  EXPECT_NEAR(a.p99_ns, exact(all, 0.99), 0.125 * exact(all, 0.99));
  EXPECT_GT(a.p99_ns, 500e6) << "one request in sixty waits for the slow disk";
}

TEST(Aggregate, QuantilesWeighByRequestsAndLeaveOutWhoHasNone) {
  std::vector<spec::EndpointTelemetry> e = {endpoint("fast"), endpoint("slow"), endpoint("older"),
                                            endpoint("gone")};
  e[0].latency = testing::latencies(std::vector<double>(90, 10e6));
  e[1].latency = testing::latencies(std::vector<double>(10, 1000e6));
  e[3].latency = testing::latencies(std::vector<double>(900, 1e9));
  e[3].known = false;
  const auto a = aggregate_of(e);
  EXPECT_NEAR(a.p50_ns, 10e6, 1.25e6);
  EXPECT_NEAR(a.p99_ns, 1000e6, 125e6) << "one request in ten is slow";
  e[1].latency.clear();
  EXPECT_NEAR(aggregate_of(e).p99_ns, 10e6, 1.25e6) << "who gets no requests makes none slow";
  e[0].latency = {{BALLAST_HIST_BUCKETS, 5}, {65535, 5}};
  EXPECT_DOUBLE_EQ(aggregate_of(e).p99_ns, 0) << "no such buckets";
}

TEST(Aggregate, OneEndpointsQuantilesAreItsOwn) {
  spec::Latency latency;
  latency.buckets[90] = 17;
  latency.buckets[120] = 3;
  std::vector<spec::EndpointTelemetry> e = {endpoint("a")};
  latency.store(e[0].latency);
  EXPECT_DOUBLE_EQ(aggregate_of(e).p50_ns, latency.quantile_ns(0.5));
  EXPECT_DOUBLE_EQ(aggregate_of(e).p99_ns, latency.quantile_ns(0.99));
}

TEST(Aggregate, ErrorsWeighByRequests) {
  std::vector<spec::EndpointTelemetry> e = {endpoint("a"), endpoint("b")};
  e[0].qps = 30;
  e[1].qps = 10;
  e[1].error_rate = 0.4;
  EXPECT_DOUBLE_EQ(aggregate_of(e).error_rate, 0.1);
}

TEST(Aggregate, MemoryImbalanceIsOverEndpointsWithALimit) {
  std::vector<spec::EndpointTelemetry> e = {endpoint("a"), endpoint("b"), endpoint("c")};
  EXPECT_DOUBLE_EQ(aggregate_of(e).memory_imbalance, 0);
  e[0].memory_share = 0.2;
  e[1].memory_share = 0.6;
  EXPECT_DOUBLE_EQ(aggregate_of(e).memory_imbalance, 0.5);
}

TEST(Aggregate, MeanAndMaxAreOfTheOwnFeatures) {
  std::vector<spec::EndpointTelemetry> e = {endpoint("a"), endpoint("b")};
  e[0].error_rate = 0.5;
  const auto a = aggregate_of(e, {0.3, -0.1});
  EXPECT_FLOAT_EQ(a.mean[spec::kErrors], 0.25F);
  EXPECT_FLOAT_EQ(a.max[spec::kErrors], 0.5F);
  EXPECT_FLOAT_EQ(a.mean[spec::kLogWeight], 0.1F);
  EXPECT_FLOAT_EQ(a.max[spec::kLogWeight], 0.3F);
  EXPECT_FLOAT_EQ(a.max[spec::kLoad], 0.5F);
}

// Any figures may be claimed by a hostile node for the pods that are its own.
TEST(Aggregate, WhatOneClaimsDoesNotOutweighTheRest) {
  std::vector<spec::EndpointTelemetry> e;
  for (int i = 0; i < 39; ++i) {
    e.push_back(endpoint("web-" + std::to_string(i), 90 + i % 3 * 10));
    e.back().latency = testing::latencies(std::vector<double>(20, i == 0 ? 900e6 : 10e6));
    e.back().qps = 100;
    e.back().memory_share = 0.5;
  }
  const auto honest = aggregate_of(e);
  e.push_back(endpoint("hostile", 1e15));
  e.back().qps = 1e15;
  e.back().utilisation = 1e15;
  e.back().memory_share = 1e15;
  e.back().error_rate = 1;
  e.back().latency = {{200, 4'000'000'000}, {210, 4'000'000'000}, {220, 4'000'000'000}};
  const auto a = aggregate_of(e);
  EXPECT_NEAR(a.p50_ns, honest.p50_ns, 2e6);
  EXPECT_LT(a.mean_qps, 2 * honest.mean_qps);
  EXPECT_LT(a.mean_capacity_qps, 2 * honest.mean_capacity_qps);
  EXPECT_LT(a.mean_utilisation, 2 * honest.mean_utilisation);
  EXPECT_LT(a.error_rate, 0.5);
  EXPECT_LT(a.cpu_imbalance, 2.5);
  EXPECT_LT(a.memory_imbalance, 2.5);
  EXPECT_LT(a.capacity_spread, 1);
  e.back().capacity_qps = 1e-300;
  EXPECT_LT(aggregate_of(e).capacity_spread, 1);
}

TEST(Aggregate, ClaimsThatComeAndGoDoNotHideDifferencesThatLast) {
  std::vector<spec::EndpointTelemetry> e;
  for (int i = 0; i < 120; ++i) {
    e.push_back(endpoint("web-" + std::to_string(i), i % 2 == 0 ? 200 : 50));
  }
  PersistenceEstimator persistence;
  double lasts_s = 0;
  for (int tick = 0; tick < 240; ++tick) {
    e[0].capacity_qps = tick / 3 % 2 == 0 ? 1e300 : 1e-300;
    const spec::LoopTiming loop{.now = static_cast<MonotonicNs>(tick) * 250'000'000};
    lasts_s = aggregate(kService, e, {}, loop, persistence).persistence_s;
  }
  EXPECT_GT(lasts_s, 50);
}

TEST(Aggregate, NoEndpointsAreAllZero) {
  const auto a = aggregate_of({});
  EXPECT_EQ(a.endpoints, 0U);
  EXPECT_DOUBLE_EQ(a.p99_ns, 0);
  EXPECT_DOUBLE_EQ(a.mean_capacity_qps, 0);
  EXPECT_FLOAT_EQ(a.max[spec::kPrior], 0);
}

TEST(Aggregate, AnyTelemetryGivesFiniteNumbersWithinBounds) {
  std::mt19937_64 random(5);
  const double values[] = {std::nan(""), INFINITY, -INFINITY, -1, 0, 1e-300, 1e300, 1, 0.5, 42};
  PersistenceEstimator persistence;
  for (int round = 0; round < 2000; ++round) {
    std::vector<spec::EndpointTelemetry> endpoints;
    std::vector<double> offsets;
    const auto value = [&] { return values[random() % std::size(values)]; };
    for (std::uint64_t i = 0; i < random() % 6; ++i) {
      spec::EndpointTelemetry e;
      e.id = {kService, "p" + std::to_string(random() % 4)};
      e.known = random() % 4 != 0;
      e.taken = random();
      for (double* field : {&e.qps, &e.tick_requests, &e.p50_ns, &e.p99_ns, &e.tick_p50_ns, &e.in_flight,
                            &e.error_rate, &e.cpu_cores, &e.cpu_limit_cores, &e.wait_share, &e.speed,
                            &e.utilisation, &e.memory_bytes, &e.memory_share, &e.capacity_qps}) {
        *field = value();
      }
      e.latency = {{static_cast<std::uint16_t>(random()), static_cast<std::uint32_t>(random())}};
      endpoints.push_back(e);
      offsets.push_back(value());
    }
    const spec::LoopTiming loop{.now = random(), .tick_s = value(), .loop_delay_s = value()};
    const auto a = aggregate(kService, endpoints, offsets, loop, persistence);
    for (const double x :
         {a.median_p50_ns, a.median_p99_ns, a.median_in_flight, a.median_wait_share, a.mean_qps,
          a.mean_utilisation, a.median_speed, a.median_capacity_qps, a.mean_capacity_qps, a.p50_ns, a.p99_ns,
          a.error_rate, a.cpu_imbalance, a.memory_imbalance, a.persistence_s, a.capacity_spread}) {
      ASSERT_TRUE(std::isfinite(x) && x >= 0);
    }
    const auto observation = observe(a, endpoints, offsets, loop);
    ASSERT_EQ(observation.endpoints.size(), endpoints.size());
    for (const auto& e : observation.endpoints) {
      ASSERT_TRUE(std::isfinite(e.log_prior));
      for (const float feature : e.features) {
        ASSERT_LE(std::abs(feature), spec::kFeatureBound);
      }
    }
  }
}

}  // namespace
}  // namespace ballast::observe
