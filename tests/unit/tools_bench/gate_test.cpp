// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <filesystem>
#include <optional>

#include "core/base/file.h"
#include "model/policy/forecast_file.h"
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

GateRow row(Interval p99, Interval p50 = {1, 1, 1}) {
  GateRow row;
  row.scenario = "static";
  row.p99.fill(p99);
  row.p50.fill(p50);
  return row;
}

Gains gains(Interval of_every_arm) {
  Gains gains;
  gains.fill(of_every_arm);
  return gains;
}

TEST(Judge, PassesOnlyWhatBoundsProveBetterAndNowhereWorse) {
  const Gains better = gains({0.1, 0.05, 0.15});
  const GateRow well = row({0.9, 0.88, 0.92});
  EXPECT_TRUE(judge({well, row({1.0, 0.99, 1.01})}, better, 10, 1.02).passed);
  for (const Arm arm : {kIncumbent, kPrior, kPriorSquareRoot, kStrongRule}) {
    Gains perhaps = better;
    perhaps[arm] = {0.1, -0.01, 0.2};
    const Verdict verdict = judge({well}, perhaps, 10, 1.02);
    EXPECT_FALSE(verdict.passed);
    EXPECT_NE(verdict.why.find(kArmNames[arm]), std::string::npos) << verdict.why;
    perhaps[arm] = {0, 0, 0};
    EXPECT_FALSE(judge({well}, perhaps, 10, 1.02).passed) << "a tie is no improvement";
  }
  const Verdict worse = judge({well, row({1.0, 0.97, 1.03})}, better, 10, 1.02);
  EXPECT_FALSE(worse.passed) << "the mean does not matter, the bound does";
  EXPECT_NE(worse.why.find("static"), std::string::npos) << worse.why;
  EXPECT_FALSE(judge({row({0.5, 0.4, 0.6}, {1.01, 1, 1.1})}, better, 10, 1.02).passed)
      << "the median may not pay for the tail";
  EXPECT_FALSE(judge({well}, better, kLeastSeeds - 1, 1.02).passed) << "too few for bounds";
}

TEST(Judge, WorseThanThePriorInOneScenarioIsTheStrongRulesMatter) {
  GateRow row_of = row({0.9, 0.88, 0.92});
  row_of.p99[kPrior] = {1.1, 1.1, 1.1};
  EXPECT_TRUE(judge({row_of}, gains({0.1, 0.05, 0.15}), 10, 1.02).passed);
}

class Gate : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = TempDir::create(testing::TempDir(), "gate-");
    ASSERT_TRUE(folder.ok());
    folder_.emplace(std::move(*folder));
    // Short, and slow by habit: the shipped forecast gains, and so nothing else can be what passed.
    ASSERT_TRUE(write_file_atomic(file("world.yaml"), R"(title: pods that lose their CPU by habit
duration_s: 150
warmup_s: 60
clients: 10
service: {mean_ms: 20, cv: 1}
servers: [{count: 6, speed: 1}]
arrivals: {rho: 0.55}
slowness:
  - {kind: periodic, every_s: 12.1, duration_s: 4, stagger_s: 2, factor: 0.3}
)")
                    .ok());
    options_.scenarios = {file("world.yaml")};
    options_.seeds = "1..5";
    options_.loop_name = "istio";
    options_.candidate = file("candidate.bin");
    options_.output = file("gate.json");
  }
  std::string file(const std::string& name) const { return (folder_->path() / name).string(); }
  std::string report() const {
    const auto text = read_file(options_.output);
    return text.ok() ? *text : std::string();
  }

  std::optional<TempDir> folder_;
  GateOptions options_;
};

TEST_F(Gate, AForecastThatGainsPassesAndThenIsNoImprovementOverItself) {
  ASSERT_TRUE(write_file_atomic(options_.candidate, policy::shipped_forecast()).ok());
  const Status passed = run_gate(options_);
  EXPECT_TRUE(passed.ok()) << report();
  EXPECT_NE(report().find("\"passed\": true"), std::string::npos);
  options_.incumbent = options_.candidate;
  const Status tie = run_gate(options_);
  ASSERT_FALSE(tie.ok());
  EXPECT_EQ(tie.error().exit_code(), 1);
  EXPECT_NE(tie.error().message.find("over incumbent may be 0.0000"), std::string::npos)
      << tie.error().message;
}

TEST_F(Gate, UntrainedParametersOfBothKindsAreRefused) {
  ASSERT_TRUE(write_file_atomic(options_.candidate,
                                policy::serialize_forecast(std::vector<float>(spec::kForecastParameters, 0)))
                  .ok());
  const Status forecast = run_gate(options_);
  ASSERT_FALSE(forecast.ok());
  EXPECT_NE(forecast.error().message.find("over queue_rule may be 0.0000"), std::string::npos)
      << "it is the strong rule to the last bit: " << forecast.error().message;
  ASSERT_TRUE(write_file_atomic(options_.candidate, policy::serialize(policy::initial(3))).ok());
  const Status actor = run_gate(options_);
  ASSERT_FALSE(actor.ok());
  EXPECT_NE(actor.error().message.find("over prior may be 0.0000"), std::string::npos)
      << "it is the prior: " << actor.error().message;
  EXPECT_NE(report().find("\"passed\": false"), std::string::npos);
}

TEST(GateUse, WrongUseIsRefused) {
  GateOptions options;
  options.candidate = "/no/such/file";
  EXPECT_FALSE(run_gate(options).ok());
  options.seeds = "9..3";
  EXPECT_EQ(run_gate(options).error().exit_code(), 2);
}

TEST(GateUse, EveryHeldOutScenarioExists) {
  for (const auto& name : held_out_scenarios()) {
    EXPECT_TRUE(sim::load_scenario(name).ok()) << name;
  }
}

}  // namespace
}  // namespace ballast::bench
