// SPDX-License-Identifier: Apache-2.0
#include "agent/observe/observer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "core/observe/aggregate.h"
#include "core/observe/observation.h"
#include "node.h"

namespace ballast::observe {
namespace {

using testing::FakeNode;
using testing::kMillisecond;
using testing::kTick;
using testing::Load;

FakeNode four_pods() {
  FakeNode node;
  // Load that does not follow the quotas; 2 ms CPU a request, so .4 cores carry 200 requests/s.
  node.add("web-0", {.id = 1, .limit_cores = 0.4, .requests = 15});
  node.add("web-1", {.id = 2, .limit_cores = 0.2, .requests = 20});
  node.add("web-2", {.id = 3, .limit_cores = 0.1, .requests = 5});
  node.add("web-3", {.id = 4, .limit_cores = 0.1, .requests = 10});
  return node;
}

TEST(Observer, FindsCapacityOfUnequalQuotasUnderUnequalLoad) {
  auto node = four_pods();
  const auto& e = node.tick(20);
  ASSERT_EQ(e.size(), 4U);
  const double expected[] = {200, 100, 50, 50};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_TRUE(e[i].known);
    EXPECT_NEAR(e[i].capacity_qps, expected[i], 1e-9) << e[i].id.pod;
    EXPECT_DOUBLE_EQ(e[i].speed, 1);
    EXPECT_NEAR(e[i].capacity_qps * e[i].utilisation, e[i].qps, 1e-9)
        << "gRFC A58: capacity = qps / utilisation";
  }
}

TEST(Observer, ReportsWhatWasMeasuredInUnits) {
  FakeNode node;
  node.add("web-0", {.id = 1, .limit_cores = 0.4, .requests = 15, .errors = 3, .wait_ns = 10 * kMillisecond});
  const auto& e = node.tick(4).front();
  EXPECT_EQ(e.id, (spec::EndpointId{{"shop", "web"}, "web-0"}));
  EXPECT_EQ(e.address, "127.1.0.1");
  EXPECT_EQ(e.port, 8080);
  EXPECT_EQ(e.taken, node.now);
  EXPECT_DOUBLE_EQ(e.qps, 60);
  EXPECT_DOUBLE_EQ(e.tick_requests, 15);
  EXPECT_DOUBLE_EQ(e.error_rate, 0.2);
  EXPECT_DOUBLE_EQ(e.cpu_cores, 0.12);
  EXPECT_DOUBLE_EQ(e.cpu_limit_cores, 0.4);
  EXPECT_DOUBLE_EQ(e.wait_share, 0.25);
  EXPECT_DOUBLE_EQ(e.speed, 0.75);
  EXPECT_DOUBLE_EQ(e.utilisation, 0.12 / (0.4 * 0.75));
  EXPECT_NEAR(e.p50_ns, 10e6, 0.125 * 10e6);
  EXPECT_NEAR(e.p99_ns, 10e6, 0.125 * 10e6);
  EXPECT_NEAR(e.tick_p50_ns, e.p50_ns, 1);
}

TEST(Observer, HalvedQuotaHalvesCapacityOnTheNextTick) {
  auto node = four_pods();
  EXPECT_NEAR(node.tick(20)[0].capacity_qps, 200, 1e-9);
  node.loads[0].limit_cores = 0.2;
  EXPECT_NEAR(node.tick()[0].capacity_qps, 100, 1e-9);
}

TEST(Observer, AntagonistLowersSpeedAndCapacityInOneTick) {
  auto node = four_pods();
  node.tick(20);
  node.loads[0].wait_ns = 3 * node.loads[0].requests * node.loads[0].cpu_ns_per_request;
  const auto& slowed = node.tick()[0];
  // On-CPU 30 of 120 ms wanted is a quarter, but 30 ms are .3 of the 100 ms that the quota allows.
  EXPECT_NEAR(slowed.speed, 0.3, 1e-9);
  EXPECT_NEAR(slowed.capacity_qps, 60, 1e-9);
  node.loads[0].wait_ns = 0;
  EXPECT_NEAR(node.tick()[0].capacity_qps, 200, 1e-9);
}

TEST(Observer, OwnThrottleAndOwnTasksDoNotLowerSpeed) {
  auto node = four_pods();
  node.tick(20);
  node.loads[0].wait_ns = 150 * kMillisecond;
  node.loads[0].throttled_ns = 160 * kMillisecond;
  node.loads[1].wait_ns = 70 * kMillisecond;
  node.loads[1].self_wait_ns = 70 * kMillisecond;
  const auto& e = node.tick();
  EXPECT_DOUBLE_EQ(e[0].speed, 1);
  EXPECT_DOUBLE_EQ(e[1].speed, 1);
  EXPECT_GT(e[0].wait_share, 0.8);
}

TEST(Observer, TooLittleCpuInATickFallsBackToTheWindowsSpeed) {
  FakeNode node;
  node.add("web-0", {.id = 1, .limit_cores = 1, .requests = 25, .wait_ns = 50 * kMillisecond});
  EXPECT_DOUBLE_EQ(node.tick(4)[0].speed, 0.5);
  node.loads[0].requests = 0;
  node.loads[0].wait_ns = 0;
  EXPECT_DOUBLE_EQ(node.tick()[0].speed, 0.5);
  EXPECT_DOUBLE_EQ(node.tick(30)[0].speed, 1) << "nothing in the window either";
}

TEST(Observer, StarvedPodIsSlowThoughItHardlyRan) {
  FakeNode node;
  node.add("web-0", {.id = 1, .limit_cores = 1, .requests = 25});
  node.tick(4);
  node.loads[0].requests = 0;
  node.loads[0].wait_ns = 200 * kMillisecond;
  EXPECT_DOUBLE_EQ(node.tick()[0].speed, 0.01);
}

TEST(Observer, CpuPerRequestIsShrunkTowardsTheService) {
  FakeNode node({.window_s = 5, .shrink_requests = 100, .machine_cores = 2});
  node.add("cheap", {.id = 1, .limit_cores = 1, .requests = 15, .cpu_ns_per_request = 2 * kMillisecond});
  node.add("dear", {.id = 2, .limit_cores = 1, .requests = 15, .cpu_ns_per_request = 4 * kMillisecond});
  const auto& e = node.tick(20);
  // 300 requests each; pooled 3 ms: (300 * 2 + 100 * 3) / 400 and (300 * 4 + 100 * 3) / 400 ms.
  EXPECT_NEAR(e[0].capacity_qps, 1000 / 2.25, 1e-9);
  EXPECT_NEAR(e[1].capacity_qps, 1000 / 3.75, 1e-9);
}

TEST(Observer, NoiseOfDemandHardlyMovesCapacity) {
  std::mt19937_64 random(7);
  std::lognormal_distribution<double> demand_ms(0.37, 0.8);  // mean 2 ms
  FakeNode node;
  for (std::uint64_t i = 0; i < 8; ++i) {
    node.add("web-" + std::to_string(i), {.id = i + 1, .limit_cores = 0.25, .requests = 15});
  }
  double squares = 0;
  int samples = 0;
  for (int tick = 0; tick < 200; ++tick) {
    for (auto& load : node.loads) {
      double cpu = 0;
      for (std::uint64_t r = 0; r < load.requests; ++r) {
        cpu += demand_ms(random);
      }
      load.cpu_ns_per_request = static_cast<std::uint64_t>(cpu * 1e6 / 15);
    }
    const auto& endpoints = node.tick();
    double mean = 0;
    for (const auto& e : endpoints) {
      mean += std::log(e.capacity_qps) / 8;
    }
    for (const auto& e : endpoints) {
      squares += std::pow(std::log(e.capacity_qps) - mean, 2);
      ++samples;
    }
  }
  EXPECT_LT(std::sqrt(squares / samples), 0.05);
}

TEST(Observer, NewEndpointHasTheServicesCpuPerRequest) {
  auto node = four_pods();
  node.tick(20);
  node.add("web-4", {.id = 5, .limit_cores = 0.3, .requests = 1, .cpu_ns_per_request = 20 * kMillisecond});
  const auto& e = node.tick();
  ASSERT_EQ(e.size(), 5U);
  EXPECT_TRUE(e[4].known);
  const double pooled_ms = (2.0 * 1000 + 20) / 1001;  // 20 ticks of 50 requests, and the one
  EXPECT_NEAR(e[4].capacity_qps, 300 / pooled_ms, 0.2);
}

TEST(Observer, NothingIsKnownBeforeTheServiceHadRequestsEnough) {
  FakeNode node;
  node.add("web-0", {.id = 1, .requests = 9});
  node.add("web-1", {.id = 2, .requests = 0});
  EXPECT_FALSE(node.tick()[0].known);
  EXPECT_FALSE(node.tick()[1].known);
  EXPECT_TRUE(node.tick()[0].known);
  EXPECT_TRUE(node.tick()[1].known);
}

TEST(Observer, IdleServiceKeepsItsCpuPerRequest) {
  auto node = four_pods();
  node.tick(20);
  for (auto& load : node.loads) {
    load.requests = 0;
  }
  const auto& e = node.tick(40);
  EXPECT_TRUE(e[0].known);
  EXPECT_NEAR(e[0].capacity_qps, 200, 1e-9);
  EXPECT_DOUBLE_EQ(e[0].qps, 0);
  EXPECT_DOUBLE_EQ(e[0].p50_ns, 0);
}

TEST(Observer, RestartedPodBeginsAnew) {
  auto node = four_pods();
  node.loads[0].errors = 15;
  EXPECT_DOUBLE_EQ(node.tick(20)[0].error_rate, 1);
  node.pods[0].cgroup_id = node.loads[0].id = 77;
  node.loads[0].errors = 0;
  const auto& e = node.tick();
  EXPECT_DOUBLE_EQ(e[0].error_rate, 0) << "the window of the cgroup before is gone";
  EXPECT_DOUBLE_EQ(e[0].qps, 60);
  EXPECT_TRUE(e[0].known);
  EXPECT_DOUBLE_EQ(e[1].qps, 80);
}

TEST(Observer, GoneAndRemoteAndFirstAreNotKnown) {
  auto node = four_pods();
  node.tick(20);
  node.pods[0].cgroup_id = 0;
  node.loads[0].id = 0;
  node.pods[1].local = false;
  node.pods[1].cgroup_id = 0;
  const auto& e = node.tick();
  EXPECT_FALSE(e[0].known);
  EXPECT_DOUBLE_EQ(e[0].capacity_qps, 0);
  EXPECT_FALSE(e[1].known);
  EXPECT_EQ(e[1].address, "127.1.0.1");
  EXPECT_TRUE(e[2].known);

  auto first = four_pods();
  first.interval = 0;
  EXPECT_FALSE(first.tick()[0].known);
}

TEST(Observer, CgroupMissingFromASampleKeepsItsTelemetryAndAge) {
  auto node = four_pods();
  node.tick(20);
  const MonotonicNs seen = node.now;
  node.loads[0].id = 0;  // the pod is there, its sample is not
  const auto& e = node.tick(3);
  EXPECT_TRUE(e[0].known);
  EXPECT_EQ(e[0].taken, seen);
  EXPECT_EQ(e[1].taken, node.now);
}

TEST(Observer, RepeatedSampleUnderAFreshTimeIsNotFresh) {
  auto node = four_pods();
  node.stuck = true;
  node.tick();
  const MonotonicNs seen = node.now;
  EXPECT_EQ(node.tick(8)[0].taken, seen);
  node.stuck = false;
  EXPECT_EQ(node.tick()[0].taken, node.now) << "it moves again";
  for (auto& load : node.loads) {
    load.requests = 0;
  }
  node.stuck = true;
  EXPECT_EQ(node.tick(8)[0].taken, node.now) << "an idle pod is no stuck source";
}

TEST(Observer, MoreCpuThanTheMachineHasIsNotBelieved) {
  auto node = four_pods();
  node.tick(40);
  const auto before = node.tick()[0];
  EXPECT_EQ(node.disbelief().last, "");
  node.loads[0].cpu_ns_per_request = 1'000 * kMillisecond;  // 15 s in a tick of .25 s on two CPUs
  const auto after = node.tick(4)[0];
  EXPECT_EQ(node.disbelief().cpu, 4U);
  EXPECT_EQ(node.disbelief().last, "shop/web-0: more CPU time than the machine has");
  EXPECT_EQ(after.taken, before.taken) << "it ages";
  EXPECT_EQ(after.capacity_qps, before.capacity_qps);
  node.loads[0].cpu_ns_per_request = 2 * kMillisecond;
  EXPECT_EQ(node.tick()[0].taken, node.now);
  EXPECT_EQ(node.disbelief().last, "") << "the counters stay, the word goes";
  EXPECT_EQ(node.disbelief().cpu, 4U);
}

// Three CPUs of two, tick by tick (.75 s in .25 s). The machine gives 1.05 x 2 x .25 = .525 s a tick, and 10
// s more are lent once, to a task that ran for long before it left its CPU. .225 s of them go a tick, so they
// last for 44; from then on what is given is enough for .525 of .75, and 3 ticks of 10 are not believed.
TEST(Observer, ALittleMoreThanTheMachineHasIsFoundOut) {
  auto node = four_pods();
  node.loads[0].cpu_ns_per_request = 50 * kMillisecond;
  node.tick(4);
  EXPECT_EQ(node.disbelief().cpu, 0U) << "at once it can be";
  node.tick(40);
  EXPECT_EQ(node.disbelief().cpu, 0U) << "44 ticks in all";
  node.tick(60);
  EXPECT_NEAR(static_cast<double>(node.disbelief().cpu), 0.3 * 60, 1);
}

TEST(Observer, AnswersWithoutRequestsAreNotBelieved) {
  auto node = four_pods();
  node.tick(40);
  const auto before = node.tick()[1];
  node.loads[1].unasked = 500;
  const auto after = node.tick(2)[1];
  EXPECT_EQ(node.disbelief().answers, 2U);
  EXPECT_EQ(node.disbelief().last, "shop/web-1: answers to requests that never came");
  EXPECT_EQ(after.taken, before.taken);
  EXPECT_EQ(after.capacity_qps, before.capacity_qps);
}

TEST(Observer, FewerThanNoneInFlightCountsAsNone) {
  auto node = four_pods();
  node.loads[2].in_flight = -3;
  const auto& e = node.tick(2);
  EXPECT_EQ(e[2].in_flight, 0);
  EXPECT_EQ(e[2].taken, node.now) << "the rest of it is believed";
  EXPECT_EQ(node.disbelief().in_flight, 2U);
}

TEST(Observer, FailingFastIsNotStrength) {
  auto node = four_pods();
  node.tick(20);
  // All fail at a hundredth of the CPU, and P2C sends more where answers come at once.
  node.loads[1].requests = node.loads[1].errors = 60;
  node.loads[1].cpu_ns_per_request = 2 * kMillisecond / 100;
  const auto& e = node.tick(20);
  EXPECT_LT(e[1].capacity_qps, 0.1 * 100);
  EXPECT_NEAR(e[0].capacity_qps, 200, 25) << "what the others can carry stays";
  EXPECT_LT(e[1].success, 0.01);
  node.loads[1] = {.id = 2, .limit_cores = 0.2, .requests = 20};
  EXPECT_NEAR(node.tick(40)[1].capacity_qps, 100, 2) << "well again, after some requests";
}

TEST(Observer, ErrorsThatAllGiveAreNoReasonToPreferOne) {
  auto node = four_pods();
  for (auto& load : node.loads) {
    load.errors = load.requests / 5;
  }
  const auto& e = node.tick(200);
  EXPECT_NEAR(e[0].capacity_qps / e[1].capacity_qps, 2, 1e-6);
  EXPECT_NEAR(e[1].capacity_qps / e[2].capacity_qps, 2, 1e-6);
}

TEST(Observer, SwallowedRequestsCountAsFailed) {
  auto node = four_pods();
  node.tick(20);
  node.loads[3].swallows = true;
  EXPECT_LT(node.tick(60)[3].capacity_qps, 0.1 * 50);
  node.loads[3].swallows = false;
  EXPECT_NEAR(node.tick(100)[3].capacity_qps, 50, 1);
}

TEST(Observer, ClosingInsteadOfAnsweringIsFailing) {
  auto node = four_pods();
  node.tick(20);
  node.loads[1].requests = 20;
  node.loads[1].unanswered = 18;
  const auto& e = node.tick(40);
  EXPECT_NEAR(e[1].error_rate, 0.9, 1e-9);
  EXPECT_LT(e[1].success, 0.15);
  EXPECT_LT(e[1].capacity_qps, 0.3 * 100);
}

TEST(Observer, WhatIsNotKnownIsNoFailure) {
  auto node = four_pods();
  node.tick(20);
  node.loads[1].requests = 20;
  node.loads[1].unknown = 15;
  node.loads[1].errors = 1;
  const auto& e = node.tick(40);
  EXPECT_NEAR(e[1].error_rate, 0.2, 1e-9) << "one of the five that are known";
  node.loads[1].unknown = 20;
  node.loads[1].errors = 0;
  EXPECT_EQ(node.tick(40)[1].error_rate, 0);
}

TEST(Observer, WhichContainerServesIsMeasuredAndNotBelieved) {
  FakeNode node;
  node.add("web-0", {.id = 1, .limit_cores = 0.1}, "declared");
  node.add("web-0", {.id = 2, .limit_cores = 0.3, .requests = 10}, "other");
  node.pods[1].declared = false;
  auto e = node.tick(8);
  ASSERT_EQ(e.size(), 1U);
  EXPECT_DOUBLE_EQ(e[0].qps, 40) << "the one that was declared never answered";
  EXPECT_DOUBLE_EQ(e[0].cpu_limit_cores, 0.3);
  node.loads[0].requests = 20;
  e = node.tick(30);
  EXPECT_DOUBLE_EQ(e[0].qps, 80) << "it does: the other's answers are something else's";
  EXPECT_DOUBLE_EQ(e[0].cpu_limit_cores, 0.1);
}

TEST(Observer, PodWithoutQuotaMayUseTheMachine) {
  FakeNode node;
  node.add("web-0", {.id = 1, .limit_cores = 64, .requests = 25});
  const auto& e = node.tick(4);
  EXPECT_DOUBLE_EQ(e[0].cpu_limit_cores, 2);
  EXPECT_NEAR(e[0].capacity_qps, 1000, 1e-9);
}

TEST(Observer, UnreadableLimitIsTheOneReadBefore) {
  auto node = four_pods();
  node.tick(20);
  node.loads[0].limit_cores = 0;
  EXPECT_NEAR(node.tick()[0].capacity_qps, 200, 1e-9);
}

// On a hybrid host a pod may have no group in v1's cpu hierarchy.
TEST(Observer, APodWithoutAReadableLimitIsKnownByAllButItsCapacity) {
  FakeNode node;
  node.add("web-0", {.id = 1, .limit_cores = 0, .requests = 25});
  node.add("web-1", {.id = 2, .limit_cores = 0.5, .requests = 25});
  const auto& e = node.tick(4);
  ASSERT_TRUE(e[0].known);
  EXPECT_GT(e[0].qps, 0);
  EXPECT_GT(e[0].cpu_cores, 0);
  EXPECT_EQ(e[0].capacity_qps, 0);
  EXPECT_GT(e[1].capacity_qps, 0);
  FakeNode alone;
  alone.add("web-1", {.id = 2, .limit_cores = 0.5, .requests = 25});
  EXPECT_DOUBLE_EQ(e[1].cpu_evidence, alone.tick(4)[0].cpu_evidence)
      << "what one without a limit uses is no part of what is allowed";
}

TEST(Observer, ContainersThatAnswerAddUpAndSidecarsDoNot) {
  FakeNode node;
  node.add("web-0", {.id = 1, .limit_cores = 0.1, .requests = 10}, "app");
  node.add("web-0", {.id = 2, .limit_cores = 0.3, .requests = 10}, "admin");
  node.add("web-0", {.id = 3, .limit_cores = 1, .requests = 20}, "istio-proxy");
  node.add("web-0", {.id = 4, .limit_cores = 1}, "log-shipper");
  const auto& e = node.tick(8);
  ASSERT_EQ(e.size(), 1U);
  EXPECT_DOUBLE_EQ(e[0].qps, 80);
  EXPECT_DOUBLE_EQ(e[0].cpu_limit_cores, 0.4);
  EXPECT_DOUBLE_EQ(e[0].cpu_cores, 0.16);
  EXPECT_NEAR(e[0].capacity_qps, 200, 1e-9);
}

TEST(Observer, CgroupsBelowAContainerShareItsQuotaAndMemory) {
  Observer observer({.machine_cores = 2});
  sample::Sample sample;
  sample.taken = 2'000'000'000;
  sample.interval_ns = kTick;
  sample.cgroups = {testing::cgroup_sample({.id = 1, .limit_cores = 0.5}),
                    testing::cgroup_sample({.id = 2, .limit_cores = 0.5, .requests = 25})};
  for (auto& cgroup : sample.cgroups) {
    cgroup.memory_bytes = 100;
    cgroup.memory_limit_bytes = 400;
    cgroup.in_flight = cgroup.id == 1 ? -3 : 5;
  }
  identity::Pod outer{.cgroup_id = 1, .pod = "p", .ns = "shop", .container = "app", .service = "web"};
  identity::Pod inner = outer;
  inner.cgroup_id = 2;
  const auto& e = observer.endpoints(sample, {outer, inner});
  ASSERT_EQ(e.size(), 1U);
  EXPECT_DOUBLE_EQ(e[0].cpu_limit_cores, 0.5);
  EXPECT_DOUBLE_EQ(e[0].memory_bytes, 100);
  EXPECT_DOUBLE_EQ(e[0].memory_share, 0.25);
  EXPECT_DOUBLE_EQ(e[0].in_flight, 5);
}

TEST(Observer, PodsWithoutAServiceAreLeftOutAndGoneOnesForgotten) {
  auto node = four_pods();
  node.pods[3].service.clear();
  EXPECT_EQ(node.tick().size(), 3U);
  node.pods.erase(node.pods.begin());
  EXPECT_EQ(node.tick().front().id.pod, "web-1");
}

TEST(Observer, AnySampleGivesFiniteTelemetry) {
  std::mt19937_64 random(11);
  const double limits[] = {std::nan(""), INFINITY, -1, 0, 1e-300, 1e300, 0.5};
  const auto counter = [&]() -> std::uint64_t {
    switch (random() % 4) {
      case 0:
        return 0;
      case 1:
        return ~0ULL;
      case 2:
        return random();
      default:
        return random() % 1000;
    }
  };
  Observer observer({.machine_cores = std::nan("")});
  std::vector<identity::Pod> pods;
  for (std::uint64_t i = 0; i < 6; ++i) {
    pods.push_back({.cgroup_id = i, .pod = "p" + std::to_string(i % 4), .ns = "n", .service = "s"});
  }
  for (int tick = 0; tick < 500; ++tick) {
    sample::Sample sample;
    sample.taken = counter();
    sample.interval_ns = counter();
    for (std::uint64_t i = 0; i < 6; ++i) {
      sample::CgroupSample s;
      s.id = random() % 6;
      s.requests = counter();
      s.responses = counter();
      s.errors = counter();
      s.in_flight = static_cast<std::int64_t>(counter());
      s.on_cpu_ns = counter();
      s.wait_ns = counter();
      s.self_wait_ns = counter();
      s.throttled_ns = counter();
      s.memory_bytes = counter();
      s.memory_limit_bytes = counter();
      s.cpu_limit_cores = limits[random() % 7];
      s.first_byte.count = counter();
      s.first_byte.buckets[random() % BALLAST_HIST_BUCKETS] = counter();
      sample.cgroups.push_back(s);
    }
    for (const auto& e : observer.endpoints(sample, pods)) {
      for (const double value : {e.qps, e.tick_requests, e.p50_ns, e.p99_ns, e.tick_p50_ns, e.in_flight,
                                 e.cpu_cores, e.cpu_limit_cores, e.utilisation, e.memory_bytes,
                                 e.memory_share, e.capacity_qps, e.wait_share, e.error_rate}) {
        ASSERT_TRUE(std::isfinite(value) && value >= 0);
      }
      ASSERT_GT(e.speed, 0);
      ASSERT_LE(e.speed, 1);
      ASSERT_LE(e.error_rate, 1);
      ASSERT_LE(e.wait_share, 1);
    }
  }
}

TEST(Observe, FourToTwoToOneToOneFromKernelSamples) {
  FakeNode node;
  node.add("web-0", {.id = 1, .limit_cores = 0.4, .requests = 15});
  node.add("web-1", {.id = 2, .limit_cores = 0.2, .requests = 15});
  node.add("web-2", {.id = 3, .limit_cores = 0.1, .requests = 8});
  node.add("web-3", {.id = 4, .limit_cores = 0.1, .requests = 4});
  PersistenceEstimator persistence;
  spec::ServiceAggregate a;
  std::vector<spec::EndpointTelemetry> e;
  for (int tick = 0; tick < 5; ++tick) {
    e = node.tick();
    a = aggregate({"shop", "web"}, e, {}, {.now = node.now}, persistence);
  }
  EXPECT_GE(a.persistence_s, 10) << "within the second tick after one second";
  const auto o = observe(a, e, std::vector<double>{0.2}, {.now = node.now});
  ASSERT_EQ(o.endpoints.size(), 4U);
  const double expected[] = {2, 1, 0.5, 0.5};
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(std::exp(o.endpoints[i].log_prior), expected[i], 1e-6);
    EXPECT_FLOAT_EQ(o.endpoints[i].features[spec::kLogWeight], i == 0 ? 0.2F : 0.0F);
    EXPECT_EQ(o.endpoints[i].telemetry.id, e[i].id);
  }
}

}  // namespace
}  // namespace ballast::observe
