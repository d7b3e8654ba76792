// SPDX-License-Identifier: Apache-2.0
#include "agent/config/config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/base/file.h"

namespace ballast::config {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

class ConfigTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(fs::temp_directory_path(), "ballast-config-");
    ASSERT_TRUE(made.ok()) << made.error().message;
    dir_.emplace(std::move(*made));
  }
  fs::path write(const std::string& name, const std::string& text) const {
    fs::path path = dir_->path() / name;
    std::ofstream(path) << text;
    return path;
  }
  std::optional<TempDir> dir_;
};

TEST_F(ConfigTest, NothingSaidMeasuresAndWritesNothing) {
  const auto config = load(std::nullopt, {});
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_TRUE(config->guard.hold_claims) << "who counts more than its weight brought is not believed";
  EXPECT_EQ(config->sink, "dry-run");
  EXPECT_EQ(config->guard.mode, guard::Mode::kOff);
  EXPECT_EQ(config->identity, "none");
  EXPECT_EQ(config->bpffs, "/sys/fs/bpf/ballast");
  EXPECT_TRUE(config->metrics.empty());
  EXPECT_TRUE(config->learner.empty());
}

TEST_F(ConfigTest, AnEmptyFileIsTheDefaults) {
  const auto config = load(write("empty.yaml", "# nothing\n"), {});
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(*config, *load(std::nullopt, {}));
}

TEST_F(ConfigTest, APasswordInAUrlIsNotPrinted) {
  for (const char* given : {"metrics_otlp: \"http://me:hush@collector:4318\"\n",
                            "spans: {every: 20, otlp: \"https://collector:4318/v1/traces?key=hush\"}\n"}) {
    const auto config = load(write("secret.yaml", given), {});
    ASSERT_TRUE(config.ok()) << config.error().message;
    EXPECT_THAT(config->metrics_otlp + config->spans.endpoint, HasSubstr("hush")) << "it is used";
    EXPECT_THAT(to_yaml(*config), Not(HasSubstr("hush")));
    EXPECT_THAT(to_yaml(*config), HasSubstr("collector:4318"));
  }
  const auto wrong = load(write("wrong.yaml", "metrics_otlp: \"me:hush@collector:4318\"\n"), {});
  ASSERT_FALSE(wrong.ok());
  EXPECT_THAT(wrong.error().message, Not(HasSubstr("hush")));
}

TEST_F(ConfigTest, EveryKeyIsReadAndPrintedBackTheSame) {
  const fs::path pods = write("pods.yaml", "pods: []\n");
  const fs::path parameters = write("p.bin", "x");
  const fs::path file =
      write("all.yaml",
            "bpffs: /sys/fs/bpf/other\n"
            "identity: static:" +
                pods.string() +
                "\n"
                "sink: xds:127.0.0.1:18000\n"
                "mode: shadow\n"
                "tick_ms: 500\n"
                "window_s: 7.5\n"
                "cgroup_root: /sys/fs/cgroup/unified\n"
                "log: debug\n"
                "metrics: 127.0.0.1:9100\n"
                "spans: {every: 20, otlp: \"http://127.0.0.1:4318\"}\n"
                "fleet: {remote: \"global:7000\", node: n1, interval_ms: 250, max_age_s: 3, tls_cert: " +
                pods.string() + ", tls_key: " + pods.string() + ", tls_ca: " + pods.string() +
                ", server_name: global.ballast}\n"
                "policy: {name: learned, parameters: " +
                parameters.string() +
                "}\n"
                "learner: {socket: \"unix:/tmp/l.sock\", exploration: 0.2, temperature: 2,"
                " rollout_steps: 8, margin: 3}\n"
                "guard: {floor: 0.2, cap: 3, max_step: 0.5, deadband: 0.01,"
                " stale_after_s: 3, neutral_after_s: 9, blend: 0.5, trip_ratio: 2,"
                " trip_windows: 4, window_s: 6, hold_claims: true}\n"
                "gate: {leave_ratio: 8, return_ratio: 4, leave_spread: 0.3, return_spread: 0.2,"
                " leave_ticks: 3, return_ticks: 9, single_subscriber_leaves: false, level_spread: 0.4}\n"
                "prior: {time_constant_s: 3, confirm_step: 0.2, immediate_step: 0.4}\n"
                "reward: {p50: 2, p99: 3, errors: 4, imbalance: 5, churn: 6}\n");
  const auto config = load(file, {});
  ASSERT_TRUE(config.ok()) << config.error().message;
  Config want;
  want.bpffs = "/sys/fs/bpf/other";
  want.identity = "static:" + pods.string();
  want.sink = "xds:127.0.0.1:18000";
  want.guard = {guard::Mode::kShadow, 0.2, 3.0, 0.5, 0.01, 3.0, 9.0, 0.5, 2.0, 4, 6.0, true};
  want.tick = std::chrono::milliseconds(500);
  want.observer.window_s = 7.5;
  want.cgroup_root = "/sys/fs/cgroup/unified";
  want.log = "debug";
  want.metrics = "127.0.0.1:9100";
  want.spans_every = 20;
  want.spans.endpoint = "http://127.0.0.1:4318";
  want.fleet_client.address = "global:7000";
  want.fleet_client.node_id = "n1";
  want.fleet_client.tls = {pods, pods, pods};
  want.fleet_client.server_name = "global.ballast";
  want.fleet.interval = std::chrono::milliseconds(250);
  want.fleet.longest_age = std::chrono::milliseconds(3000);
  want.policy = "learned";
  want.parameters = parameters;
  want.learner = "unix:/tmp/l.sock";
  want.rollout_steps = 8;
  want.learned.epsilon = 0.2;
  want.learned.temperature = 2;
  want.learned.margin = 3;
  want.learned.prior.gate = {8.0, 4.0, 0.3, 0.2, 3, 9, false, 0.4};
  want.learned.prior.filter = {3.0, 0.2, 0.4};
  want.reward = {2, 3, 4, 5, 6};
  EXPECT_EQ(*config, want);

  const auto again = load(write("again.yaml", to_yaml(*config)), {});
  ASSERT_TRUE(again.ok()) << again.error().message << "\n" << to_yaml(*config);
  EXPECT_EQ(*again, *config);
}

TEST_F(ConfigTest, FlagsOverrideTheFile) {
  const fs::path file = write("c.yaml", "mode: active\ntick_ms: 500\n");
  const auto config = load(file, {{"--mode", "mode", "shadow"}, {"--policy", "policy.name", "neutral"}});
  ASSERT_TRUE(config.ok()) << config.error().message;
  EXPECT_EQ(config->guard.mode, guard::Mode::kShadow);
  EXPECT_EQ(config->tick, std::chrono::milliseconds(500));
  EXPECT_EQ(config->policy, "neutral");
}

TEST_F(ConfigTest, ALoopByNameSetsTheTick) {
  EXPECT_EQ(load(write("a.yaml", "loop: eds\n"), {})->tick_in_force().count(), 47);
  EXPECT_EQ(load(write("b.yaml", "loop: istio\n"), {})->tick_in_force().count(), 1100);
  EXPECT_EQ(load(write("c.yaml", "tick_ms: 20\n"), {})->tick_in_force().count(), 20);
  EXPECT_FALSE(load(write("d.yaml", "loop: eds\ntick_ms: 100\n"), {}).ok()) << "one of both";
  EXPECT_FALSE(load(write("e.yaml", "loop: eds\nsink: istio\nidentity: kubernetes\n"), {}).ok());
  EXPECT_FALSE(load(write("f.yaml", "tick_ms: 50\nsink: istio\nidentity: kubernetes\n"), {}).ok());
}

TEST_F(ConfigTest, WithoutParametersTheRuleActs) {
  EXPECT_EQ(load(write("a.yaml", "mode: off\n"), {})->acting(), "queue_rule");
  EXPECT_EQ(load(write("b.yaml", "learner: {socket: \"unix:/tmp/l.sock\"}\n"), {})->acting(), "queue_rule")
      << "a learner may wait beside it";
  EXPECT_EQ(load(write("c.yaml", "policy: {name: prior}\n"), {})->acting(), "prior");
  EXPECT_EQ(load(write("d.yaml", "policy: {name: queue_rule}\nlearner: {socket: \"unix:/tmp/l.sock\"}\n"), {})
                ->acting(),
            "queue_rule");
}

TEST_F(ConfigTest, AWrongFlagIsNamed) {
  const auto config = load(std::nullopt, {{"--mode", "mode", "wild"}});
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.error().exit_code(), 2);
  EXPECT_THAT(config.error().message, StartsWith("--mode: "));
  EXPECT_THAT(config.error().message, HasSubstr("off, shadow, active"));
}

TEST_F(ConfigTest, AMissingFileIsWrongUse) {
  const auto config = load(dir_->path() / "none.yaml", {});
  ASSERT_FALSE(config.ok());
  EXPECT_EQ(config.error().exit_code(), 2);
  EXPECT_THAT(config.error().message, HasSubstr("none.yaml"));
}

struct Bad {
  const char* name;
  const char* text;
  int line;
  const char* key;   ///< the message names it behind the line
  const char* says;  ///< and says this
};

class BadInput : public ConfigTest, public ::testing::WithParamInterface<Bad> {};

TEST_P(BadInput, IsRefusedWithFileLineAndKey) {
  const fs::path file = write("bad.yaml", GetParam().text);
  const auto config = load(file, {});
  ASSERT_FALSE(config.ok()) << "accepted:\n" << GetParam().text;
  EXPECT_EQ(config.error().exit_code(), 2);
  EXPECT_THAT(config.error().message,
              StartsWith(file.string() + ":" + std::to_string(GetParam().line) + ": " + GetParam().key));
  EXPECT_THAT(config.error().message, HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    Each, BadInput,
    ::testing::Values(
        Bad{"unknown_key", "mode: off\n\ntick: 250\n", 3, "tick: ", "unknown key; known here: bpffs"},
        Bad{"unknown_nested", "guard:\n  floor: 0.1\n  celing: 4\n", 3, "guard.celing: ", "cap"},
        Bad{"twice", "mode: off\nmode: active\n", 2, "mode: ", "twice"},
        Bad{"not_a_number", "tick_ms: fast\n", 1, "tick_ms: ", "whole number"},
        Bad{"fraction", "tick_ms: 250.5\n", 1, "tick_ms: ", "whole number"},
        Bad{"nan", "guard:\n  floor: .nan\n", 2, "guard.floor: ", "not a number"},
        Bad{"infinite", "window_s: inf\n", 1, "window_s: ", "not a number"},
        Bad{"list_for_scalar", "tick_ms: [250]\n", 1, "tick_ms: ", "a list"},
        Bad{"map_for_scalar", "mode: {a: 1}\n", 1, "mode: ", "a map"},
        Bad{"scalar_for_section", "guard: 3\n", 1, "guard: ", "keys of its own"},
        Bad{"no_value", "bpffs: /x\ntick_ms:\n", 2, "tick_ms: ", "no value"},
        Bad{"too_fast", "tick_ms: 19\n", 1, "tick_ms: ", "20 to 60000"},
        Bad{"too_slow", "tick_ms: 60001\n", 1, "tick_ms: ", "20 to 60000"},
        Bad{"inside_out", "mode: off\nguard:\n  cap: 0.5\n  floor: 2\n", 3, "guard.cap: ", "1 to 1000"},
        Bad{"cap_below_fair", "guard:\n  cap: 0.5\n  floor: 0.2\n", 2, "guard.cap: ", "1 to 1000"},
        Bad{"floor_above_fair", "guard:\n  floor: 2\n", 2, "guard.floor: ", "0.001 to 1"},
        Bad{"stale_order", "guard: {stale_after_s: 20}\n", 1, "guard.stale_after_s: ", "swap"},
        Bad{"stale_ticks", "guard:\n  stale_after_s: 0.3\n", 2, "guard.stale_after_s: ", "ticks"},
        Bad{"gate_order", "gate: {leave_ratio: 1, return_ratio: 2}\n", 1, "gate.return_ratio: ", "swap"},
        Bad{"gate_spread", "gate:\n  return_spread: 2\n", 2, "gate.return_spread: ", "swap"},
        Bad{"prior_order", "prior:\n  confirm_step: 2\n", 2, "prior.confirm_step: ", "swap"},
        Bad{"not_a_bool", "gate: {single_subscriber_leaves: perhaps}\n", 1,
            "gate.single_subscriber_leaves: ", "true"},
        Bad{"exploration", "learner: {exploration: 1.5}\n", 1, "learner.exploration: ", "0 to 1"},
        Bad{"unknown_mode", "mode: on\n", 1, "mode: ", "off, shadow, active"},
        Bad{"unknown_policy", "policy: {name: clever}\n", 1,
            "policy.name: ", "auto, neutral, prior, queue_rule, forecast_rule, learned"},
        Bad{"unknown_level", "log: loud\n", 1, "log: ", "debug"},
        Bad{"kubernetes", "kubernetes:\n  lease_duration_s: 1\n", 2,
            "kubernetes.lease_duration_s: ", "3 to 3600"},
        Bad{"weights", "kubernetes: {weights_per_s: 0}\n", 1, "kubernetes.weights_per_s: ", "0.1 to 1000"},
        Bad{"istio", "sink: istio\n", 1, "sink: ", "set identity: kubernetes"},
        Bad{"fleet_age", "fleet:\n  max_age_s: 0.5\n", 2, "fleet.max_age_s: ", "two intervals"},
        Bad{"fleet_tls", "fleet: {tls_cert: /bin/sh}\n", 1, "fleet.tls_cert: ", "all three, or none"},
        Bad{"identity_file", "identity: static:/nowhere/pods.yaml\n", 1, "identity: ", "no file"},
        Bad{"identity_kind", "identity: docker\n", 1, "identity: ", "static:FILE"},
        Bad{"parameters_file", "policy: {name: learned, parameters: /nowhere}\n", 1,
            "policy.parameters: ", "no file"},
        Bad{"idle_parameters", "policy: {name: prior, parameters: /bin/sh}\n", 1,
            "policy.parameters: ", "learned"},
        Bad{"idle_learner", "policy: {name: prior}\nlearner:\n  socket: unix:/tmp/x\n", 3,
            "learner.socket: ", "learned"},
        Bad{"sink_folder", "sink: file:/nowhere/w.json\n", 1, "sink: ", "no folder /nowhere"},
        Bad{"sink_outside", "sink: xds:0.0.0.0:18000\n", 1, "sink: ", "reachable from other machines"},
        Bad{"sink_port", "sink: xds:127.0.0.1\n", 1, "sink: ", "IP:PORT"},
        Bad{"spans_no_url", "spans:\n  otlp: collector:4318\n", 2, "spans.otlp: ", "is no URL"},
        Bad{"metrics_outside", "metrics: 10.0.0.1:9100\n", 1, "metrics: ", "reachable from other machines"},
        Bad{"relative_bpffs", "bpffs: maps\n", 1, "bpffs: ", "absolute"},
        Bad{"socket_scheme", "learner: {socket: /tmp/x}\n", 1, "learner.socket: ", "unix:PATH"},
        Bad{"prior_step_zero", "prior:\n  confirm_step: 0\n", 2, "prior.confirm_step: ", "0.001 to 10"},
        Bad{"trip_ratio_one", "guard: {trip_ratio: 1}\n", 1, "guard.trip_ratio: ", "1.01 to 1000"},
        Bad{"wide_deadband", "guard:\n  deadband: 0.5\n", 2, "guard.deadband: ", "half of guard.max_step"},
        Bad{"short_step", "guard:\n  max_step: 0.05\n", 2, "guard.max_step: ", "half of guard.max_step"},
        Bad{"the_other_key", "guard: {neutral_after_s: 1}\n", 1, "guard.neutral_after_s: ", "stale_after_s"},
        Bad{"the_other_of_two_rooms", "tick_ms: 5000\n", 1, "tick_ms: ", "two ticks of 5000 ms"},
        Bad{"collector_without_spans", "spans: {otlp: \"http://c:4318\"}\n", 1,
            "spans.otlp: ", "spans.every"},
        Bad{"slip", "guard:\n  flor: 0.1\n", 2, "guard.flor: ", "did you mean floor?"},
        Bad{"slip_of_a_section", "gaurd: {floor: 0.1}\n", 1, "gaurd: ", "did you mean guard?"},
        Bad{"another_section", "floor: 0.1\n", 1, "floor: ", "did you mean guard.floor?"},
        Bad{"slip_of_a_word", "mode: actve\n", 1, "mode: ", "did you mean active?"},
        Bad{"not_yaml", "mode: off\n  tick: [\n", 2, "not YAML", ""},
        Bad{"a_list", "- mode\n", 1, "the document is not a map", ""}),
    [](const auto& param) { return std::string(param.param.name); });

}  // namespace
}  // namespace ballast::config
