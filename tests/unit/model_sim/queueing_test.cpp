// SPDX-License-Identifier: Apache-2.0
// The simulator against closed forms.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>

#include "model/sim/simulation.h"

namespace ballast::sim {
namespace {

constexpr double kMean = 0.010;

Scenario one_pod(Discipline discipline, LawSpec::Kind law, double rho, std::uint32_t workers = 1) {
  Scenario scenario;
  scenario.name = "queue";
  ServerSpec server;
  server.workers = workers;
  scenario.servers = {server};
  scenario.discipline = discipline;
  scenario.service.kind = law;
  scenario.service.mean_s = kMean;
  scenario.arrivals.rho = rho;
  scenario.requests = 120'000;
  scenario.warmup_s = 20'000 / base_rate(scenario);
  return scenario;
}

struct Estimate {
  double mean = 0;
  double error = 0;  ///< standard error over independent runs
};

Estimate estimate(const Scenario& scenario, const std::string& policy,
                  const std::function<double(const Metrics&)>& value, int runs = 10) {
  double sum = 0;
  double squares = 0;
  for (int seed = 1; seed <= runs; ++seed) {
    Simulation simulation(scenario, **find_technique(policy), static_cast<std::uint64_t>(seed));
    const double x = value(simulation.run());
    sum += x;
    squares += x * x;
  }
  const double mean = sum / runs;
  return {mean, std::sqrt(std::max(0.0, squares / runs - mean * mean) / (runs - 1))};
}

/// Inside the 99.9 % interval (Student, 9 degrees of freedom: 4.78), which has to be narrow enough
/// to say something.
void expect_agrees(const Estimate& is, double theory, double widest = 0.08) {
  EXPECT_NEAR(is.mean, theory, 4.78 * is.error + 1e-9);
  EXPECT_LT(is.error / theory, widest);
}

double mean_of(const Metrics& m) {
  return m.mean_ms;
}
double p99_of(const Metrics& m) {
  return m.p99_ms;
}

class AtLoad : public ::testing::TestWithParam<double> {};

TEST_P(AtLoad, MM1SojournIsExponential) {
  const double rho = GetParam();
  const auto scenario = one_pod(Discipline::kFifo, LawSpec::Kind::kExponential, rho);
  const double mean_ms = 1000 * kMean / (1 - rho);
  expect_agrees(estimate(scenario, "round_robin", mean_of), mean_ms);
  expect_agrees(estimate(scenario, "round_robin", p99_of), mean_ms * std::log(100.0));
}

TEST_P(AtLoad, MG1ProcessorSharingMeanIsInsensitive) {
  const double rho = GetParam();
  for (const auto law : {LawSpec::Kind::kConstant, LawSpec::Kind::kLognormal, LawSpec::Kind::kBimodal}) {
    const auto scenario = one_pod(Discipline::kProcessorSharing, law, rho);
    expect_agrees(estimate(scenario, "round_robin", mean_of), 1000 * kMean / (1 - rho));
  }
}

TEST_P(AtLoad, MG1FifoIsPollaczekKhinchine) {
  const double rho = GetParam();
  const double lambda = rho / kMean;
  const auto theory = [&](double second_moment) {
    return 1000 * (kMean + lambda * second_moment / (2 * (1 - rho)));
  };
  const auto constant = one_pod(Discipline::kFifo, LawSpec::Kind::kConstant, rho);
  expect_agrees(estimate(constant, "round_robin", mean_of), theory(kMean * kMean));
  auto lognormal = one_pod(Discipline::kFifo, LawSpec::Kind::kLognormal, rho);
  lognormal.service.cv = 1.5;
  expect_agrees(estimate(lognormal, "round_robin", mean_of), theory((1 + 1.5 * 1.5) * kMean * kMean), 0.12);
}

TEST_P(AtLoad, MMcIsErlangC) {
  const double rho = GetParam();
  constexpr std::uint32_t kWorkers = 4;
  const double offered = rho * kWorkers;
  double term = 1;
  double sum = 1;
  for (std::uint32_t k = 1; k < kWorkers; ++k) {
    term *= offered / k;
    sum += term;
  }
  const double last = term * offered / kWorkers / (1 - rho);
  const double waits = last / (sum + last);  // Erlang C
  const double mu = 1 / kMean;
  const double theta = kWorkers * mu * (1 - rho);
  const auto scenario = one_pod(Discipline::kFifo, LawSpec::Kind::kExponential, rho, kWorkers);
  expect_agrees(estimate(scenario, "round_robin", mean_of), 1000 * (kMean + waits / theta));
  const auto beyond = [&](double t) {
    return (1 - waits) * std::exp(-mu * t) +
           waits * (theta * std::exp(-mu * t) - mu * std::exp(-theta * t)) / (theta - mu);
  };
  double low = 0;
  double high = 100;
  while (high - low > 1e-9) {
    const double middle = (low + high) / 2;
    (beyond(middle) > 0.01 ? low : high) = middle;
  }
  expect_agrees(estimate(scenario, "round_robin", p99_of), 1000 * low);
}

INSTANTIATE_TEST_SUITE_P(Loads, AtLoad, ::testing::Values(0.5, 0.8, 0.95));

// Waiting that holds the worker is service: M/G/1 by Pollaczek and Khinchine over work and wait together.
TEST(Queueing, WaitingThatHoldsTheWorkerIsPartOfTheService) {
  auto scenario = one_pod(Discipline::kProcessorSharing, LawSpec::Kind::kConstant, 0.7);
  scenario.servers[0].serial = true;
  scenario.service.mean_s = 0.002;
  scenario.wait = {.mean_s = 0.008, .cv = 0.75};
  scenario.warmup_s = 20'000 / base_rate(scenario);
  const double service = 0.010;
  const double squares = service * service + 0.006 * 0.006;
  const double rate = 0.7 / service;
  expect_agrees(estimate(scenario, "least_request", mean_of),
                1000 * (service + rate * squares / (2 * (1 - 0.7))));
}

// In processor sharing it holds none: the work's sojourn and then the wait.
TEST(Queueing, WaitingThatHoldsNoWorkerIsAddedToTheSojourn) {
  auto scenario = one_pod(Discipline::kProcessorSharing, LawSpec::Kind::kLognormal, 0.6);
  scenario.wait = {.mean_s = 0.030, .cv = 1};
  scenario.servers[0].wait_factor = 2;
  expect_agrees(estimate(scenario, "least_request", mean_of), 1000 * (kMean / (1 - 0.6) + 0.060));
}

TEST(ProcessorSharing, SeveralWorkersAreOneBirthDeathProcess) {
  // With exponential works the number of requests of M/M/c does not depend on the discipline, so
  // by Little the mean is the same.
  const auto fifo = one_pod(Discipline::kFifo, LawSpec::Kind::kExponential, 0.8, 4);
  const auto sharing = one_pod(Discipline::kProcessorSharing, LawSpec::Kind::kExponential, 0.8, 4);
  const auto a = estimate(fifo, "round_robin", mean_of);
  const auto b = estimate(sharing, "round_robin", mean_of);
  EXPECT_NEAR(a.mean, b.mean, 4.78 * (a.error + b.error));
}

TEST(PowerOfTwoChoices, MeetsTheMeanFieldFixedPoint) {
  // Vvedenskaya 1996, Mitzenmacher 2001: mean time = sum over k >= 1 of rho^(2^k - 2).
  for (const double rho : {0.7, 0.9}) {
    auto scenario = one_pod(Discipline::kFifo, LawSpec::Kind::kExponential, rho);
    scenario.servers.assign(500, ServerSpec{});
    scenario.requests = 400'000;
    scenario.warmup_s = 100'000 / base_rate(scenario);
    double theory = 0;
    for (int k = 1; k < 12; ++k) {
      theory += std::pow(rho, std::pow(2.0, k) - 2);
    }
    const auto is = estimate(scenario, "least_request", mean_of, 3);
    EXPECT_NEAR(is.mean / (1000 * kMean * theory), 1, 0.02) << "rho " << rho;
  }
}

TEST(Speed, HalfTheSpeedIsTwiceTheWork) {
  auto slow = one_pod(Discipline::kProcessorSharing, LawSpec::Kind::kExponential, 0.6);
  slow.requests = 20'000;
  slow.warmup_s = 0;
  auto fast = slow;
  slow.servers[0].speed = 0.5;
  slow.arrivals = {};
  slow.arrivals.rate_rps = 30;
  fast.arrivals = {};
  fast.arrivals.rate_rps = 60;
  const auto policy = **find_technique("round_robin");
  const Metrics a = Simulation(slow, policy, 1).run();
  const Metrics b = Simulation(fast, policy, 1).run();
  EXPECT_NEAR(a.p99_ms, 2 * b.p99_ms, 1e-3);  // the same run in slow motion
}

}  // namespace
}  // namespace ballast::sim
