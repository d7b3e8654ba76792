// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "model/sim/law.h"

namespace ballast::sim {

/// A world to balance in. The schema of the YAML form is tools/bench/scenarios/README.md.
/// Times are seconds since the start of the run unless the name says otherwise.

struct ServerSpec {
  double speed = 1;  ///< work a second of each worker
  /// Requests served at full speed at the same time. In FIFO a request holds its worker while it
  /// waits too (a thread, a connection of a pool); in processor sharing a waiting one holds none.
  std::uint32_t workers = 1;
  std::uint32_t zone = 0;
  double weight = 0;       ///< what a diligent operator would set; 0: carried_work()
  double limit = 0;        ///< the CPU limit that telemetry shows; 0: speed * workers
  bool serial = false;     ///< one request at a time, in order, whatever the discipline
  double wait_factor = 1;  ///< on the waiting of its requests: a slow zone, shard or backend
  double capacity() const { return speed * workers; }
  double shown_limit() const { return limit > 0 ? limit : capacity(); }
};

enum class Discipline { kProcessorSharing, kFifo };

/// What a request waits for outside the pod's CPU (a database, a downstream call), after its work:
/// lognormal. A mean of 0: nothing.
struct WaitSpec {
  double mean_s = 0;
  double cv = 1;
};

struct Point {
  double at_s = 0;
  double factor = 1;
};

struct Spike {
  double at_s = 0;
  double duration_s = 0;
  double factor = 1;
  double every_s = 0;  ///< 0: once
};

/// One state of a Markov-modulated Poisson process; the states are visited in turn.
struct MmppState {
  double factor = 1;
  double mean_s = 1;
};

/// Open-loop arrivals: rate * envelope(t), the envelope being the product of what is given.
struct ArrivalSpec {
  double rate_rps = 0;       ///< exactly one of rate_rps and rho is given
  double rho = 0;            ///< offered work / mean capacity of the servers that are there at the start
  std::vector<Point> steps;  ///< piecewise constant
  std::vector<Point> ramp;   ///< piecewise linear
  std::vector<Spike> spikes;
  double diurnal_period_s = 0;  ///< 0: none
  double diurnal_amplitude = 0;
  std::vector<MmppState> mmpp;  ///< factors are normalised to a mean of 1
  std::vector<double> trace_s;  ///< arrival times; empty: Poisson by the rate
};

/// A change of speed. What the scheduler shows decides whether an agent in the kernel can see it.
struct Slowness {
  enum class Kind { kSet, kRotate, kPause, kPeriodic };
  enum class Shows {
    kWait,  ///< another tenant takes the CPU: runnable wait
    kWork,  ///< the pod itself is slow: on-CPU without progress
    kIo,    ///< what its requests wait for is slow: they wait 1 / factor as long, off the CPU
  };
  Kind kind = Kind::kSet;
  Shows shows = Shows::kWait;
  double factor = 1;
  std::vector<std::uint32_t> servers;  ///< set, pause, periodic: which; empty: all
  std::uint32_t count = 0;             ///< rotate: how many at a time
  double every_s = 0;     ///< rotate, periodic: period; pause: mean time between pauses of one server
  double duration_s = 0;  ///< pause, periodic
  double phase_s = 0;     ///< periodic: of the first time, after at_s; all its servers together
  double jitter_s = 0;    ///< periodic: every time begins up to so much later, at random
  double stagger_s = 0;   ///< periodic: each of `servers` so much after the one before
  double at_s = 0;
  double until_s = 0;  ///< 0: to the end
};

struct Fault {
  enum class Kind { kFastFail, kBlackHole };
  Kind kind = Kind::kFastFail;
  std::vector<std::uint32_t> servers;
  double at_s = 0;
  double until_s = 0;  ///< 0: to the end
  double probability = 1;
  double latency_s = 0.001;  ///< of a fast failure
};

struct Churn {
  double at_s = 0;
  std::vector<ServerSpec> add;
  std::vector<std::uint32_t> remove;  ///< by index, in order of appearance
  double cold_factor = 1;             ///< cost of a request on a pod just added, over that on a warm one
  double cold_decay_s = 0;            ///< falls to 1 in a straight line
};

/// What the weight controllers' telemetry suffers.
struct TelemetrySpec {
  double delay_s = 0;         ///< samples arrive that late
  double noise_cv = 0;        ///< lognormal factor on every measured amount
  double loss = 0;            ///< share of samples that never arrive
  double zeros = 0;           ///< share of samples that read zero
  double frozen_from_s = -1;  ///< the same sample over and over; negative: never
  double dead_from_s = -1;    ///< the controller itself is gone; negative: never
  /// After a controller's death, until its weights end (fail open: another takes the Lease, or proxies let
  /// them lapse); 0: nothing ends them.
  double lease_s = 15;
  double tick_s = 0;  ///< the controller's tick where the scenario fixes it; 0: the run's
};

struct Scenario {
  std::string name;
  std::string title;
  std::uint64_t requests = 0;  ///< length of the run: either this
  double duration_s = 0;       ///< or this
  double warmup_s = 0;         ///< requests that arrive before are not counted
  std::uint32_t clients = 1;   ///< independent proxies, requests spread evenly at random
  Discipline discipline = Discipline::kProcessorSharing;
  std::vector<ServerSpec> servers;
  LawSpec service;
  WaitSpec wait;
  ArrivalSpec arrivals;
  double deadline_s = 0;     ///< of a request with all its tries; 0: none
  double try_timeout_s = 0;  ///< of one try; 0: none
  std::uint32_t retries = 0;
  double backoff_s = 0.025;
  bool cancel = false;    ///< a server stops working on what a client gave up
  bool overload = false;  ///< load >= 1 without a deadline is meant
  std::vector<Slowness> slowness;
  std::vector<Fault> faults;
  std::vector<Churn> churn;
  std::vector<std::vector<double>> zone_delay_s;  ///< round trip added, [client's zone][server's]
  std::uint32_t sources = 1000;                   ///< users behind the clients (ring_hash's key)
  std::uint32_t paths = 200;  ///< request destinations (maglev's key), popularity ~ 1/rank
  double eds_delay_s = 0.1;   ///< from a membership change to the proxies
  TelemetrySpec telemetry;
};

/// Does a request hold one of the server's workers while it waits?
bool holds_workers(const ServerSpec& server, Discipline discipline);
/// Work a second that a server carries at most, whichever of CPU, workers and serial part is least:
/// with waiting that holds workers, workers / (mean work / speed + mean wait * wait_factor) requests.
/// `speed` and `wait` are factors on its speed and on its waiting.
double carried_work(const ServerSpec& server, const Scenario& scenario, double speed = 1, double wait = 1);
/// Work a second that the servers at the start can do, slowness averaged over the run's length.
double mean_capacity(const Scenario& scenario);
/// Base rate of arrivals (envelope 1), requests a second.
double base_rate(const Scenario& scenario);
/// Mean of the envelope over the run.
double mean_envelope(const Scenario& scenario);
/// Length of the run in seconds: given, or requests over the mean rate.
double expected_duration(const Scenario& scenario);
/// Offered work over capacity, averaged over the run.
double mean_load(const Scenario& scenario);

/// Parses one scenario. `file` stands in the errors: "FILE:LINE: KEY: what is wrong". `variant`
/// names an entry of the file's `variants`, whose keys replace those of the base; empty: none.
/// Refuses unknown keys, values out of range, and a mean load >= 1 without a deadline unless
/// `overload: true`. Paths in the file are relative to the file's folder.
Result<Scenario> parse_scenario(const std::string& text, const std::string& file,
                                const std::string& variant = "");
/// Names of the variants in the order of the file.
Result<std::vector<std::string>> scenario_variants(const std::string& text, const std::string& file);

struct BuiltinScenario {
  std::string name;
  std::string file;
  std::string text;
};
/// tools/bench/scenarios/*.yaml, compiled in, in order of their file names.
const std::vector<BuiltinScenario>& builtin_scenarios();

/// A world drawn at random, of every kind: CPU, single threads, pools, things outside; equal or not, slow
/// at times or not, limits that lie or not. `random:SEED` for load_scenario().
Scenario random_world(std::uint64_t seed);

/// A world to learn forecasts in: `habit:SEED` for load_scenario(). Pods slow at times, by habit, by a loose
/// one or by none. Periods, phases and durations are drawn; no period is near one of a built-in scenario.
Scenario habit_world(std::uint64_t seed);

/// NAME, NAME:VARIANT, FILE, FILE:VARIANT, random:SEED or habit:SEED. An unknown one is refused with the list
/// of names.
Result<Scenario> load_scenario(const std::string& reference);

}  // namespace ballast::sim
