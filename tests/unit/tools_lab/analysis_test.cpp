// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/base/statistics.h"
#include "tools/lab/report.h"
#include "tools/lab/timeline.h"

namespace ballast::lab {
namespace {

TEST(Quantile, InterpolatesBetweenRanks) {
  std::vector<double> values;
  for (int i = 1; i <= 101; ++i) {
    values.push_back(i);
  }
  EXPECT_EQ(quantile_of_sorted(values, 0), 1);
  EXPECT_EQ(quantile_of_sorted(values, 0.5), 51);
  EXPECT_EQ(quantile_of_sorted(values, 0.99), 100);
  EXPECT_EQ(quantile_of_sorted(values, 1), 101);
  EXPECT_NEAR(quantile_of_sorted({1, 2}, 0.25), 1.25, 1e-12);
  EXPECT_EQ(quantile_of_sorted({}, 0.5), 0);
  EXPECT_EQ(nearest_rank_of_sorted(values, 0.99), 100);
  EXPECT_EQ(nearest_rank_of_sorted({1, 2}, 0.5), 1);
  EXPECT_EQ(nearest_rank_of_sorted({1, 2}, 0.51), 2);
  EXPECT_EQ(nearest_rank_of_sorted({1, 2}, 0), 1);
  EXPECT_EQ(nearest_rank_of_sorted({}, 0.5), 0);
  EXPECT_EQ(median({3, 1, 2}), 2);
  EXPECT_EQ(median({4, 1, 2, 3}), 2.5);
}

const Timeline kQuotaHalved = {{1, {{"a", 1}, {"b", 1}}},
                               {2, {{"a", 30}, {"b", 10}}},
                               {3, {{"a", 40}, {"b", 10}}},
                               {10.5, {{"a", 35}, {"b", 10}}},
                               {11, {{"a", 20}, {"b", 10}}}};

TEST(Timeline, SharesAndWhenTheySettled) {
  EXPECT_EQ(share_at(kQuotaHalved, "a", 0.5), 0);
  EXPECT_EQ(share_at(kQuotaHalved, "a", 2.5), 0.75);
  EXPECT_EQ(share_at(kQuotaHalved, "c", 2.5), 0);
  ASSERT_TRUE(settled_at(kQuotaHalved, 0, 10, 0.10));
  EXPECT_EQ(*settled_at(kQuotaHalved, 0, 10, 0.04), 3);  // .75 : .25 is 5 % of the traffic away
  EXPECT_EQ(*settled_at(kQuotaHalved, 0, 10, 0.10), 2);
  EXPECT_EQ(*settled_at(kQuotaHalved, 0, 20, 0.10), 11);
  EXPECT_FALSE(settled_at({}, 0, 20, 0.10));
}

TEST(Timeline, ReactionToAnEvent) {
  const auto reaction = reaction_of(kQuotaHalved, "a", 10, 20);
  ASSERT_TRUE(reaction);
  EXPECT_NEAR(reaction->first_s, 1, 1e-9);  // .8 -> .778 is below the 5 % that count as moving
  EXPECT_NEAR(reaction->done_s, 1, 1e-9);
  EXPECT_FALSE(reaction_of(kQuotaHalved, "a", 4, 10)) << "nothing changed there";
}

RunResult run(const std::string& policy, int round, std::vector<double> latencies) {
  RunResult out;
  out.policy = policy;
  out.round = round;
  out.window_s = 2;
  out.requests = latencies.size() + 1;
  out.failed = 1;
  out.latencies_ms = std::move(latencies);
  out.pods = {{"a", 10, 12, 3, 0.4, 0.9, {}, {}, {}, {}, {}}, {"b", 5, 6, 1, 0.2, 0.3, {}, {}, {}, {}, {}}};
  return out;
}

TEST(Report, HoldsTheContract) {
  Report report;
  report.scenario.name = "demo";
  report.seed = 9;
  report.runs = {run("least_request", 1, {10, 20, 30}), run("ballast", 1, {5, 10, 15}),
                 run("ballast", 2, {4, 8, 12}), run("least_request", 2, {4, 16, 48})};
  const auto json = to_json(report);
  EXPECT_EQ(json.at("scenario"), "demo");
  EXPECT_EQ(json.at("seed"), 9);
  ASSERT_EQ(json.at("arms").size(), 2U);
  const auto& arm = json.at("arms")[1];
  for (const char* key : {"policy", "runs", "requests", "errors", "goodput_rps", "p50_ms", "p90_ms", "p99_ms",
                          "p999_ms", "utilisation_max_over_mean", "pods"}) {
    EXPECT_TRUE(arm.contains(key)) << key;
  }
  EXPECT_EQ(arm.at("policy"), "ballast");
  EXPECT_EQ(arm.at("runs"), 2);
  EXPECT_EQ(arm.at("requests"), 8);
  EXPECT_EQ(arm.at("errors"), 2);
  EXPECT_EQ(arm.at("p50_ms"), 9);  // of 4 5 8 10 12 15
  EXPECT_EQ(arm.at("goodput_rps"), 1.5);
  EXPECT_EQ(arm.at("utilisation_max_over_mean"), 1.5);
  EXPECT_EQ(arm.at("pods")[0], (nlohmann::json{{"pod", "a"}, {"requests", 20}, {"weight", 3}}));
  EXPECT_EQ(arm.at("ratios").at("least_request").at("p50"), (nlohmann::json{0.5, 0.5}));
  EXPECT_NE(comparison_table(report).find("ballast"), std::string::npos);
}

TEST(Report, ThePageHoldsEachArmAndEndsNoElementOfItsOwn) {
  Report report;
  report.scenario.name = "demo</script>";
  report.runs = {run("least_request", 1, {10, 20, 30}), run("ballast", 1, {5, 10, 15})};
  LiveRow row{.service = "lab/web", .pod = "a", .rps = 12.5, .p50_ms = 2, .p99_ms = -1, .weight = 700};
  report.runs[1].looks = {{1795900000.5, {row}}};
  const std::string page = report_page(report);
  const std::string begin = R"(<script type="application/json" id="data">)";
  const std::size_t from = page.find(begin) + begin.size();
  const std::size_t to = page.find("</script>", from);
  const auto data = nlohmann::json::parse(page.substr(from, to - from));
  EXPECT_EQ(data["table"].size(), 3U);
  EXPECT_EQ(data["table"][2][0], "ballast");
  ASSERT_EQ(data["snapshots"].size(), 1U);
  const auto& look = data["snapshots"][0];
  EXPECT_EQ(look["arm"], "ballast");
  EXPECT_EQ(look["top"][0]["namespace"], "lab");
  EXPECT_EQ(look["top"][0]["p50_ns"], 2e6);
  EXPECT_TRUE(look["top"][0]["p99_ns"].is_null()) << "not known in this arm";
  EXPECT_EQ(look["top"][0]["weight"], 700);
}

TEST(Report, UnfinishedRequestsCountWithTheirAgeAndAsErrors) {
  const std::vector<Arrival> arrivals = {
      {0, 1, 0}, {1'000'000'000, 1, 0}, {1'100'000'000, 1, 0}, {1'200'000'000, 1, 0}};
  const std::vector<Answer> answers = {{Outcome::kOk, 99'000'000, 0},
                                       {Outcome::kOk, 3'000'000, 10'000},
                                       {Outcome::kUnfinished, 5'000'000'000, 0},
                                       {Outcome::kError, 1'000'000, 0}};
  RunResult result;
  result.window_s = 1;
  add_answers(result, arrivals, answers, 1'000'000'000, ~0ULL);
  EXPECT_EQ(result.requests, 3U);
  EXPECT_EQ(result.failed, 1U);
  EXPECT_EQ(result.unfinished, 1U);
  EXPECT_EQ(result.latencies_ms, (std::vector<double>{3, 5000}));
  EXPECT_EQ(result.goodput_rps(), 1);
}

}  // namespace
}  // namespace ballast::lab
