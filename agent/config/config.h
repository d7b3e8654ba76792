// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/result.h"

/// What an operator may say to ballastd: one YAML file, overridden by flags. Every key has a
/// default, so an empty file is a right one: it measures every cgroup and writes nothing.
///
///   bpffs: /sys/fs/bpf/ballast   # folder of the pinned maps and programs
///   identity: none               # none (cgroup paths only) | static:FILE | kubernetes
///   sink: dry-run                # dry-run | file:PATH | xds:IP:PORT (loopback) | xds:unix:PATH | istio
///   mode: off                    # off | shadow | active
///   tick_ms: 250                 # 100..60000
///   window_s: 5                  # 1..3600, the longer window of every measured quantity
///   cgroup_root: ""              # the cgroup v2 mount; empty: found in /proc/self/mountinfo
///   log: info                    # trace | debug | info | warn | error | off
///   metrics: ""                  # IP:PORT (loopback) of the Prometheus endpoint; empty: off
///   kubernetes:                  # of identity kubernetes and sink istio
///     server: ""                 # https://HOST:PORT; empty: in the cluster, by the pod's service account
///     ca_file: ""                # with a server: who signed its certificate
///     token_file: ""             # with a server: our token, read again when it changes
///     node: ""                   # our spec.nodeName; empty: $NODE_NAME
///     namespace: ballast-system  # of the leader's Lease
///     lease: ballast-leader
///     lease_duration_s: 10       # 3..3600, unrenewed for so long, others take over
///     cluster_domain: cluster.local
///     weights_per_s: 50          # 0.1..1000, weights that the leader writes, all Services together
///   spans:
///     every: 0                   # 0..1000; one time slice of 67 ms in so many is sampled; 0: none
///     otlp: ""                   # http://HOST:PORT of an OpenTelemetry collector; empty: kept in the kernel
///   fleet:                       # the endpoints of all nodes, through ballast-global
///     remote: ""                 # HOST:PORT of it, any gRPC target; empty: this node is all there is
///     node: ""                   # our name there; empty: kubernetes.node, $NODE_NAME or the host's name
///     interval_ms: 500           # 100..60000, between our reports
///     max_age_s: 5               # 0.5..3600, what is older is not used; at least two intervals
///     tls_cert: ""               # mutual TLS: PEM files, all three or none
///     tls_key: ""
///     tls_ca: ""
///     server_name: ""            # that its certificate has to carry; empty: as dialled
///   policy:
///     name: learned              # neutral | prior | learned
///     parameters: ""             # file of the learned policy; empty: the shipped one
///   learner:
///     socket: ""                 # unix:PATH on which ballast-learner is served; empty: off
///     exploration: 0.01          # 0..1, share of decisions drawn from the softmax; 0 without a socket
///     temperature: 1             # 0.01..100, of that softmax
///     rollout_steps: 20          # 1..1000, steps of a rollout handed to the learner
///     margin: 1.5                # 1..1000, factor by which an action must beat keeping the offset
///   guard:                       # see agent/guard/guard.h
///     floor: 0.1                 # relative to fair share, at most 1
///     cap: 4                     # relative to fair share, at least 1
///     max_step: 0.7              # most a log-weight moves in one tick
///     deadband: 0.05             # least change of a log-weight that is worth a push
///     stale_after_s: 2
///     neutral_after_s: 10
///     blend: 1                   # 0..1, share of the way from neutral to the proposal
///     trip_ratio: 1.5
///     trip_windows: 3
///     window_s: 5
///   gate:                        # when a service leaves neutral, see agent/decide/neutral_gate.h
///     leave_ratio: 10            # persistence over loop delay that leaves neutral
///     return_ratio: 6            # ... that returns to it; at most leave_ratio
///     leave_spread: 0.1          # standard deviation of log capacity that leaves neutral
///     return_spread: 0.05        # ... that returns to it; at most leave_spread
///     leave_ticks: 2             # ticks in a row that have to say so
///     return_ticks: 8
///     single_subscriber_leaves: true  # with exactly one proxy, leave also where endpoints are alike
///     level_spread: 0.1          # ... which they are up to this spread of their means over seconds
///   prior:                       # how it follows what is measured, see agent/decide/prior.h
///     time_constant_s: 2         # 0: no filter
///     confirm_step: 0.15
///     immediate_step: 0.25       # at least confirm_step
///     square_root: 0             # 0..1, share of the square-root rule's tilt; 0: capacity alone
///   reward:                      # weights of the reward's terms, see core/spec/spec.h; all 0..1000
///     p50: 1
///     p99: 0.5
///     errors: 10
///     imbalance: 0.5
///     churn: 1
namespace ballast::config {

enum class IdentityKind { kNone, kStatic, kKubernetes };
struct Identity {
  IdentityKind kind = IdentityKind::kNone;
  std::filesystem::path file;  ///< of kStatic
  bool operator==(const Identity&) const = default;
};

enum class SinkKind { kDryRun, kFile, kXds, kIstio };
struct Sink {
  SinkKind kind = SinkKind::kDryRun;
  std::string target;  ///< the path of kFile, the address of kXds
  bool operator==(const Sink&) const = default;
};

struct Kubernetes {
  std::string server;
  std::filesystem::path ca_file;
  std::filesystem::path token_file;
  std::string node;
  std::string ns = "ballast-system";
  std::string lease = "ballast-leader";
  int lease_duration_s = 10;
  std::string cluster_domain = "cluster.local";
  double weights_per_s = 50;
  bool operator==(const Kubernetes&) const = default;
};

enum class Mode { kOff, kShadow, kActive };
enum class PolicyKind { kNeutral, kPrior, kLearned };

struct Policy {
  PolicyKind kind = PolicyKind::kLearned;
  std::filesystem::path parameters;
  bool operator==(const Policy&) const = default;
};

struct Spans {
  int every = 0;
  std::string otlp;  ///< URL; empty: off
  bool operator==(const Spans&) const = default;
};

struct Fleet {
  std::string remote;
  std::string node;
  int interval_ms = 500;
  double max_age_s = 5.0;
  std::filesystem::path tls_cert;
  std::filesystem::path tls_key;
  std::filesystem::path tls_ca;
  std::string server_name;
  bool operator==(const Fleet&) const = default;
};

struct Learner {
  std::string socket;         ///< path without "unix:"; empty: off
  double exploration = 0.01;  ///< its steps add up: at 0.05 they walked a weight by a quarter in a minute
  double temperature = 1.0;
  int rollout_steps = 20;
  double margin = 1.5;
  bool operator==(const Learner&) const = default;
};

struct Guard {
  double floor = 0.1;
  double cap = 4.0;
  double max_step = 0.7;
  double deadband = 0.05;
  double stale_after_s = 2.0;
  double neutral_after_s = 10.0;
  double blend = 1.0;
  double trip_ratio = 1.5;
  int trip_windows = 3;
  double window_s = 5.0;
  bool operator==(const Guard&) const = default;
};

struct Gate {
  double leave_ratio = 10.0;
  double return_ratio = 6.0;
  double leave_spread = 0.10;
  double return_spread = 0.05;
  int leave_ticks = 2;
  int return_ticks = 8;
  bool single_subscriber_leaves = true;
  double level_spread = 0.10;
  bool operator==(const Gate&) const = default;
};

struct Prior {
  double time_constant_s = 2.0;
  double confirm_step = 0.15;
  double immediate_step = 0.25;
  double square_root = 0;
  bool operator==(const Prior&) const = default;
};

struct Reward {
  double p50 = 1.0;
  double p99 = 0.5;
  double errors = 10.0;
  double imbalance = 0.5;
  double churn = 1.0;
  bool operator==(const Reward&) const = default;
};

struct Config {
  std::filesystem::path bpffs = "/sys/fs/bpf/ballast";
  Identity identity;
  Sink sink;
  Mode mode = Mode::kOff;
  int tick_ms = 250;
  double window_s = 5.0;
  std::filesystem::path cgroup_root;
  std::string log = "info";
  std::string metrics;
  Kubernetes kubernetes;
  Spans spans;
  Fleet fleet;
  Policy policy;
  Learner learner;
  Guard guard;
  Gate gate;
  Prior prior;
  Reward reward;
  bool operator==(const Config&) const = default;
};

/// A flag that overrides a key of the file, e.g. {"--mode", "mode", "active"}.
struct Override {
  std::string flag;
  std::string key;  ///< one of the scalar keys, dotted: "policy.name"
  std::string value;
};

/// The defaults, then the file (none: defaults alone), then the flags. Every error is kUsage and
/// reads "FILE:LINE: KEY: what is wrong, and what to do", or "--flag: ...". Unknown and doubled
/// keys, wrong types, values out of range, files that do not exist and what is not built yet are
/// errors. Touches nothing but the files named.
Result<Config> load(const std::optional<std::filesystem::path>& file, const std::vector<Override>& flags);

/// The configuration as a YAML file that load() reads back as the same Config.
std::string to_yaml(const Config& config);

const char* mode_name(Mode mode);
const char* policy_name(PolicyKind kind);

}  // namespace ballast::config
