// SPDX-License-Identifier: Apache-2.0
// The matrix and the page of figures, by the program itself where its exit code counts.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <set>

#include "core/base/file.h"
#include "core/base/process.h"
#include "tools/bench/charts.h"
#include "tools/bench/figures_command.h"
#include "tools/bench/life_command.h"
#include "tools/bench/speed_command.h"

namespace ballast::bench {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class FiguresCommand : public ::testing::Test {
 protected:
  FiguresCommand()
      : folder_(std::move(TempDir::create(std::filesystem::temp_directory_path(), "figures").value())) {
    options_.out = folder_.path();
    options_.quick = true;
    options_.seeds = "1..2";
    options_.matrix.cells.most_requests = 8'000;
    options_.matrix.scenarios = {"null", "static"};
    options_.matrix.policies = {"least_request", "round_robin", "peak_ewma", "oracle_static", "prior"};
    options_.matrix.candidates = {"prior"};
  }

  Result<Matrix> matrix() {
    auto matrix_options = options_.matrix;
    matrix_options.cells.folder = options_.out;
    matrix_options.cells.last_seed = 2;
    matrix_options.ticks = {0.25};
    const auto full = completed(matrix_options);
    EXPECT_TRUE(full.ok());
    return make_matrix(*full, [this](auto, auto, const auto&) { ++progress_; });
  }

  std::string text(const char* name) { return read_file(options_.out / name).value(); }

  TempDir folder_;
  FiguresOptions options_;
  int progress_ = 0;
};

const Judgement& judgement(const Matrix& matrix, const std::string& scenario, int target) {
  for (const auto& j : matrix.judgements) {
    if (j.candidate.scenario == scenario && j.target == target) {
      return j;
    }
  }
  ADD_FAILURE() << "no judgement of " << scenario;
  return matrix.judgements.front();
}

TEST_F(FiguresCommand, MatrixComparesOnTheSameSeedsAndJudges) {
  const auto made = matrix();
  ASSERT_TRUE(made.ok());
  EXPECT_EQ(made->rows.size(), 10U);
  for (const auto& row : made->rows) {
    if (row.cell.policy == "least_request") {
      EXPECT_DOUBLE_EQ(row.p99_ratio.value, 1);
      EXPECT_DOUBLE_EQ(row.p99_ratio.high, 1);
    }
    EXPECT_LE(row.p99_ms.low, row.p99_ms.value);
    EXPECT_LE(row.p99_ms.value, row.p99_ms.high);
  }
  // On equal pods the prior is neutral, so it is LEAST_REQUEST to the last bit.
  EXPECT_EQ(judgement(*made, "null", 1).verdict, Ruling::kPass);
  EXPECT_DOUBLE_EQ(judgement(*made, "null", 1).worst, 1);
  EXPECT_EQ(judgement(*made, "null", 2).verdict, Ruling::kNotAsked);
  EXPECT_EQ(judgement(*made, "null", 4).verdict, Ruling::kNotAsked);
  EXPECT_NE(judgement(*made, "static", 1).verdict, Ruling::kNotAsked);
  EXPECT_NE(judgement(*made, "static", 4).verdict, Ruling::kNotAsked);
}

TEST_F(FiguresCommand, ASecondRunTakesWhatIsThereAndMendsWhatIsDamaged) {
  const auto first = matrix();
  ASSERT_TRUE(first.ok());
  std::vector<std::filesystem::path> files;
  for (const auto& entry : std::filesystem::directory_iterator(options_.out / "cells")) {
    files.push_back(entry.path());
  }
  ASSERT_EQ(files.size(), 10U);
  const auto whole = read_file(files[0]).value();
  const auto kept = std::filesystem::last_write_time(files[1]);
  ASSERT_TRUE(write_file_atomic(files[0], whole.substr(0, whole.size() / 2)).ok());
  const auto second = matrix();
  ASSERT_TRUE(second.ok());
  EXPECT_EQ(read_file(files[0]).value(), whole) << "made anew, to the last byte";
  EXPECT_EQ(std::filesystem::last_write_time(files[1]), kept);
  EXPECT_EQ(rows_csv(*first), rows_csv(*second));
  EXPECT_EQ(comparisons_csv(*first), comparisons_csv(*second));
}

TEST_F(FiguresCommand, UnknownNamesAreToldWithTheKnownOnes) {
  options_.matrix.policies = {"round_robbin"};
  const Status policy = run_matrix(options_);
  ASSERT_FALSE(policy.ok());
  EXPECT_EQ(policy.error().exit_code(), 2);
  EXPECT_THAT(policy.error().message, HasSubstr("peak_ewma"));
  options_.matrix.policies = {};
  options_.matrix.scenarios = {"nil"};
  const Status scenario = run_matrix(options_);
  ASSERT_FALSE(scenario.ok());
  EXPECT_EQ(scenario.error().exit_code(), 2);
  EXPECT_THAT(scenario.error().message, HasSubstr("antagonist"));
}

TEST_F(FiguresCommand, OnePageWithoutAnythingFromElsewhere) {
  // A stand-in for the program's trainer: two learners learn, one fails.
  const auto trainer = folder_.path() / "trainer";
  ASSERT_TRUE(write_file_atomic(
                  trainer,
                  "#!/bin/sh\n"
                  "[ \"$2\" = --help ] && exit 0\n"
                  "while [ $# -gt 0 ]; do case $1 in --out) out=$2;; --learner) who=$2;; "
                  "--learning-rate) echo $who at $2 >>${0%/*}/rates;; --seed) seed=$2;; esac; shift; done\n"
                  "[ $who = pg ] && exit 1\n"
                  "printf 'steps,episodes,training_return,evaluation_return\\n"
                  "10%s,1,0,-%s\\n200,2,0,%s\\n' $seed $seed $seed > $out/curve.csv\n"
                  "echo {} > $out/summary.json\n")
                  .ok());
  std::filesystem::permissions(trainer, std::filesystem::perms::owner_all);
  options_.program = trainer;
  options_.learners = {"a3c", "ppo", "pg"};
  options_.trials = folder_.path() / "trials.csv";
  ASSERT_TRUE(write_file_atomic(options_.trials,
                                "learner,learning_rate,horizon,gamma,chosen\n"
                                "a3c,0.01,5,0.9,\na3c,0.003,20,0.9,yes\nppo,0.001,,0.9,yes\n")
                  .ok());
  options_.matrix.policies = {"least_request", "round_robin", "prior"};
  options_.matrix.scenarios = {"static"};
  ASSERT_TRUE(run_figures(options_).ok());
  const std::string page = text("index.html");
  for (const char* outside : {"<script", "src=", "href=", "http:", "https:", "@import", "url("}) {
    EXPECT_THAT(page, Not(HasSubstr(outside)));
  }
  EXPECT_THAT(page, HasSubstr("width=device-width"));
  for (const char* there : {"round robin", "source-based", "destination-based", "least connection",
                            "least response time", "a3c", "ppo", "Beside the paper"}) {
    EXPECT_THAT(page, HasSubstr(there));
  }
  EXPECT_THAT(page, HasSubstr("pg in static, seed 1: exit code 1"));
  EXPECT_THAT(text("rates"), AllOf(HasSubstr("a3c at 0.003"), HasSubstr("ppo at 0.001")));
  EXPECT_THAT(text("rates"), AllOf(Not(HasSubstr("0.01")), Not(HasSubstr("pg"))));
  const std::string curves = text("figure3.csv");
  EXPECT_THAT(curves, HasSubstr("a3c,static,2,102,-1.5,"));
  EXPECT_THAT(curves, HasSubstr("ppo,io_limits,2,200,1.5,"));
  EXPECT_THAT(curves, Not(HasSubstr("pg,")));
  for (const char* line :
       {"queue_rule,static,1,4000,", "prior,static,1,4000,", "oracle_foresight,io_limits,1,4000,"}) {
    EXPECT_THAT(curves, HasSubstr(line));
  }
  EXPECT_THAT(text("figure4.csv"), HasSubstr("round robin,round_robin,stressful,12.5,"));
  for (const char* csv : {"matrix.csv", "comparisons.csv", "verdicts.csv"}) {
    EXPECT_GT(text(csv).size(), 100U) << csv;
  }
}

TEST_F(FiguresCommand, WithoutATrainerThePageSaysSo) {
  options_.program = "/nonexistent/trainer";
  std::string note;
  EXPECT_TRUE(learning_curves(options_, note).empty());
  EXPECT_THAT(note, HasSubstr("Not available"));
}

TEST_F(FiguresCommand, ALifeIsOneRowAStretch) {
  LifeOptions life;
  life.scenario = "io_limits";
  life.policies = {"queue_rule"};
  life.every_s = 10;
  life.output = folder_.path() / "life.csv";
  ASSERT_TRUE(run_life(life).ok());
  const std::string table = text("life.csv");
  EXPECT_THAT(table, HasSubstr("policy,minute,requests,p50_ms,p99_ms\nqueue_rule,0,"));
  EXPECT_GT(std::count(table.begin(), table.end(), '\n'), 5);
}

TEST(Differences, LastAsTheScenarioSays) {
  const CellOptions options;
  const auto last = [&](const char* name) { return differences_last_s(*cell_scenario(name, options)); };
  EXPECT_EQ(last("null"), 0);
  EXPECT_EQ(last("static"), INFINITY);
  EXPECT_EQ(last("antagonist:r3"), 3);
  EXPECT_EQ(last("pause"), 30);
  EXPECT_EQ(last("bad_telemetry"), 30);
  EXPECT_TRUE(has_static_pods(*cell_scenario("heavy_tail", options)));
  EXPECT_FALSE(has_static_pods(*cell_scenario("antagonist", options)));
}

TEST(Speed, IsMeasuredForEachNumberOfServers) {
  SpeedOptions options;
  options.requests = 5'000;
  options.runs = 1;
  const auto rows = measure_speed(options);
  ASSERT_TRUE(rows.ok());
  ASSERT_EQ(rows->size(), 6U);
  std::set<std::uint32_t> servers;
  for (const auto& row : *rows) {
    EXPECT_GT(row.requests_per_s, 0);
    servers.insert(row.servers);
  }
  EXPECT_EQ(servers, (std::set<std::uint32_t>{10, 100, 1000}));
  options.policies = {"fastest"};
  EXPECT_FALSE(measure_speed(options).ok());
}

TEST(Charts, EscapesAndShortens) {
  EXPECT_EQ(escaped("<a & 'b'>"), "&lt;a &amp; &#39;b&#39;&gt;");
  EXPECT_EQ(short_number(0.12345), "0.123");
  EXPECT_EQ(short_number(1234.5), "1234");
  EXPECT_EQ(short_number(12345), "12.3k");
  EXPECT_EQ(short_number(NAN), "–");
  const std::string empty = svg({.title = "nothing"});
  EXPECT_THAT(empty, HasSubstr("<svg"));
  EXPECT_THAT(empty, Not(HasSubstr("nan")));
}

}  // namespace
}  // namespace ballast::bench
