// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/base/file.h"
#include "model/policy/parameters.h"
#include "model/sim/scenario.h"
#include "tools/bench/gate_command.h"

namespace ballast::bench {
namespace {

using Strata = std::vector<std::vector<double>>;

TEST(Bootstrap, TheMeanOfStrataIsTheMeanOfTheirMeans) {
  const Strata strata = {{1, 2, 3}, {10, 20, 30, 40}};
  const Interval interval = bootstrap_mean(strata);
  EXPECT_DOUBLE_EQ(interval.mean, (2.0 + 25.0) / 2);
  EXPECT_LT(interval.low, interval.mean);
  EXPECT_GT(interval.high, interval.mean);
}

TEST(Bootstrap, TheIntervalIsThatOfTheNormalLawForManyValues) {
  Strata strata(1);
  for (int i = 0; i < 400; ++i) {
    strata[0].push_back(i % 2 == 0 ? 1 : -1);  // deviation 1: the mean's is .05
  }
  const Interval interval = bootstrap_mean(strata);
  EXPECT_NEAR(interval.low, -1.96 * 0.05, 0.02);
  EXPECT_NEAR(interval.high, 1.96 * 0.05, 0.02);
}

TEST(Bootstrap, EqualValuesLeaveNoDoubt) {
  const Interval interval = bootstrap_mean(Strata{{0.5, 0.5, 0.5}});
  EXPECT_DOUBLE_EQ(interval.low, 0.5);
  EXPECT_DOUBLE_EQ(interval.high, 0.5);
}

GateRow row(double p99, double p50) {
  GateRow row;
  row.scenario = "static";
  row.p99_prior = {p99, p99, p99};
  row.p50_prior = {p50, p50, p50};
  return row;
}

TEST(Judge, PassesOnlyABetterOneThatIsNowhereWorse) {
  const Interval gain{0.1, 0.05, 0.15};
  EXPECT_TRUE(judge({row(0.9, 1.0), row(1.01, 1.01)}, gain, gain, 1.02).passed);
  EXPECT_FALSE(judge({row(0.9, 1.0)}, {0.1, -0.01, 0.2}, gain, 1.02).passed)
      << "perhaps no better than the prior";
  EXPECT_FALSE(judge({row(0.9, 1.0)}, gain, {0.0, 0.0, 0.0}, 1.02).passed) << "no better than the incumbent";
  const Verdict worse = judge({row(0.5, 1.0), row(1.03, 1.0)}, gain, gain, 1.02);
  EXPECT_FALSE(worse.passed);
  EXPECT_NE(worse.why.find("static"), std::string::npos) << worse.why;
  EXPECT_FALSE(judge({row(0.5, 1.1)}, gain, gain, 1.02).passed) << "the median may not pay for the tail";
}

TEST(Gate, AnUntrainedCandidateIsThePriorAndRefused) {
  auto folder = TempDir::create(testing::TempDir(), "gate-");
  ASSERT_TRUE(folder.ok());
  GateOptions options;
  options.candidate = (folder->path() / "untrained.bin").string();
  options.output = (folder->path() / "gate.json").string();
  options.scenarios = {"static"};
  options.seeds = "1..1";
  ASSERT_TRUE(write_file_atomic(options.candidate, policy::serialize(policy::initial(3))).ok());
  const Status verdict = run_gate(options);
  ASSERT_FALSE(verdict.ok());
  EXPECT_EQ(verdict.error().exit_code(), 1);
  const auto report = read_file(options.output);
  ASSERT_TRUE(report.ok());
  EXPECT_NE(report->find("\"passed\": false"), std::string::npos);
}

TEST(Gate, WrongUseIsRefused) {
  GateOptions options;
  options.candidate = "/no/such/file";
  EXPECT_FALSE(run_gate(options).ok());
  options.seeds = "9..3";
  EXPECT_EQ(run_gate(options).error().exit_code(), 2);
}

TEST(Gate, EveryHeldOutScenarioExists) {
  for (const auto& name : held_out_scenarios()) {
    EXPECT_TRUE(sim::load_scenario(name).ok()) << name;
  }
}

}  // namespace
}  // namespace ballast::bench
