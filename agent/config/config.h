// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "agent/actuate/istio/istio_sink.h"
#include "agent/decide/learned.h"
#include "agent/export/otlp.h"
#include "agent/fleet/remote.h"
#include "agent/guard/guard.h"
#include "agent/observe/observer.h"
#include "agent/sample/routes.h"
#include "agent/sample/user_key.h"
#include "core/base/options.h"
#include "core/base/result.h"
#include "core/spec/spec.h"
#include "model/sync/client/fleet_client.h"

/// What an operator may say to ballastd: one YAML file, overridden by flags. The rooms declare their
/// options beside themselves (core/base/options.h); what belongs to no room is declared here.
/// Every key has a default, so an empty file is a right one: it measures every cgroup and writes
/// nothing. docs/configuration.md lists them all; `ballastd --check-config` prints what is in force.
namespace ballast::config {

/// Checks of texts that are ballastd's own.
options::Wrong identity_form(const std::string& text);
options::Wrong sink_form(const std::string& text);
options::Wrong absolute_path(const std::string& text);
options::Wrong unix_socket(const std::string& text);  ///< unix:PATH; empty is right

struct Config {
  std::filesystem::path bpffs = "/sys/fs/bpf/ballast";
  std::string identity = "none";
  std::string sink = "dry-run";
  std::string role = "both";
  std::string loop = "custom";
  std::chrono::milliseconds tick{250};
  /// What `loop` stands for; ballast-bench's loops of these names have the same.
  std::chrono::milliseconds tick_in_force() const {
    return std::chrono::milliseconds(loop == "eds"          ? 47
                                     : loop == "istio_fast" ? 250
                                     : loop == "istio"      ? 1100
                                                            : tick.count());
  }
  std::filesystem::path cgroup_root;
  std::string log = "info";
  std::string metrics;
  bool metrics_beyond_loopback = false;
  std::filesystem::path metrics_tls_certificate;
  std::filesystem::path metrics_tls_key;
  std::string metrics_otlp;
  std::chrono::milliseconds metrics_otlp_every{15'000};
  observe::ObserverOptions observer;
  actuate::IstioOptions istio;
  std::string node;
  int spans_every = 0;
  telemetry::OtlpOptions spans;
  std::string routes;
  sample::UserOptions users;
  sync::FleetClientOptions fleet_client;
  fleet::RemoteOptions fleet;
  std::string policy = "auto";
  /// What `auto` stands for: the learned policy where it is given parameters; where requests wait it is worse
  /// than equal weights. A learner beside the rule teaches it gains, which a twin has to have proved.
  std::string acting() const {
    return policy != "auto" ? policy : parameters.empty() ? "queue_rule" : "learned";
  }
  std::filesystem::path parameters;
  std::string learner;
  int rollout_steps = 20;
  /// Exploration: its steps add up; at 0.05 they walked a weight by a quarter in a minute.
  decide::LearnedOptions learned{.epsilon = 0.01};
  guard::GuardOptions guard{.mode = guard::Mode::kOff};
  spec::RewardWeights reward;
  bool operator==(const Config&) const = default;

  void declare(options::Schema& s) {
    s.path("bpffs", bpffs, "DIR", "folder of the pinned maps and programs", absolute_path);
    s.text("identity", identity, "none, static:FILE, kubernetes",
           "who the cgroups are; none: by their paths alone", identity_form);
    s.text("sink", sink, "dry-run, file:PATH, xds:IP:PORT (loopback), xds:unix:PATH, istio",
           "where the weights go", sink_form);
    s.one_of("role", role, {"both", "node", "writer"},
             "node: measures, reports to fleet.remote and takes back what a dead writer left, but writes no "
             "weights; writer: measures nothing, needs no privilege, and writes weights by what nodes "
             "reported; both: one process is both");
    s.word<guard::Mode>(
        "mode", guard.mode,
        {{"off", guard::Mode::kOff}, {"shadow", guard::Mode::kShadow}, {"active", guard::Mode::kActive}},
        "off: measure alone; shadow: decide, and act on nothing: equal weights to an Envoy of your own or a "
        "file, "
        "nothing to Istio; active: write them");
    s.one_of(
        "loop", loop, {"custom", "eds", "istio_fast", "istio"},
        "a loop by name sets the tick; eds: 47 ms, for sinks that write at once; istio_fast: 250 ms, for an "
        "Istio without Envoy's merge window; istio: 1100 ms; custom: tick_ms");
    s.milliseconds("tick_ms", tick, 20, 60'000,
                   "from one decision to the next; below 100 not with sink: istio");
    observer.declare(s);
    s.path("cgroup_root", cgroup_root, "DIR", "the cgroup v2 mount; empty: as /proc/self/mountinfo says");
    s.one_of("log", log, {"trace", "debug", "info", "warn", "error", "off"}, "what is logged, on stderr");
    s.text("metrics", metrics, "IP:PORT", "of the Prometheus endpoint; empty: off");
    s.flag("metrics_beyond_loopback", metrics_beyond_loopback,
           "let it be reached from other machines although nothing is encrypted or authenticated");
    s.rule({"metrics"}, [this]() -> options::Wrong {
      return metrics_beyond_loopback ? std::nullopt : options::loopback(metrics);
    });
    s.path("metrics_tls_certificate", metrics_tls_certificate, "FILE",
           "PEM chain with which /metrics is served over TLS; changes are taken over; empty: without TLS",
           options::existing_file);
    s.path("metrics_tls_key", metrics_tls_key, "FILE", "PEM, its key", options::existing_file);
    s.rule({"metrics_tls_certificate", "metrics_tls_key"}, [this]() -> options::Wrong {
      return metrics_tls_certificate.empty() == metrics_tls_key.empty()
                 ? std::nullopt
                 : options::Wrong("a certificate and its key are given together, or neither");
    });
    s.text("metrics_otlp", metrics_otlp, "http://HOST:PORT",
           "an OpenTelemetry collector that gets the same metrics; empty: none", options::http_url);
    s.seconds("metrics_otlp_every_s", metrics_otlp_every, 1, 3600, "how often it gets them");
    istio.declare(s);
    s.text("node", node, "NAME", "our spec.nodeName; empty: $NODE_NAME");
    s.section("spans");
    s.number("every", spans_every, 0, 1000, "", "one time slice of 67 ms in so many is sampled; 0: none");
    spans.declare(s);
    s.text("routes", routes, "PATTERN, ...",
           "names of paths, /users/{id} or /static/*, before those that are learned; empty: all are learned",
           sample::route_patterns_form);
    users.declare(s);
    fleet_client.declare(s);
    fleet.declare(s);
    s.section("policy");
    s.one_of("name", policy, {"auto", "neutral", "prior", "queue_rule", "forecast_rule", "learned"},
             "what proposes the weights; auto: learned where parameters are given, else queue_rule");
    s.path("parameters", parameters, "FILE",
           "of the learned policy or of forecast_rule; empty: the shipped one", options::existing_file);
    s.section("learner");
    s.text("socket", learner, "unix:PATH", "on which ballast-learner is served; empty: off", unix_socket);
    s.number("rollout_steps", rollout_steps, 1, 1000, "", "steps of a rollout handed to the learner");
    guard.declare(s);
    learned.declare(s);
    reward.declare(s);
    rules(s);
  }

 private:
  /// What holds between keys of several rooms.
  void rules(options::Schema& s);
};

/// A flag that overrides a key of the file, e.g. {"--mode", "mode", "active"}.
struct Override {
  std::string flag;
  std::string key;
  std::string value;
};

/// The defaults, then the file (none: defaults alone), then the flags. Every error is kUsage and
/// reads "FILE:LINE: KEY: what is wrong, and what to do", or "--flag: ...". Unknown and doubled
/// keys, wrong types, values out of range, files that do not exist and keys that contradict each other are
/// errors. Touches nothing but the files named.
Result<Config> load(const std::optional<std::filesystem::path>& file, const std::vector<Override>& flags);

/// The configuration as a YAML file that load() reads back as the same Config, but for secrets in URLs.
std::string to_yaml(Config config);

/// docs/configuration.md.
std::string to_markdown();

/// One key, as to_yaml() prints it.
std::string value(Config config, const std::string& key);

}  // namespace ballast::config
