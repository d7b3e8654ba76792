// SPDX-License-Identifier: Apache-2.0
// The path of a request: arrivals, deadlines, retries, cancelling, and that runs are paired.
#include "model/sim/simulation.h"

#include <gtest/gtest.h>

#include <cmath>

namespace ballast::sim {
namespace {

/// Works of 100 ms on one pod, one at a time, at times given by hand.
Scenario by_hand(std::vector<double> arrivals) {
  Scenario scenario;
  scenario.name = "hand";
  scenario.servers = {ServerSpec{}};
  scenario.discipline = Discipline::kFifo;
  scenario.service.kind = LawSpec::Kind::kConstant;
  scenario.service.mean_s = 0.1;
  scenario.requests = arrivals.size();
  scenario.arrivals.trace_s = std::move(arrivals);
  return scenario;
}

Metrics run(const Scenario& scenario, const std::string& policy = "round_robin", std::uint64_t seed = 1) {
  return Simulation(scenario, **find_technique(policy), seed).run();
}

TEST(Request, WaitsItsTurn) {
  const Metrics m = run(by_hand({1, 1, 1, 5}));
  EXPECT_EQ(m.requests, 4U);
  EXPECT_NEAR(m.mean_ms, (100 + 200 + 300 + 100) / 4., 1e-3);
  EXPECT_EQ(m.good_by_second.at(1), 3U);
  EXPECT_EQ(m.good_by_second.at(5), 1U);
}

TEST(Request, SharesTheProcessor) {
  auto scenario = by_hand({1, 1.05});
  scenario.discipline = Discipline::kProcessorSharing;
  // The first is half done when the second comes; both end their first half at 1.15.
  EXPECT_NEAR(run(scenario).mean_ms, 150, 1e-3);
}

TEST(Deadline, FailsAndCountsAsTheDeadline) {
  auto scenario = by_hand({1, 1, 1});
  scenario.deadline_s = 0.25;
  const Metrics m = run(scenario);
  EXPECT_EQ(m.errors, 1U);
  EXPECT_NEAR(m.p999_ms, 250, 0.2);
}

TEST(Deadline, CancelledWorkMakesRoom) {
  // Without cancelling the pod goes on with what nobody waits for.
  auto scenario = by_hand({1, 1, 1, 1, 1.16});
  scenario.deadline_s = 0.15;
  EXPECT_EQ(run(scenario).errors, 4U);
  scenario.cancel = true;
  EXPECT_EQ(run(scenario).errors, 3U);
}

TEST(Retry, TheSecondTryIsASuccess) {
  auto scenario = by_hand({1});
  scenario.servers = {ServerSpec{}, ServerSpec{}};
  scenario.faults = {{Fault::Kind::kFastFail, {0, 1}, 0, 1.01, 1, 0.001}};
  EXPECT_EQ(run(scenario).errors, 1U);
  scenario.retries = 1;
  const Metrics m = run(scenario);
  EXPECT_EQ(m.errors, 0U);
  EXPECT_NEAR(m.mean_ms, 1 + 25 + 100, 1e-3);  // failure, back-off, work
}

TEST(Retry, ABlackHoleIsLeftAfterTheTryTimeout) {
  auto scenario = by_hand({1});
  scenario.servers = {ServerSpec{}, ServerSpec{}};
  scenario.faults = {{Fault::Kind::kBlackHole, {0}, 0, 0, 1, 0}};
  scenario.try_timeout_s = 0.3;
  scenario.retries = 1;
  int through_the_hole = 0;
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    const Metrics m = run(scenario, "round_robin", seed);
    EXPECT_EQ(m.errors, 0U);
    const bool hit = m.requests_by_server[0] == 1;
    through_the_hole += hit ? 1 : 0;
    EXPECT_NEAR(m.mean_ms, hit ? 300 + 25 + 100 : 100, 1e-3);
  }
  EXPECT_GT(through_the_hole, 0);
  EXPECT_LT(through_the_hole, 10);
}

TEST(Retry, WhatIsLostWithoutADeadlineIsAnError) {
  auto scenario = by_hand({1});
  scenario.faults = {{Fault::Kind::kBlackHole, {0}, 0, 0, 1, 0}};
  EXPECT_EQ(run(scenario).errors, 1U);
}

TEST(Zones, DelayIsAddedOnce) {
  auto scenario = by_hand({1});
  scenario.zone_delay_s = {{0.03}};
  EXPECT_NEAR(run(scenario).mean_ms, 130, 1e-3);
}

TEST(Arrivals, FollowTheirEnvelope) {
  Scenario scenario = by_hand({});
  scenario.arrivals = {};
  scenario.arrivals.rate_rps = 1000;
  scenario.arrivals.steps = {{0, 1}, {10, 0.2}};
  scenario.arrivals.ramp = {{0, 1}, {20, 1}, {30, 3}};
  scenario.arrivals.spikes = {{4, 2, 2, 0}};
  Arrivals arrivals(scenario, 7);
  std::vector<double> counts(30, 0);
  for (double at = arrivals.next(); at < 30; at = arrivals.next()) {
    counts[static_cast<std::size_t>(at)] += 1;
  }
  for (std::size_t second = 0; second < counts.size(); ++second) {
    const double expected = 1000 * envelope(scenario.arrivals, static_cast<double>(second) + 0.5);
    EXPECT_NEAR(counts[second], expected, 5 * std::sqrt(expected)) << "second " << second;
  }
}

TEST(Arrivals, ModulatedOnesKeepTheirMeanAndAreBurstier) {
  Scenario scenario = by_hand({});
  scenario.arrivals = {};
  scenario.arrivals.rate_rps = 100;
  scenario.arrivals.mmpp = {{1, 1}, {7, 1}};
  Arrivals arrivals(scenario, 7);
  std::vector<double> counts(2000, 0);
  for (double at = arrivals.next(); at < 2000; at = arrivals.next()) {
    counts[static_cast<std::size_t>(at)] += 1;
  }
  double sum = 0;
  double squares = 0;
  for (const double count : counts) {
    sum += count;
    squares += count * count;
  }
  const double mean = sum / 2000;
  EXPECT_NEAR(mean, 100, 6);
  EXPECT_GT((squares / 2000 - mean * mean) / mean, 5);  // Poisson: 1
}

TEST(Law, MeansAndMoments) {
  for (const auto kind : {LawSpec::Kind::kConstant, LawSpec::Kind::kExponential, LawSpec::Kind::kLognormal,
                          LawSpec::Kind::kPareto, LawSpec::Kind::kBimodal, LawSpec::Kind::kTrace}) {
    LawSpec spec;
    spec.kind = kind;
    spec.mean_s = 2;
    spec.cv = 0.7;
    spec.shape = 3;
    spec.trace_s = {1, 2, 6};
    Law law(spec);
    Rng rng(3);
    double sum = 0;
    for (int i = 0; i < 300'000; ++i) {
      sum += law.sample(rng);
    }
    EXPECT_NEAR(sum / 300'000 / mean_work(spec), 1, 0.015) << static_cast<int>(kind);
  }
}

Scenario busy() {
  auto scenario = load_scenario("stressful");
  scenario->duration_s = 20;
  scenario->warmup_s = 0;
  return *scenario;
}

TEST(Pairing, PoliciesGetTheSameArrivalsAndWorks) {
  // FIFO on one pod serves whatever comes in the order it comes: the same p99 to the last bit
  // means the same arrivals and works, whatever the policy has drawn in between.
  auto scenario = busy();
  scenario.discipline = Discipline::kFifo;
  scenario.servers = {ServerSpec{}};
  scenario.slowness.clear();
  scenario.arrivals.rho = 0.5;
  const Metrics first = run(scenario, "round_robin", 5);
  for (const auto& policy : techniques()) {
    if (!policy.pooled) {  // shares the processor whatever the scenario says
      const Metrics m = run(scenario, policy.name, 5);
      EXPECT_EQ(m.requests, first.requests) << policy.name;
      EXPECT_EQ(m.mean_ms, first.mean_ms) << policy.name;
      EXPECT_EQ(m.p99_ms, first.p99_ms) << policy.name;
    }
  }
}

TEST(Pairing, PoliciesGetTheSameSlowness) {
  auto scenario = busy();
  const auto slow_at = [&](const std::string& policy) {
    std::vector<double> speeds;
    Simulation simulation(scenario, **find_technique(policy), 5);
    for (double at = 1; at < 20; at += 5) {
      simulation.run_until(at);
      for (std::uint32_t server = 0; server < scenario.servers.size(); ++server) {
        speeds.push_back(simulation.capacity(server));
      }
    }
    return speeds;
  };
  scenario.slowness[0].every_s = 3;
  EXPECT_EQ(slow_at("random"), slow_at("prequal"));
}

TEST(Pairing, TheSamePolicyTwiceIsTheSameRun) {
  for (const auto& policy : techniques()) {
    const Metrics a = Simulation(busy(), policy, 9).run();
    const Metrics b = Simulation(busy(), policy, 9).run();
    EXPECT_EQ(a.p99_ms, b.p99_ms) << policy.name;
    EXPECT_EQ(a.mean_ms, b.mean_ms) << policy.name;
    EXPECT_EQ(a.requests_by_server, b.requests_by_server) << policy.name;
    const Metrics other = Simulation(busy(), policy, 10).run();
    EXPECT_NE(a.mean_ms, other.mean_ms) << policy.name;
  }
}

TEST(Pairing, InStepsIsTheSameAsAtOnce) {
  const auto policy = **find_technique("peak_ewma");
  const Metrics whole = Simulation(busy(), policy, 9).run();
  Simulation stepped(busy(), policy, 9);
  double at = 0;
  while (stepped.run_until(at)) {
    at += 0.137;
  }
  EXPECT_EQ(stepped.metrics().mean_ms, whole.mean_ms);
}

TEST(Pairing, LookedAtIsTheSameAsAtOnce) {
  const auto policy = **find_technique("queue_rule");  // its controller ticks between the looks
  const Metrics whole = Simulation(busy(), policy, 9).run();
  Simulation looked_at(busy(), policy, 9);
  looked_at.take_outcome();
  std::vector<double> times;
  std::size_t seen = 0;
  const Metrics same = looked_at.run(0.5, [&](double now) {
    times.push_back(now);
    seen += looked_at.take_outcome().latencies.size();
  });
  EXPECT_EQ(same.mean_ms, whole.mean_ms);
  ASSERT_GT(times.size(), 3U);
  EXPECT_EQ(times[0], 0.5);
  EXPECT_EQ(times[2], 1.5);
  EXPECT_GT(seen, whole.requests / 2);
}

}  // namespace
}  // namespace ballast::sim
