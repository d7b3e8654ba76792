// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <limits>
#include <memory>
#include <queue>
#include <vector>

#include "model/sim/arrivals.h"
#include "model/sim/balancer.h"
#include "model/sim/law.h"
#include "model/sim/metrics.h"
#include "model/sim/min_tree.h"
#include "model/sim/scenario.h"
#include "model/sim/server.h"
#include "model/sim/technique.h"
#include "model/sim/telemetry.h"

namespace ballast::sim {

/// One run of one technique in one scenario, event by event. Same scenario, technique and seed: the same
/// run to the last bit; another technique with the same seed gets the same arrivals, works, clients,
/// keys and slowness.
///
/// run() does all of it. A learning environment drives it in steps instead: run_until(), then
/// take_telemetry() and push_weights() with what it has decided.
class Simulation final : public World {
 public:
  Simulation(const Scenario& scenario, const Technique& technique, std::uint64_t seed,
             const LoopOptions& loop = {});
  ~Simulation() override;
  Simulation(const Simulation&) = delete;
  Simulation& operator=(const Simulation&) = delete;

  Metrics run() { return run(std::numeric_limits<double>::infinity(), nullptr); }
  /// The same, and `look` is called with the time every `every_s` seconds of it; what it does may change
  /// nothing.
  Metrics run(double every_s, const std::function<void(double now_s)>& look);

  /// Handles every event up to and at `until`. False when the run is over: the last request has
  /// been answered or given up.
  bool run_until(double until);
  double now() const { return now_; }
  /// To be called once, after the last run_until().
  Metrics metrics();

  /// Servers that take traffic, in the order of pushed weights.
  std::vector<std::uint32_t> members() const;
  /// Each member's sample since the call before, with the scenario's faults of telemetry.
  std::vector<ServerTelemetry> take_telemetry();
  /// In every proxy after the loop's apply delay; one weight a member.
  void push_weights(const std::vector<std::uint32_t>& servers, const std::vector<double>& weights);
  /// Latencies in seconds of the requests that ended since the call before (failures as in
  /// Metrics), and how many of them failed. For the reward of a learning environment.
  struct Outcome {
    std::vector<float> latencies;
    std::uint64_t errors = 0;
  };
  Outcome take_outcome();

  double capacity(std::uint32_t server) const override;
  double in_flight(std::uint32_t server) const override;
  ProbeReply probe(std::uint32_t server) const override;
  LoadReport report(std::uint32_t server) const override;

 private:
  static constexpr std::uint32_t kNone = 0xFFFFFFFF;

  /// A request on its way through its tries.
  struct Request {
    double start = 0;
    double work = 0;
    double wait = 0;
    double sent = 0;
    Keys keys;
    std::uint32_t client = 0;
    std::uint32_t server = kNone;  ///< of the try that is out; kNone: waiting for the next try
    std::uint32_t tries = 0;
    std::uint32_t serial = 0;  ///< rises with every try and at the end
    std::uint32_t life = 0;    ///< rises at the end
    bool counted = true;
    bool alive = false;
  };
  /// A timeout that is the same for all requests: a queue is in order by itself.
  struct Timeout {
    double at;
    std::uint32_t slot;
    std::uint32_t number;
  };
  enum class Kind : std::uint32_t {
    kDeliver,   ///< a: slot, b: serial
    kReply,     ///< a: slot, b: serial, on: it is a success
    kRetry,     ///< a: slot, b: serial
    kRotate,    ///< a: slowness
    kSwitch,    ///< a: slowness, on
    kPause,     ///< a: slowness, b: server; begins or ends
    kPeriodic,  ///< a: slowness, b: server, on: it begins
    kCold,      ///< a: server
    kFault,     ///< a: fault, on
    kChurn,     ///< a: churn
    kEds,       ///< membership reaches the proxies
    kWeights,   ///< the oldest push reaches the proxies
    kControl,   ///< the controller's tick
    kLease,     ///< the lease of a dead controller has run out
    kReports,   ///< load reports are made anew
    kBalancer,  ///< a: client
  };
  struct Event {
    double at;
    std::uint64_t order;
    Kind kind;
    std::uint32_t a;
    std::uint32_t b;
    bool on;
    bool operator<(const Event& other) const {
      return at > other.at || (at == other.at && order > other.order);
    }
  };
  struct Pod {
    double share = 1;       ///< of the CPU, by slowness that shows as wait
    double efficiency = 1;  ///< by slowness that shows as work
    double wait_rate = 1;   ///< by slowness that shows as io
    bool present = false;
    double joined_s = 0;
    double left_s = -1;
    double cold_factor = 1;
    double cold_decay_s = 0;
    std::vector<std::uint32_t> faults;  ///< in force
    double busy_before = 0;             ///< at the end of the warm-up
    double busy_after = 0;              ///< at the last arrival
  };
  /// Counters of the telemetry, and what was read of them last.
  struct Counters {
    std::uint64_t requests = 0;
    std::uint64_t responses = 0;
    std::uint64_t errors = 0;
    double latency_sum_s = 0;
    std::array<std::uint64_t, BALLAST_HIST_BUCKETS> latency{};
    CpuTime cpu;
  };
  struct WeightPush {
    std::vector<std::uint32_t> servers;
    std::vector<double> weights;
  };

  // simulation.cpp: requests
  void schedule(double at, Kind kind, std::uint32_t a = 0, std::uint32_t b = 0, bool on = false);
  void arrive();
  void start_try(std::uint32_t slot);
  void deliver(std::uint32_t slot, std::uint32_t serial, std::uint32_t server);
  void complete(std::uint32_t place);
  void reply(std::uint32_t slot, std::uint32_t serial, bool ok);
  void try_ended(std::uint32_t slot, const Response& response);
  void try_timed_out(const Timeout& timeout);
  void deadline_passed(const Timeout& timeout);
  void give_up(std::uint32_t slot);
  void finish(std::uint32_t slot, bool ok);
  void record(double latency_s, bool ok, std::uint32_t client);
  void handle(const Event& event);
  void measure_use(Metrics& metrics) const;
  void measure_fairness(Metrics& metrics) const;
  double delay(std::uint32_t client, std::uint32_t server) const;

  // world.cpp: the servers' lives and what is told of them
  void start_world();
  void set_pod_speed(std::uint32_t server);
  void rotate_slowness(std::uint32_t index);
  void recur(std::uint32_t index, std::uint32_t server, bool on);
  double recurs_at(std::uint32_t index, std::uint32_t server) const;
  double carried(std::uint32_t server, const ServerSpec& spec) const;
  void switch_slowness(std::uint32_t index, bool on);
  void pause(std::uint32_t index, std::uint32_t server);
  void switch_fault(std::uint32_t index, bool on);
  void do_churn(std::uint32_t index);
  void join(std::uint32_t server);
  void publish_endpoints();
  void apply_weights();
  void control();
  void refresh_reports();
  ServerTelemetry measure(std::uint32_t server);
  void spoil(ServerTelemetry& sample);
  void touch(std::uint32_t server);  ///< the server's next completion has changed
  std::uint32_t place(std::uint32_t server) const { return technique_.pooled ? 0 : server; }
  bool has_fault(std::uint32_t server, Fault::Kind kind, double* latency_s);

  const Scenario scenario_;
  const Technique technique_;
  const LoopOptions loop_;
  std::uint64_t seed_;
  double now_ = 0;
  bool over_ = false;

  Arrivals arrivals_;
  Law law_, wait_law_;
  Rng sizes_, client_choice_, keys_, slowness_, faults_, telemetry_rng_, waits_;
  double next_arrival_ = 0;
  double last_arrival_ = 0;
  std::uint64_t arrived_ = 0;

  std::vector<Server> servers_;
  std::vector<Pod> pods_;
  MinTree completions_;
  std::vector<std::uint32_t> active_;  ///< [client][server]
  std::vector<ClientView> views_;
  Balancers balancers_;
  std::unique_ptr<Controller> controller_;
  std::vector<Endpoint> endpoints_;

  std::vector<Request> requests_;
  std::vector<std::uint32_t> free_;
  std::uint64_t alive_ = 0;
  std::deque<Timeout> deadlines_;
  std::deque<Timeout> try_timeouts_;
  std::priority_queue<Event> events_;
  std::uint64_t order_ = 0;

  std::vector<std::vector<bool>> slow_on_;            ///< [slowness][server]
  std::vector<std::vector<std::uint32_t>> recurred_;  ///< periodic: how often, [slowness][server]
  std::deque<WeightPush> pushes_;
  std::vector<Counters> counters_;
  std::vector<Counters> read_;      ///< by take_telemetry
  std::vector<Counters> reported_;  ///< by refresh_reports
  std::vector<LoadReport> reports_;
  std::vector<double> taken_;  ///< when take_telemetry read last
  std::deque<std::vector<ServerTelemetry>> delayed_;
  std::vector<ServerTelemetry> frozen_;
  std::uint64_t pushed_changes_ = 0;

  std::vector<float> latencies_;
  Outcome outcome_;
  bool collect_outcome_ = false;
  Metrics metrics_;
  std::vector<double> client_sum_;
  std::vector<std::uint64_t> client_count_;
  bool warm_ = false;
};

}  // namespace ballast::sim
