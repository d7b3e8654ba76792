// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/actuate/sink.h"
#include "agent/decide/rollout.h"
#include "agent/export/prometheus_exporter.h"
#include "agent/export/route_stats.h"
#include "agent/export/state_writer.h"
#include "agent/fleet/fleet.h"
#include "agent/guard/guard.h"
#include "agent/identity/identity.h"
#include "agent/loop/acting_policy.h"
#include "agent/loop/handover.h"
#include "agent/observe/observer.h"
#include "agent/sample/sample.h"
#include "agent/turn/turn.h"
#include "core/base/result.h"
#include "core/observe/reward.h"
#include "model/sync/rollouts/rollout_server.h"

namespace ballast::loop {

struct LoopOptions {
  std::chrono::milliseconds tick{250};
  guard::Mode mode = guard::Mode::kOff;
  observe::ObserverOptions observer;
  guard::GuardOptions guard;
  spec::RewardWeights reward;
  std::size_t rollout_steps = decide::RolloutRecorder::kDefaultSteps;
};

/// What the loop leads to. Only identity and sink have to be there; without a fleet this node is all.
struct LoopDoors {
  std::unique_ptr<identity::IdentitySource> identity;
  std::unique_ptr<actuate::WeightSink> sink;
  std::optional<telemetry::StateWriter> state;
  std::unique_ptr<telemetry::PrometheusExporter> metrics;
  std::unique_ptr<sync::RolloutServer> learner;
  std::unique_ptr<fleet::Fleet> fleet;
};

/// One turn of the way of the data a tick. Not thread-safe.
class Loop {
 public:
  Loop(const LoopOptions& options, ActingPolicy policy, LoopDoors doors);

  /// From a sample to the sink. What fails on the way is logged when it begins and when it ends,
  /// and does not stop the loop: weights that a sink refused are tried again in the next tick.
  void tick(const sample::Sample& sample);
  /// A tick that could not be measured: what was measured before grows older, until the guard lets go of the
  /// weights made of it. No sign of life: where it lasts, a restart may help.
  void miss(const Error& why, MonotonicNs now);

  /// None where none are configured.
  telemetry::PrometheusExporter* metrics() { return doors_.metrics.get(); }
  /// What became of sampled spans, and what they tell of routes and users, for the metrics. `routes`: null
  /// where nothing is new.
  void observe_spans(const telemetry::OtlpCounts& counts, std::uint64_t lost,
                     const telemetry::RouteStats* routes);

  /// Parameters from the operator; see ActingPolicy::replace(). Logged either way.
  void reload(const std::string& origin, const Result<std::string>& bytes);

  /// Equal weights for all services; returns when they have left (WeightSink::flush). The last call.
  void release();

  const ActingPolicy& policy() const { return policy_; }
  /// Who is known now.
  const std::vector<identity::Pod>& pods() { return doors_.identity->pods(); }

 private:
  struct Service {
    std::map<spec::EndpointId, double> log_weights;
    observe::RunningReference reference;
    double churn = 0;  ///< sum of |delta log w| that the last tick brought
  };

  void turn(const sample::Sample& sample, bool measured);
  void take_parameters();
  spec::LoopTiming timing(MonotonicNs now) const;
  void learn(Service& service, const turn::Decision& decision, const spec::LoopTiming& now);
  void hand_over(turn::Decision& decision);
  void take_from_sink(const spec::ServiceId& id);
  void withdraw_again(const std::vector<turn::Decision>& decisions);
  void withdraw(const spec::ServiceId& id);
  void write_state(const std::vector<identity::Pod>& pods, const std::vector<turn::Decision>& decisions,
                   const spec::LoopTiming& now, bool lives = true);
  /// Keeps what of the telemetry was not believed, for a minute after the last time.
  void doubt(MonotonicNs now);
  std::string trouble() const;
  void complain(const std::string& what, const Status& status);

  LoopOptions options_;
  ActingPolicy policy_;
  LoopDoors doors_;
  Handover handover_;
  observe::Observer observer_;
  std::string disbelieved_;
  MonotonicNs disbelieved_at_ = 0;
  turn::Turn turn_;
  decide::RolloutRecorder recorder_;
  std::map<spec::ServiceId, Service> services_;
  std::set<spec::ServiceId> to_withdraw_;          ///< that the sink refused to withdraw
  std::map<std::string, std::string> complaints_;  ///< what fails now, and the last reason
};

}  // namespace ballast::loop
