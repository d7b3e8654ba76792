// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/result.h"

/// What one experiment is: pods, their quotas, the load and what happens to them. A YAML file:
///
///   about: one sentence                     # required
///   namespace: shop                         # default
///   service: web                            # default
///   period_ms: 20                           # CPU quota period, 1..1000
///   server: ps                              # ps: a thread a connection | fifo: `workers` at a time
///   demand: {mean_ms: 2, sigma: 0.8}        # lognormal CPU time a request ...
///                                           # ... then waiting off the CPU: wait_ms: 0, wait_sigma: 0.5
///   load: 0.70                              # offered over what the pods carry at most, 0.01..2: their
///                                           # quotas, or fewer where workers (held while waiting) run out
///   sessions: 256                           # distinct x-session headers (ring_hash, maglev)
///   warmup_s: 10                            # load before the measured window
///   tick_ms: 250                            # of ballastd
///   learner: false                          # ballast-learner and ballast-global beside `ballast`
///   exploration: 0.01                       # of the learned policy while it acts for the learner
///   pods:                                   # required, at least one
///     - {name: web-0, quota: 0.4}           # quota in CPUs; workers: 1 (fifo), wait_factor: 1
///   tenants:                                # burn a pod's own quota on a schedule, in a cgroup below it
///     - {pod: web-0, every_s: 7.3, burn_s: 1.1, phase_s: 0, cores: 1}
///   events:                                 # at_s counts from the start of the measured window
///     - {at_s: 10, set_quota: web-0, quota: 0.2}
///     - {at_s: 10, kill_pod: web-3}         # SIGKILL; its endpoint leaves the service at once
///     - {at_s: 12, add_pod: web-4, quota: 0.1}
///     - {at_s: 15, kill: learner}           # SIGKILL of ballastd, learner, global or envoy ...
///     - {at_s: 16, stop: ballastd}          # ... SIGTERM of it ...
///     - {at_s: 18, restart: learner}        # ... and its start; an arm without it passes over all three
///
/// Every error is kUsage and reads "FILE:LINE: KEY: what is wrong".
namespace ballast::lab {

enum class ServerKind { kProcessorSharing, kFifo };

struct PodSpec {
  std::string name;
  double quota = 0;        ///< CPUs
  int workers = 1;         ///< of a FIFO pod: requests at a time, held while they wait
  double wait_factor = 1;  ///< on the waiting of its requests
};

/// What burns CPU beside a pod: for burn_s every every_s, first phase_s after the pod's start.
struct Tenant {
  std::string pod;
  double every_s = 0;
  double burn_s = 0;
  double phase_s = 0;
  int cores = 1;
};

enum class EventKind { kSetQuota, kKillPod, kAddPod, kKill, kStop, kRestart };

struct Event {
  double at_s = 0;
  EventKind kind = EventKind::kSetQuota;
  std::string target;  ///< pod, or one of ballastd, learner, global, envoy
  double quota = 0;    ///< of kSetQuota and kAddPod
};

struct Scenario {
  std::string name;
  std::string about;
  std::string ns = "shop";
  std::string service = "web";
  int period_ms = 20;
  ServerKind server = ServerKind::kProcessorSharing;
  double demand_mean_ms = 2.0;
  double demand_sigma = 0.8;
  double wait_ms = 0;  ///< mean; 0: none
  double wait_sigma = 0.5;
  double load = 0.70;
  int sessions = 256;
  double warmup_s = 10.0;
  int tick_ms = 250;
  bool learner = false;
  double exploration = 0.01;
  std::string forecast = {};  ///< file that the learner's global network begins with; empty: the shipped one
  std::vector<PodSpec> pods;
  std::vector<Tenant> tenants;
  std::vector<Event> events;  ///< in order of at_s

  /// Requests a second that a pod carries at most.
  double carried_rps(const PodSpec& pod) const;
  /// The same in CPU time a second, of all pods; the quotas where nothing else limits.
  double capacity_cores() const;
  /// Requests a second that are `load` of what the pods carry at the start.
  double rate() const { return load * capacity_cores() / (demand_mean_ms * 1e-3); }
};

/// `file` is what errors call the text.
Result<Scenario> parse_scenario(const std::string& text, const std::string& file);

/// A file, or the name of a built-in scenario.
Result<Scenario> load_scenario(const std::string& name_or_file);

/// The built-in scenarios by name.
Result<std::vector<Scenario>> builtin_scenarios();

/// Where the built-in ones lie: $BALLAST_SCENARIOS, else ../share/ballast/scenarios beside the binary.
std::filesystem::path scenario_dir();

}  // namespace ballast::lab
