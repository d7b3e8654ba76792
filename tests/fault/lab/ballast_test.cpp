// SPDX-License-Identifier: Apache-2.0
//
// Ballast's own processes in the lab: what breaks when they do, and what they measure.
#include <gmock/gmock.h>

#include <cmath>
#include <map>
#include <set>

#include "lab_process.h"
#include "model/policy/parameters.h"
#include "model/sync/client/worker_client.h"

namespace ballast::lab {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

class BallastTest : public LabTest {
 protected:
  void SetUp() override {
    LabTest::SetUp();
    if (!IsSkipped()) {
      ASSERT_TRUE(have("ballastd")) << "build it first";
    }
  }

  /// Runs one arm with the scenario's events; its JSON.
  nlohmann::json arm(const std::string& policy, const std::string& events, const std::string& duration) {
    return arm_of(scenario(events), policy, duration, {});
  }
  nlohmann::json arm_of(const std::string& file, const std::string& policy, const std::string& duration,
                        std::vector<std::string> more) {
    std::vector<std::string> arguments = {"--scenario", file, "--policy", policy, "--duration", duration};
    arguments.insert(arguments.end(), more.begin(), more.end());
    auto lab = start("run", arguments);
    EXPECT_TRUE(lab.ok());
    auto report = lab.ok() ? finished_report("run", *lab, seconds(90)) : nlohmann::json();
    return report.contains("arms") ? report["arms"][0] : nlohmann::json();
  }

  /// ballastctl's JSON on the maps of a run; discarded when it failed.
  nlohmann::json ctl(const std::string& prefix, const std::string& verb) const {
    static int calls = 0;
    ProcessOptions options;
    options.output = folder_->path() / ("ctl-" + std::to_string(calls++));
    options.argv = {(bin_ / "ballastctl").string(), "--bpffs", "/sys/fs/bpf/" + prefix, verb, "-o", "json"};
    auto child = ChildProcess::spawn(options);
    const auto ended = child.ok() ? child->wait(seconds(5)) : std::nullopt;
    const auto text = read_file(options.output);
    return ended && ended->code == 0 && text ? nlohmann::json::parse(*text, nullptr, false)
                                             : nlohmann::json::parse("", nullptr, false);
  }

  /// The value of a flag of the process in one of a run's cgroups; empty when it does not run.
  std::string flag_of(const std::string& prefix, const std::string& cgroup, const std::string& flag) const {
    std::ifstream pids(layout_.v2 / prefix / cgroup / "cgroup.procs");
    pid_t pid = 0;
    if (!(pids >> pid)) {
      return "";
    }
    std::ifstream command("/proc/" + std::to_string(pid) + "/cmdline");
    for (std::string word; std::getline(command, word, '\0');) {
      if (word == flag && std::getline(command, word, '\0')) {
        return word;
      }
    }
    return "";
  }

  /// Where the run's ballast-global listens, once it does; empty where the run ends before.
  std::string global_of(const std::string& prefix, ChildProcess& lab) const {
    std::string global;
    for (int i = 0; i < 1000 && global.empty() && lab.running(); ++i) {
      global = flag_of(prefix, "_global", "--listen");
      std::this_thread::sleep_for(milliseconds(10));
    }
    return global;
  }

  bool ballastd_runs(const std::string& prefix) const {
    const auto pids = read_file(layout_.v2 / prefix / "_ballastd" / "cgroup.procs");
    return pids.ok() && !pids->empty();
  }
};

TEST_F(BallastTest, NoRequestFailsWhenItsProcessesAreKilledAndStartedAgain) {
  const auto result = arm("learned",
                          "learner: true\n"
                          "events:\n  - {at_s: 1, kill: learner}\n  - {at_s: 2, restart: learner}\n"
                          "  - {at_s: 3, kill: global}\n  - {at_s: 4, restart: global}\n"
                          "  - {at_s: 5, kill: ballastd}\n  - {at_s: 7, restart: ballastd}\n",
                          "10");
  ASSERT_TRUE(result.contains("results"));
  EXPECT_EQ(result["errors"], 0);
  EXPECT_GT(result["requests"], 300);
  const auto& run = result["results"][0];
  for (const auto& event : run["events"]) {
    EXPECT_TRUE(event["done"]) << event.dump();
  }
  EXPECT_EQ(run["processes"].size(), 3U) << "all three run again at the end";
  for (const auto& pod : run["pods"]) {
    EXPECT_GT(pod["weight"], 0);
  }
}

TEST_F(BallastTest, TheActingParametersAreTheGlobalNetworksOfThatVersion) {
  auto lab =
      start("run", {"--scenario", scenario("learner: true\n"), "--policy", "learned", "--duration", "20"});
  ASSERT_TRUE(lab.ok());
  const auto prefix = prefix_of("run");
  const std::string global = global_of(prefix, *lab);
  ASSERT_NE(global, "") << log("run");
  const auto witness = sync::WorkerClient::start(
      {.address = global, .worker_id = "witness", .pull_interval = milliseconds(5)});
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::uint32_t> served;
  std::map<std::pair<std::uint64_t, std::uint64_t>, std::string> acted;
  while (lab->running()) {
    if (const auto newer = witness->take_parameters()) {
      served[{newer->parameters.epoch, newer->parameters.version}] = policy::fingerprint(newer->bytes);
    }
    const auto status = ctl(prefix, "status");
    if (status.is_object() && status.value("policy_epoch", 0U) > 0) {
      acted[{status["policy_epoch"], status["policy_version"]}] = status["policy_crc32"];
    }
  }
  EXPECT_TRUE(finished_report("run", *lab, seconds(1)).contains("arms"));
  int compared = 0;
  for (const auto& [version, crc32] : acted) {
    if (const auto found = served.find(version); found != served.end()) {
      ++compared;
      char expected[9];
      std::snprintf(expected, sizeof expected, "%08x", found->second);
      EXPECT_EQ(crc32, expected) << "version " << version.second;
    }
  }
  EXPECT_GE(compared, 1) << acted.size() << " versions acted, " << served.size() << " were served";
  EXPECT_GE(acted.size(), 3U) << "the version rises";
}

TEST_F(BallastTest, TheForecastThatActsIsLearnedOnTheNodeAndOfTheGlobalNetworksVersion) {
  auto lab = start(
      "run", {"--scenario", scenario("learner: true\n"), "--policy", "forecast_rule", "--duration", "25"});
  ASSERT_TRUE(lab.ok());
  const auto prefix = prefix_of("run");
  const std::string global = global_of(prefix, *lab);
  ASSERT_NE(global, "") << log("run");
  const auto witness = sync::WorkerClient::start({.address = global,
                                                  .worker_id = "witness",
                                                  .network = sync::Network::kForecast,
                                                  .pull_interval = milliseconds(5)});
  std::map<std::uint64_t, std::uint32_t> served;
  std::map<std::uint64_t, std::string> acted;
  std::string says;
  while (lab->running()) {
    if (const auto newer = witness->take_parameters()) {
      served[newer->parameters.version] = policy::fingerprint(newer->bytes);
    }
    const auto status = ctl(prefix, "status");
    if (status.is_object() && status.value("policy_epoch", 0U) > 0) {
      acted[status["policy_version"]] = status["policy_crc32"];
      for (const auto& one : status["forecast"]) {
        says = one["says"];
      }
    }
  }
  EXPECT_TRUE(finished_report("run", *lab, seconds(1)).contains("arms"));
  int compared = 0;
  for (const auto& [version, crc32] : acted) {
    if (const auto found = served.find(version); found != served.end()) {
      ++compared;
      char expected[9];
      std::snprintf(expected, sizeof expected, "%08x", found->second);
      EXPECT_EQ(crc32, expected) << "version " << version;
    }
  }
  EXPECT_GE(compared, 1) << acted.size() << " versions acted, " << served.size() << " were served";
  EXPECT_GE(acted.size(), 3U) << "the version rises";
  EXPECT_THAT(says, ::testing::HasSubstr(" pairs in "));
}

TEST_F(BallastTest, EnvoyIsKilledAndStartedAgain) {
  const std::string events = "events:\n  - {at_s: 3, kill: envoy}\n  - {at_s: 4, restart: envoy}\n";
  const auto plain = arm("least_request", events, "8");
  const auto with_ballast = arm("prior", events, "8");
  ASSERT_TRUE(plain.contains("results") && with_ballast.contains("results"));
  // While there is no proxy, all fail in both; what is on its way at the kill differs by a few.
  EXPECT_GT(plain["errors"], 0);
  EXPECT_LE(with_ballast["errors"].get<int>(), 1.25 * plain["errors"].get<int>() + 10);
  for (const auto& pod : with_ballast["results"][0]["pods"]) {
    EXPECT_GT(pod["weight"], 0);
    EXPECT_GT(pod["requests"], 0);
  }
}

TEST_F(BallastTest, APodIsKilledAndAnotherOneJoins) {
  const auto result = arm(
      "prior", "events:\n  - {at_s: 2, kill_pod: web-1}\n  - {at_s: 4, add_pod: web-2, quota: 0.2}\n", "8");
  ASSERT_TRUE(result.contains("pods"));
  const auto& pods = result["pods"];
  ASSERT_EQ(pods.size(), 3U);
  EXPECT_EQ(pods[1]["weight"], 0) << "gone from Envoy";
  EXPECT_GT(pods[2]["weight"], 0);
  EXPECT_GT(pods[2]["requests"], 0);
}

TEST_F(BallastTest, TheKernelCountsAndTimesAsEnvoyDoes) {
  // Envoy's figure holds its own waking up, which is not in ours and is no share of the demand but
  // some tenths of a millisecond; so the demand is well above it.
  const auto file = scenario_file(
      "about: two pods with long requests\nload: 0.4\nwarmup_s: 1\ndemand: {mean_ms: 8, sigma: 0.5}\n"
      "pods:\n  - {name: web-0, quota: 0.5}\n  - {name: web-1, quota: 0.4}\n");
  const auto result = arm_of(file, "prior", "20", {"--access-log"});
  ASSERT_TRUE(result.contains("results"));
  for (const auto& pod : result["results"][0]["pods"]) {
    SCOPED_TRACE(pod.dump());
    ASSERT_TRUE(pod.contains("kernel") && pod.contains("upstream"));
    const double envoy = pod["requests_total"];
    EXPECT_GT(envoy, 100);
    EXPECT_LE(std::abs(pod["kernel"]["requests_total"].get<double>() - envoy), 0.001 * envoy);
    for (const char* figure :
         {"first_byte_p50_ms", "first_byte_p99_ms", "last_byte_p50_ms", "last_byte_p99_ms"}) {
      const double seen = pod["upstream"][figure];
      EXPECT_NEAR(pod["kernel"][figure].get<double>(), seen, 0.10 * seen) << figure;
    }
  }
}

TEST_F(BallastTest, CountersGoOnWhileBallastdIsDeadAndDoNotJumpAtItsRestart) {
  auto lab =
      start("run", {"--scenario",
                    scenario("events:\n  - {at_s: 2, kill: ballastd}\n  - {at_s: 5, restart: ballastd}\n"),
                    "--policy", "prior", "--duration", "8"});
  ASSERT_TRUE(lab.ok());
  const auto prefix = prefix_of("run");
  std::map<std::string, double> last;
  int answers_while_dead = 0;
  int grown_while_dead = 0;
  double most_at_once = 0;
  while (lab->running()) {
    const bool dead_before = !ballastd_runs(prefix);
    const auto rows = ctl(prefix, "requests");
    const bool dead = dead_before && !ballastd_runs(prefix);
    if (rows.is_array() && !rows.empty()) {
      answers_while_dead += dead ? 1 : 0;
      for (const auto& row : rows) {
        const std::string pod = row.value("pod", "");
        if (row.value("role", "") != "server" || pod.rfind("web-", 0) != 0) {
          continue;
        }
        const double requests = row["requests"];
        EXPECT_GE(requests, last[pod]) << pod << " went back";
        grown_while_dead += dead && last[pod] > 0 && requests > last[pod] ? 1 : 0;
        most_at_once = std::max(most_at_once, last[pod] > 0 ? requests - last[pod] : 0);
        last[pod] = requests;
      }
    }
    std::this_thread::sleep_for(milliseconds(100));
  }
  const auto report = finished_report("run", *lab, seconds(1));
  ASSERT_TRUE(report.contains("arms"));
  EXPECT_EQ(report["arms"][0]["errors"], 0);
  EXPECT_GT(answers_while_dead, 3);
  EXPECT_GT(grown_while_dead, 3) << "the kernel goes on counting";
  // 45 requests/s arrive in all. What would come twice at the restart is far more than a reading's worth.
  EXPECT_LT(most_at_once, 100);
  for (const auto& pod : report["arms"][0]["results"][0]["pods"]) {
    const double envoy = pod["requests_total"];
    EXPECT_LE(std::abs(pod["kernel"]["requests_total"].get<double>() - envoy), 0.001 * envoy);
  }
}

TEST_F(BallastTest, AnOrderlyEndLeavesEqualWeights) {
  const auto result = arm("prior", "events:\n  - {at_s: 4, stop: ballastd}\n", "7");
  ASSERT_TRUE(result.contains("results"));
  EXPECT_EQ(result["errors"], 0);
  const auto& pods = result["results"][0]["pods"];
  EXPECT_EQ(pods[0]["weight"], pods[1]["weight"]);
}

TEST_F(BallastTest, ItsPlaceOnTheMachineIsSmall) {
  const auto result = arm("prior", "", "5");
  ASSERT_TRUE(result.contains("results"));
  ASSERT_EQ(result["results"][0]["processes"].size(), 1U);
  EXPECT_LE(result["results"][0]["processes"][0]["rss_peak_mb"], 64);
}

/// What tools/demo.sh shows: no LibTorch is there for it.
TEST_F(LabTest, WithoutALearnerTheShippedPolicyActsAlone) {
  const auto file = scenario("learner: true\n");
  auto lab = start("alone", {"--scenario", file, "--policy", "learned", "--no-learner", "--duration", "2"});
  ASSERT_TRUE(lab.ok());
  const auto report = finished_report("alone", *lab, seconds(60));
  ASSERT_TRUE(report.contains("arms"));
  const auto& processes = report["arms"][0]["results"][0]["processes"];
  ASSERT_EQ(processes.size(), 1U) << processes.dump();
  EXPECT_EQ(processes[0]["process"], "ballastd");
}

}  // namespace
}  // namespace ballast::lab
