// SPDX-License-Identifier: Apache-2.0
#include "model/sim/scenario.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "core/base/file.h"
#include "model/sim/technique.h"

namespace ballast::sim {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kGood =
    "requests: 1000\n"                              // 1
    "clients: 2\n"                                  // 2
    "servers:\n"                                    // 3
    "  - {count: 2, speed: 1}\n"                    // 4
    "  - {speed: 0.5, zone: 0}\n"                   // 5
    "service: {law: exponential, mean_ms: 10}\n"    // 6
    "arrivals: {rho: 0.5}\n"                        // 7
    "variants:\n"                                   // 8
    "  hot: {arrivals: {rho: 0.9}, clients: 7}\n";  // 9

std::string with(const std::string& from, const std::string& to) {
  std::string text = kGood;
  text.replace(text.find(from), from.size(), to);
  return text;
}

void expect_refused(const std::string& text, const std::string& where, const std::string& what) {
  const auto scenario = parse_scenario(text, "x.yaml");
  ASSERT_FALSE(scenario.ok()) << text;
  EXPECT_EQ(scenario.error().exit_code(), 2);
  EXPECT_THAT(scenario.error().message, AllOf(HasSubstr(where), HasSubstr(what)));
}

TEST(Scenario, ReadsWhatIsGiven) {
  const auto scenario = parse_scenario(kGood, "folder/x.yaml");
  ASSERT_TRUE(scenario.ok()) << scenario.error().message;
  EXPECT_EQ(scenario->name, "x");
  EXPECT_EQ(scenario->servers.size(), 3U);
  EXPECT_DOUBLE_EQ(mean_capacity(*scenario), 2.5);
  EXPECT_DOUBLE_EQ(base_rate(*scenario), 125);
  EXPECT_DOUBLE_EQ(expected_duration(*scenario), 8);
}

TEST(Scenario, MeanCapacityCountsEachServersSlownessOverTime) {
  const auto scenario = parse_scenario(
      "duration_s: 100\n"
      "servers: [{count: 2, speed: 1}]\n"
      "service: {mean_ms: 10}\n"
      "arrivals: {rho: 0.5}\n"
      "slowness:\n"
      "  - {kind: set, servers: [0], factor: 0.5, until_s: 40}\n"
      "  - {kind: set, servers: [0], factor: 0.2, at_s: 20, until_s: 60}\n"
      "  - {kind: set, servers: [1], factor: 0.1, at_s: 90}\n"
      "  - {kind: rotate, count: 1, factor: 0.6, every_s: 1}\n",
      "x.yaml");
  ASSERT_TRUE(scenario.ok()) << scenario.error().message;
  // First server: 20 s at .5, 20 at .1 (both), 20 at .2, 40 at 1; second: 90 at 1, 10 at .1; of both
  // rotating slowness leaves .8.
  EXPECT_NEAR(mean_capacity(*scenario), (10 + 2 + 4 + 40 + 90 + 1) / 100. * 0.8, 1e-12);
}

TEST(Scenario, VariantReplacesKeysAndKeepsTheRest) {
  const auto scenario = parse_scenario(kGood, "x.yaml", "hot");
  ASSERT_TRUE(scenario.ok()) << scenario.error().message;
  EXPECT_EQ(scenario->name, "x:hot");
  EXPECT_DOUBLE_EQ(scenario->arrivals.rho, 0.9);
  EXPECT_EQ(scenario->clients, 7U);
  EXPECT_EQ(scenario->servers.size(), 3U);
  const auto unknown = parse_scenario(kGood, "x.yaml", "cold");
  ASSERT_FALSE(unknown.ok());
  EXPECT_THAT(unknown.error().message, HasSubstr("known: hot"));
}

TEST(Scenario, WrongFilesAreRefusedWithLineAndKey) {
  expect_refused(with("clients", "klients"), "x.yaml:2: klients", "unknown key");
  expect_refused(with("speed: 0.5", "speed: fast"), "x.yaml:5: servers[1].speed", "number");
  expect_refused(with("speed: 0.5", "speed: -1"), "x.yaml:5: servers[1].speed", "between");
  expect_refused(with("zone: 0", "zone: 3"), "x.yaml:4: servers", "zone");
  expect_refused(with("exponential", "gamma"), "x.yaml:6: service.law", "'gamma' is not one of");
  expect_refused(with("rho: 0.5", "rho: 0.5, rate_rps: 3"), "x.yaml:7: arrivals.rho", "exactly one");
  expect_refused(with("rho: 0.5", "ramp: [[5, 1], [3, 2]], rho: 0.5"), "x.yaml:7: arrivals.ramp", "rising");
  expect_refused(with("requests: 1000", "requests: 10.5"), "x.yaml:1: requests", "whole");
  expect_refused(with("requests: 1000", "warmup_s: 1"), "duration_s", "exactly one");
  expect_refused(with("requests: 1000", "requests: [1"), "x.yaml:", "not YAML");
  expect_refused("- 1\n", "x.yaml:1: (top level)", "mapping");
}

TEST(Scenario, LoadOfOneWithoutDeadlineHasToBeMeant) {
  expect_refused(with("rho: 0.5", "rho: 1.0"), "x.yaml:7: arrivals", "overload: true");
  EXPECT_TRUE(parse_scenario(with("rho: 0.5", "rho: 1.0") + "overload: true\n", "x.yaml").ok());
  EXPECT_TRUE(parse_scenario(with("rho: 0.5", "rho: 1.0") + "deadline_ms: 500\n", "x.yaml").ok());
  // A load below 1 on average may be above it for a while.
  EXPECT_TRUE(
      parse_scenario(with("rho: 0.5", "rho: 0.5, spikes: [{at_s: 2, duration_s: 1, factor: 3}]"), "x.yaml")
          .ok());
  // Slowness counts: .8 of ten pods of which half run at half their speed is more than there is.
  const std::string slowed = with("rho: 0.5", "rate_rps: 200") + "slowness: [{kind: set, factor: 0.5}]\n";
  expect_refused(slowed, "arrivals", "mean load");
}

TEST(Scenario, TracesAreReadBesideTheFile) {
  auto folder = TempDir::create(std::filesystem::temp_directory_path(), "sim");
  ASSERT_TRUE(folder.ok());
  std::ofstream(folder->path() / "at.txt") << "0.5\n1.5\n3.5\n";
  const std::string file = folder->path() / "s.yaml";
  const auto scenario = parse_scenario(with("rho: 0.5", "trace_file: at.txt"), file);
  ASSERT_TRUE(scenario.ok()) << scenario.error().message;
  EXPECT_THAT(scenario->arrivals.trace_s, ::testing::ElementsAre(0.5, 1.5, 3.5));
  std::ofstream(folder->path() / "at.txt") << "0.5\nsoon\n";
  EXPECT_FALSE(parse_scenario(with("rho: 0.5", "trace_file: at.txt"), file).ok());
  const auto missing = parse_scenario(with("rho: 0.5", "trace_file: none.txt"), file);
  ASSERT_FALSE(missing.ok());
  EXPECT_THAT(missing.error().message, AllOf(HasSubstr(":7: arrivals.trace_file"), HasSubstr("none.txt")));
}

// What a server carries at most, by whichever limits it: CPU, workers that waiting holds, or its serial part.
TEST(Scenario, RhoCountsAgainstWhatTheServersCarry) {
  const std::string wait =
      "requests: 1000\n"
      "discipline: fifo\n"
      "servers: [{workers: 4, speed: 0.5, wait_factor: 2}, {serial: true, limit: 8}]\n"
      "service: {mean_ms: 1, wait_ms: 9}\n"
      "arrivals: {rho: 0.5}\n";
  const auto fifo = parse_scenario(wait, "x.yaml");
  ASSERT_TRUE(fifo.ok()) << fifo.error().message;
  EXPECT_NEAR(base_rate(*fifo), 0.5 * (4 / 0.020 + 1 / 0.010), 1e-9);
  std::string text = wait;
  text.replace(text.find("fifo"), 4, "ps");
  const auto ps = parse_scenario(text, "x.yaml");
  ASSERT_TRUE(ps.ok()) << ps.error().message;
  EXPECT_NEAR(base_rate(*ps), 0.5 * (4 * 0.5 / 0.001 + 1 / 0.010), 1e-9);
}

TEST(Scenario, PeriodicSlownessCountsByItsShareOfTime) {
  const auto scenario = parse_scenario(
      "duration_s: 1000\n"
      "discipline: fifo\n"
      "servers: [{count: 4}]\n"
      "service: {mean_ms: 1, wait_ms: 9}\n"
      "arrivals: {rho: 0.5}\n"
      "slowness: [{kind: periodic, servers: [0, 1], every_s: 20, duration_s: 5, factor: 0.5, shows: io}]\n",
      "x.yaml");
  ASSERT_TRUE(scenario.ok()) << scenario.error().message;
  // Slow: 1 + 18 ms in place of 10; half of the servers, a quarter of the time.
  EXPECT_NEAR(base_rate(*scenario), 0.5 * 400 * (1 - 0.5 * 0.25 * (1 - 10. / 19)), 1e-9);
}

TEST(Scenario, SlownessCountsByWhatItsServersCarry) {
  const auto scenario = parse_scenario(
      "duration_s: 1000\n"
      "servers: [{count: 1, speed: 10}, {count: 10}]\n"
      "service: {mean_ms: 10}\n"
      "arrivals: {rho: 0.5}\n"
      "slowness: [{kind: periodic, servers: [0], every_s: 10, duration_s: 5, factor: 0.1, shows: work}]\n",
      "x.yaml");
  ASSERT_TRUE(scenario.ok()) << scenario.error().message;
  // The one server is half of what all carry, and has a tenth of it half of the time.
  EXPECT_NEAR(base_rate(*scenario), 0.5 * 2000 * (1 - 0.5 * 0.5 * 0.9), 1e-9);
}

TEST(Scenario, RefusesWhatContradictsItself) {
  expect_refused(with("{count: 2, speed: 1}", "{count: 2, serial: true, workers: 3}"),
                 "x.yaml:4: servers[0].serial", "workers: 3");
  expect_refused(with("{count: 2, speed: 1}", "{count: 2, limit: 0.5}"), "x.yaml:4: servers[0].limit",
                 "its requests use 1");
  expect_refused(with("{count: 2, speed: 1}", "{count: 2, wait_factor: 2}"),
                 "x.yaml:4: servers[0].wait_factor", "service.wait_ms");
  expect_refused(with("mean_ms: 10", "mean_ms: 10, wait_cv: 1"), "x.yaml:6: service.wait_cv", "wait_ms");
  const auto slow = [](const std::string& entry) {
    return with("variants:\n", "slowness: [{kind: " + entry + "}]\nvariants:\n");
  };
  expect_refused(slow("periodic, every_s: 5, duration_s: 6"), "x.yaml:8: slowness[0].duration_s",
                 "every_s: 5");
  expect_refused(slow("periodic, every_s: 5, duration_s: 3, jitter_s: 2"), "x.yaml:8: slowness[0].jitter_s",
                 "do not fit");
  expect_refused(slow("periodic, every_s: 5"), "x.yaml:8: slowness[0].kind", "duration_s");
  expect_refused(slow("pause, every_s: 5, duration_s: 1, phase_s: 2"), "x.yaml:8: slowness[0].phase_s",
                 "periodic");
  expect_refused(slow("set, shows: io"), "x.yaml:8: slowness[0].shows", "wait_ms");
  expect_refused(with("rho: 0.5", "trace_s: [1, 3, 2]"), "x.yaml:7: arrivals.trace_s", "have to rise");
}

TEST(Scenario, AllBuiltInsAndTheirVariantsAreGood) {
  ASSERT_EQ(builtin_scenarios().size(), 26U);
  for (const auto& builtin : builtin_scenarios()) {
    const auto plain = load_scenario(builtin.name);
    ASSERT_TRUE(plain.ok()) << plain.error().message;
    EXPECT_EQ(plain->name, builtin.name);
    EXPECT_FALSE(plain->title.empty());
    const auto variants = scenario_variants(builtin.text, builtin.file);
    ASSERT_TRUE(variants.ok());
    for (const auto& variant : *variants) {
      const auto scenario = load_scenario(builtin.name + ":" + variant);
      EXPECT_TRUE(scenario.ok()) << scenario.error().message;
    }
  }
}

TEST(Scenario, UnknownNamesGiveTheKnownOnes) {
  const auto scenario = load_scenario("nonsense");
  ASSERT_FALSE(scenario.ok());
  EXPECT_THAT(scenario.error().message,
              AllOf(HasSubstr("nonsense"), HasSubstr("bad_telemetry"), HasSubstr("null")));
  const auto policy = find_technique("nonsense");
  ASSERT_FALSE(policy.ok());
  EXPECT_EQ(policy.error().exit_code(), 2);
  EXPECT_THAT(policy.error().message, AllOf(HasSubstr("peak_ewma"), HasSubstr("oracle_sed")));
}

}  // namespace
}  // namespace ballast::sim
