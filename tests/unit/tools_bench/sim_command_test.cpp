// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/sim_command.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "core/base/process.h"
#include "model/policy/parameters.h"
#include "program.h"

namespace ballast::bench {
namespace {

using ::testing::HasSubstr;

constexpr const char* kSmall =
    "requests: 3000\n"
    "clients: 4\n"
    "servers: [{count: 3}]\n"
    "service: {law: lognormal, mean_ms: 10, cv: 1}\n"
    "arrivals: {rho: 0.7}\n";

class SimCommand : public ::testing::Test {
 protected:
  SimCommand()
      : folder_(std::move(TempDir::create(std::filesystem::temp_directory_path(), "bench").value())) {
    EXPECT_TRUE(write_file_atomic(file("small.yaml"), kSmall).ok());
    options_.scenario = file("small.yaml");
    options_.policies = {"round_robin", "prior"};
    options_.seeds = "3..5";
    options_.output = file("out.json");
  }
  std::string file(const std::string& name) const { return folder_.path() / name; }

  /// Exit code and output of the program itself.
  std::pair<int, std::string> program(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), testing::program("ballast-bench"));
    ProcessOptions process;
    process.argv = std::move(arguments);
    process.output = file("log");
    std::filesystem::remove(process.output);
    auto child = ChildProcess::spawn(process);
    EXPECT_TRUE(child.ok());
    const auto ended = child->wait(std::chrono::seconds(60));
    EXPECT_TRUE(ended.has_value());
    return {ended ? ended->code : -1, read_file(process.output).value()};
  }

  TempDir folder_;
  SimOptions options_;
};

TEST_F(SimCommand, ARowAPolicyAndSeed) {
  ASSERT_TRUE(run_sim(options_).ok());
  const auto rows = nlohmann::json::parse(*read_file(options_.output));
  ASSERT_EQ(rows.size(), 6U);
  EXPECT_EQ(rows[0]["policy"], "round_robin");
  EXPECT_EQ(rows[5]["policy"], "prior");
  EXPECT_EQ(rows[5]["seed"], 5);
  for (const auto& row : rows) {
    EXPECT_EQ(row["requests"], 3000);
    EXPECT_EQ(row["errors"], 0);
    EXPECT_LT(row["p50_ms"], row["p90_ms"]);
    EXPECT_LT(row["p90_ms"], row["p99_ms"]);
    EXPECT_LT(row["p99_ms"], row["p999_ms"]);
    EXPECT_NEAR(row["goodput_rps"].get<double>(), 210, 15);
    EXPECT_GE(row["utilisation_max_over_mean"], 1);
    EXPECT_TRUE(row.contains("weight_changes_per_min"));
  }
}

TEST_F(SimCommand, ALoopBesideATickOrADelayIsRefused) {
  const std::vector<std::string> sim = {"sim", "--scenario", options_.scenario, "--policy", "prior",
                                        "-o",  "-",          "--loop",          "istio"};
  const std::vector<std::string> gate = {"gate", "--candidate", file("none"), "--loop", "istio"};
  for (const auto& [command, flag] :
       {std::pair(sim, "--tick"), std::pair(sim, "--apply-delay"), std::pair(gate, "--tick")}) {
    std::vector<std::string> both = command;
    both.insert(both.end(), {flag, "0.5"});
    const auto [code, log] = program(both);
    EXPECT_EQ(code, 2) << log;
    EXPECT_THAT(log, HasSubstr(flag));
    EXPECT_THAT(log, HasSubstr("--loop"));
  }
  EXPECT_EQ(program(sim).first, 0);
}

TEST_F(SimCommand, SameOptionsSameBytesWhateverTheThreads) {
  const auto one = sim_rows(options_);
  options_.jobs = 3;
  const auto three = sim_rows(options_);
  ASSERT_TRUE(one.ok() && three.ok());
  EXPECT_EQ(*one, *three);
}

TEST_F(SimCommand, TheLearnedPolicyActsWithGivenParameters) {
  options_.policies = {"prior", "learned"};
  options_.seeds = "1";
  options_.parameters = file("theta");
  ASSERT_TRUE(write_file_atomic(options_.parameters, "not a policy").ok());
  EXPECT_FALSE(sim_rows(options_).ok());
  // The initial network's last layer is zero: it has to be the prior.
  ASSERT_TRUE(write_file_atomic(options_.parameters, policy::serialize(policy::initial(1))).ok());
  const auto text = sim_rows(options_);
  ASSERT_TRUE(text.ok()) << text.error().message;
  const auto rows = nlohmann::json::parse(*text);
  EXPECT_EQ(rows[0]["p99_ms"], rows[1]["p99_ms"]);
}

TEST_F(SimCommand, Seeds) {
  EXPECT_EQ(parse_seeds("7")->last, 7U);
  EXPECT_EQ(parse_seeds("2..9")->last, 9U);
  for (const char* wrong : {"", "9..2", "a..b", "1..", "1..2x", "-1..2"}) {
    const auto seeds = parse_seeds(wrong);
    ASSERT_FALSE(seeds.ok()) << wrong;
    EXPECT_EQ(seeds.error().exit_code(), 2);
  }
}

TEST_F(SimCommand, ProgramListsAndRuns) {
  auto [code, text] = program({"scenarios"});
  EXPECT_EQ(code, 0);
  EXPECT_THAT(text,
              HasSubstr("null\nstatic\nramp\nantagonist\npause\nfaults\nheavy_tail\nspike\nchurn\nzones\n"
                        "bad_telemetry\nnormal\nstressful\n"));
  std::tie(code, text) = program({"policies"});
  EXPECT_EQ(code, 0);
  for (const char* name : {"round_robin",
                           "weighted_round_robin",
                           "random",
                           "ring_hash",
                           "maglev",
                           "least_request",
                           "least_request_weighted",
                           "least_connections",
                           "peak_ewma",
                           "cswrr",
                           "slow_start",
                           "c3",
                           "prequal",
                           "l3",
                           "lalb",
                           "prior",
                           "ballast",
                           "learned",
                           "learned_slow_start",
                           "oracle_static",
                           "oracle_weights",
                           "oracle_sed",
                           "oracle_pooled"}) {
    EXPECT_THAT("\n" + text, HasSubstr("\n" + std::string(name) + "\n"));
  }
  std::tie(code, text) = program({"sim", "--scenario", options_.scenario, "--policy", "random,lalb",
                                  "--seeds", "1..2", "-o", options_.output});
  EXPECT_EQ(code, 0) << text;
  EXPECT_EQ(nlohmann::json::parse(*read_file(options_.output)).size(), 4U);
}

TEST_F(SimCommand, WrongUseIsTwoAndSaysWhatIsKnown) {
  const auto refused = [&](const std::string& scenario, const std::string& policy, const std::string& what) {
    const auto [code, text] =
        program({"sim", "--scenario", scenario, "--policy", policy, "-o", options_.output});
    EXPECT_EQ(code, 2) << text;
    EXPECT_THAT(text, HasSubstr(what));
  };
  refused("nowhere", "random", "built in: null, static");
  refused(options_.scenario, "magic", "known: round_robin, ");
  ASSERT_TRUE(write_file_atomic(file("bad.yaml"), std::string(kSmall) + "colour: red\n").ok());
  refused(file("bad.yaml"), "random", "bad.yaml:6: colour: unknown key");
  EXPECT_EQ(program({"sim"}).first, 2);
  EXPECT_EQ(program({}).first, 2);
}

TEST_F(SimCommand, AFolderThatIsNotThereIsAFailure) {
  options_.output = file("none/out.json");
  const auto status = run_sim(options_);
  ASSERT_FALSE(status.ok());
  EXPECT_THAT(status.error().message, HasSubstr("none/out.json"));
}

}  // namespace
}  // namespace ballast::bench
