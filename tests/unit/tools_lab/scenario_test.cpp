// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/scenario.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "tools/lab/policies.h"

namespace ballast::lab {
namespace {

using testing::HasSubstr;
using testing::StartsWith;

constexpr const char* kGood = R"(about: two pods
load: 0.5
demand: {mean_ms: 4, sigma: 0.5}
pods:
  - {name: web-0, quota: 0.4}
  - {name: web-1, quota: 0.2}
events:
  - {at_s: 1, set_quota: web-0, quota: 0.1}
  - {at_s: 2, kill_pod: web-1}
  - {at_s: 2, add_pod: web-1, quota: 0.3}
  - {at_s: 3, kill: learner}
  - {at_s: 4, restart: learner}
)";

TEST(Scenario, IsReadWithItsDefaults) {
  const auto scenario = parse_scenario(kGood, "a/b/mine.yaml");
  ASSERT_TRUE(scenario.ok()) << scenario.error().message;
  EXPECT_EQ(scenario->name, "mine");
  EXPECT_EQ(scenario->ns, "shop");
  EXPECT_EQ(scenario->period_ms, 20);
  EXPECT_EQ(scenario->server, ServerKind::kProcessorSharing);
  EXPECT_NEAR(scenario->capacity_cores(), 0.6, 1e-12);
  EXPECT_NEAR(scenario->rate(), 0.5 * 0.6 / 0.004, 1e-9);
  ASSERT_EQ(scenario->events.size(), 5U);
  EXPECT_EQ(scenario->events[2].kind, EventKind::kAddPod);
  EXPECT_EQ(scenario->events[2].quota, 0.3);
  EXPECT_EQ(scenario->events[4].kind, EventKind::kRestart);
}

constexpr const char* kWaiting = R"(about: pools
server: fifo
demand: {mean_ms: 1, sigma: 0.5, wait_ms: 19, wait_sigma: 0.8}
load: 0.5
pods:
  - {name: web-0, quota: 0.4, workers: 4}
  - {name: web-1, quota: 0.02, workers: 4, wait_factor: 2}
tenants:
  - {pod: web-0, every_s: 7.3, burn_s: 1.1, phase_s: 2, cores: 2}
)";

TEST(Scenario, LoadCountsAgainstWhatThePodsCarry) {
  const auto scenario = parse_scenario(kWaiting, "s.yaml");
  ASSERT_TRUE(scenario.ok()) << scenario.error().message;
  EXPECT_NEAR(scenario->carried_rps(scenario->pods[0]), 4 / 0.020, 1e-9) << "its workers, not its quota";
  EXPECT_NEAR(scenario->carried_rps(scenario->pods[1]), 20, 1e-9) << "its quota, not its workers";
  EXPECT_NEAR(scenario->rate(), 0.5 * 220, 1e-9);
  ASSERT_EQ(scenario->tenants.size(), 1U);
  EXPECT_EQ(scenario->tenants[0].cores, 2);
}

TEST(Scenario, WaitingThatContradictsItselfIsRefused) {
  const auto refused = [](const std::string& from, const std::string& to, const std::string& place) {
    std::string text = kWaiting;
    text.replace(text.find(from), from.size(), to);
    const auto scenario = parse_scenario(text, "s.yaml");
    ASSERT_FALSE(scenario.ok()) << text;
    EXPECT_EQ(scenario.error().exit_code(), 2);
    EXPECT_THAT(scenario.error().message, StartsWith(place));
  };
  refused("server: fifo", "server: ps", "s.yaml:6: pods[0].workers");
  refused(", wait_ms: 19, wait_sigma: 0.8", "", "s.yaml:7: pods[1].wait_factor");
  refused("burn_s: 1.1", "burn_s: 8", "s.yaml:9: tenants[0].burn_s");
  refused("pod: web-0", "pod: web-7", "s.yaml:9: tenants[0].pod");
}

struct Bad {
  std::string text;
  std::string place;  // FILE:LINE: KEY
  std::string what;
};

class BadScenario : public testing::TestWithParam<Bad> {};

TEST_P(BadScenario, IsRefusedWithFileLineAndKey) {
  const auto scenario = parse_scenario(GetParam().text, "s.yaml");
  ASSERT_FALSE(scenario.ok());
  EXPECT_EQ(scenario.error().exit_code(), 2);
  EXPECT_THAT(scenario.error().message, StartsWith(GetParam().place));
  EXPECT_THAT(scenario.error().message, HasSubstr(GetParam().what));
}

const std::string kPods = "pods: [{name: a, quota: 0.1}]\n";

INSTANTIATE_TEST_SUITE_P(
    All, BadScenario,
    testing::Values(
        Bad{"about: x\nlaod: 0.5\n" + kPods, "s.yaml:2: laod: ", "unknown key"},
        Bad{"about: x\nload: much\n" + kPods, "s.yaml:2: load: ", "not \"much\""},
        Bad{"about: x\nload: .nan\n" + kPods, "s.yaml:2: load: ", "has to be a number"},
        Bad{"about: x\nload: [1]\n" + kPods, "s.yaml:2: load: ", "has to be a number"},
        Bad{"about: x\nload: 0.5\nload: 0.6\n" + kPods, "s.yaml:3: load: ", "twice"},
        Bad{"about: x\nlearner: perhaps\n" + kPods, "s.yaml:2: learner: ", "true or false"},
        Bad{"about: x\ndemand: {mean_ms: 2, sgima: 1}\n" + kPods, "s.yaml:2: demand.sgima: ", "unknown key"},
        Bad{"about: x\nserver: lifo\n" + kPods, "s.yaml:2: server: ", "ps, fifo"},
        Bad{"about: x\n", "s.yaml:1: pods: ", "is missing"}, Bad{kPods, "s.yaml:1: about: ", "is missing"},
        Bad{"about: x\npods: []\n", "s.yaml:2: pods: ", "1 to 200"},
        Bad{"about: x\npods:\n  - {name: a}\n", "s.yaml:3: pods[0].quota: ", "is missing"},
        Bad{"about: x\npods:\n  - {name: a, quota: 0}\n", "s.yaml:3: pods[0].quota: ", "not \"0\""},
        Bad{"about: x\npods:\n  - {name: ../a, quota: 0.1}\n", "s.yaml:3: pods[0].name: ", "lower-case"},
        Bad{"about: x\npods:\n  - {name: a, quota: 0.1}\n  - {name: a, quota: 0.1}\n",
            "s.yaml:4: pods[1].name: ", "two pods"},
        Bad{"about: x\n" + kPods + "events:\n  - {at_s: 1, kill_pod: b}\n",
            "s.yaml:4: events[0].kill_pod: ", "no pod b"},
        Bad{"about: x\n" + kPods + "events:\n  - {at_s: 1, kill: sshd}\n",
            "s.yaml:4: events[0].kill: ", "not one of ballastd"},
        Bad{"about: x\n" + kPods + "events:\n  - {at_s: 1}\n", "s.yaml:4: ", "an event needs"},
        Bad{"about: x\n" + kPods + "events:\n  - {at_s: 2, kill: envoy}\n  - {at_s: 1, restart: envoy}\n",
            "s.yaml:5: events[1].at_s: ", "order of time"},
        Bad{"about: x\npods: [\n", "s.yaml:", "not YAML"}, Bad{"", "s.yaml:1: ", "has to be a map"}));

TEST(Scenario, EveryBuiltInOneIsRight) {
  const char* source = std::getenv("BALLAST_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "ctest sets BALLAST_SOURCE_DIR";
  ::setenv("BALLAST_SCENARIOS", (std::string(source) + "/tools/lab/scenarios").c_str(), 1);
  const auto scenarios = builtin_scenarios();
  ASSERT_TRUE(scenarios.ok()) << scenarios.error().message;
  std::vector<std::string> names;
  for (const auto& scenario : *scenarios) {
    names.push_back(scenario.name);
  }
  EXPECT_THAT(names, testing::IsSupersetOf({"churn", "cron", "demo", "demo-85", "faults", "io-limits",
                                            "moving", "null", "pool", "quota-halved", "single-thread",
                                            "slow-downstream", "unequal-50"}));
  const auto demo = load_scenario("demo");
  ASSERT_TRUE(demo.ok());
  EXPECT_NEAR(demo->rate(), 280, 1e-9);
  ::unsetenv("BALLAST_SCENARIOS");
}

TEST(Scenario, AnUnknownNameIsAUsageError) {
  const auto scenario = load_scenario("no-such-scenario");
  ASSERT_FALSE(scenario.ok());
  EXPECT_EQ(scenario.error().exit_code(), 2);
}

TEST(Policies, AreParsedAndRefused) {
  const auto policies = parse_policies("round_robin,ballast");
  ASSERT_TRUE(policies.ok());
  EXPECT_EQ((*policies)[1].decide, "auto") << "what ballastd acts by as it comes";
  for (const char* bad : {"", "fastest", "random,random", ",random"}) {
    const auto refused = parse_policies(bad);
    ASSERT_FALSE(refused.ok()) << bad;
    EXPECT_EQ(refused.error().exit_code(), 2);
  }
}

TEST(Policies, WeightsByHand) {
  const std::vector<double> quotas{0.4, 0.2, 0.1, 0.1};
  EXPECT_EQ(weights_by_hand(WeightSource::kEqual, quotas, 0.56), (std::vector<int>{1, 1, 1, 1}));
  EXPECT_EQ(weights_by_hand(WeightSource::kCapacity, quotas, 0.56), (std::vector<int>{500, 250, 125, 125}));
  // c - sqrt(c) * (C - L) / sum(sqrt(c)) with C = .8, L = .56, sum of roots 1.7121
  EXPECT_EQ(weights_by_hand(WeightSource::kSquareRoot, quotas, 0.56), (std::vector<int>{556, 245, 99, 99}));
  for (const int weight : weights_by_hand(WeightSource::kSquareRoot, quotas, 0.01)) {
    EXPECT_GE(weight, 1);
  }
}

}  // namespace
}  // namespace ballast::lab
