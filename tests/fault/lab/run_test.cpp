// SPDX-License-Identifier: Apache-2.0
//
// ballast-lab as a process: runs beside each other, runs that are killed, pods that come and go.
#include <gmock/gmock.h>
#include <signal.h>

#include "lab_process.h"

namespace ballast::lab {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST_F(LabTest, TwoRunsStandSideBySide) {
  const auto file = scenario("");
  auto a =
      start("a", {"--scenario", file, "--policy", "least_request,maglev", "--duration", "2", "--seed", "5"});
  auto b = start(
      "b", {"--scenario", file, "--policy", "round_robin,capacity_oracle", "--duration", "2", "--seed", "5"});
  ASSERT_TRUE(a.ok() && b.ok());
  const auto prefix_a = prefix_of("a");
  const auto prefix_b = prefix_of("b");
  EXPECT_NE(prefix_a, prefix_b);
  const auto report_a = finished_report("a", *a, seconds(60));
  const auto report_b = finished_report("b", *b, seconds(60));
  ASSERT_TRUE(report_a.contains("arms") && report_b.contains("arms"));
  for (const auto& report : {report_a, report_b}) {
    ASSERT_EQ(report["arms"].size(), 2U);
    // The same seed: the same requests, whatever the policy and whichever run.
    EXPECT_EQ(report["arms"][0]["requests"], report_a["arms"][0]["requests"]);
    EXPECT_EQ(report["arms"][1]["requests"], report_a["arms"][0]["requests"]);
    EXPECT_GT(report["arms"][0]["requests"], 50);
    EXPECT_EQ(report["arms"][0]["errors"], 0) << report.dump(1);
  }
  EXPECT_EQ(report_b["arms"][1]["pods"][0]["weight"], 667) << "the capacity oracle's weights are Envoy's";
  EXPECT_THAT(remains("a", prefix_a, milliseconds(0)), testing::IsEmpty());
  EXPECT_THAT(remains("b", prefix_b, milliseconds(0)), testing::IsEmpty());
}

/// A zombie that nobody has reaped yet does not run.
bool runs(pid_t pid) {
  const auto stat = read_file("/proc/" + std::to_string(pid) + "/stat");
  return stat.ok() && stat->substr(stat->rfind(')')).rfind(") Z", 0) != 0;
}

class Killed : public LabTest, public testing::WithParamInterface<int> {};

TEST_P(Killed, LeavesNothingBehind) {
  const std::string policy = have("ballastd") ? "prior" : "least_request";
  auto lab = start("run", {"--scenario", scenario(""), "--policy", policy, "--duration", "60"});
  ASSERT_TRUE(lab.ok());
  const auto prefix = prefix_of("run");
  ASSERT_FALSE(prefix.empty()) << log("run");
  std::this_thread::sleep_for(milliseconds(2500));
  const auto pids = processes(prefix);
  EXPECT_GE(pids.size(), 3U) << "two pods and Envoy: " << log("run");
  lab->signal(GetParam());
  ASSERT_TRUE(lab->wait(seconds(10)));
  EXPECT_THAT(remains("run", prefix, seconds(5)), testing::IsEmpty());
  for (const pid_t pid : pids) {
    EXPECT_FALSE(runs(pid)) << pid << " still runs";
  }
}

INSTANTIATE_TEST_SUITE_P(Signals, Killed, testing::Values(SIGKILL, SIGTERM, SIGINT));

TEST_F(LabTest, APodIsKilledAndAnotherOneJoins) {
  const auto file =
      scenario("events:\n  - {at_s: 1, kill_pod: web-1}\n  - {at_s: 2, add_pod: web-2, quota: 0.2}\n");
  auto lab = start("churn", {"--scenario", file, "--policy", "least_request", "--duration", "4"});
  ASSERT_TRUE(lab.ok());
  const auto report = finished_report("churn", *lab, seconds(60));
  ASSERT_TRUE(report.contains("arms"));
  const auto& pods = report["arms"][0]["pods"];
  ASSERT_EQ(pods.size(), 3U);
  EXPECT_GT(pods[1]["requests"], 0);
  EXPECT_EQ(pods[1]["weight"], 0) << "the killed pod is no endpoint any more";
  EXPECT_GT(pods[2]["requests"], 0);
  EXPECT_GT(pods[2]["weight"], 0);
}

TEST_F(LabTest, EnvoyIsKilledAndStartedAgain) {
  const auto file = scenario("events:\n  - {at_s: 1, kill: envoy}\n  - {at_s: 2, restart: envoy}\n");
  auto lab = start("envoy", {"--scenario", file, "--policy", "least_request", "--duration", "4"});
  ASSERT_TRUE(lab.ok());
  const auto report = finished_report("envoy", *lab, seconds(60));
  ASSERT_TRUE(report.contains("arms"));
  const auto& arm = report["arms"][0];
  EXPECT_GT(arm["errors"], 0);
  EXPECT_LT(arm["errors"], arm["requests"]);
}

TEST_F(LabTest, WrongUseEndsWithTwo) {
  const std::vector<std::vector<std::string>> wrong = {
      {"--scenario", "no-such-one", "--policy", "random"},
      {"--scenario", scenario("colour: red\n"), "--policy", "random"},
      {"--scenario", scenario(""), "--policy", "fastest"},
      {"--scenario", scenario(""), "--policy", "random", "--pairs", "none"},
      {"--scenario", scenario("events:\n  - {at_s: 9, kill: envoy}\n"), "--policy", "random", "--duration",
       "5"}};
  for (std::size_t i = 0; i < wrong.size(); ++i) {
    // Each has a file of its own under the same name, so one after the other.
    if (i == 1) {
      scenario("colour: red\n");
    } else if (i == 4) {
      scenario("events:\n  - {at_s: 9, kill: envoy}\n");
    }
    const auto name = "wrong" + std::to_string(i);
    auto lab = start(name, wrong[i]);
    ASSERT_TRUE(lab.ok());
    const auto ended = lab->wait(seconds(10));
    ASSERT_TRUE(ended);
    EXPECT_EQ(ended->code, 2) << i << ": " << log(name);
  }
  EXPECT_THAT(log("wrong1"), testing::HasSubstr("scenario.yaml:7: colour: unknown key"));
}

}  // namespace
}  // namespace ballast::lab
