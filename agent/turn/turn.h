// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <vector>

#include "agent/decide/policy.h"
#include "agent/fleet/fleet.h"
#include "agent/guard/guard.h"
#include "agent/turn/decision.h"
#include "core/spec/telemetry.h"

namespace ballast::turn {

/// What an operator said about a Service itself.
using WordOf = std::function<guard::Word(const spec::ServiceId&)>;

/// The one turn from telemetry and the fleet's view to guarded weights, for the agent's loop, the simulator
/// and the learner's environment alike. It measures nothing, waits for nobody and writes nothing: the same
/// calls give the same weights.
///
///   services = fleet.exchange(turn.report(telemetry, loop, writes));
///   decisions = turn.decide(std::move(services), loop, policy);
///
/// or, where something else than a policy proposes, observe() and act() in the place of decide().
///
/// Owns the offsets: a policy moves them by what it proposes, and finds them in its next observation. Not
/// thread-safe.
class Turn {
 public:
  explicit Turn(const guard::GuardOptions& options) : guard_(options) {}

  /// This node's endpoints of this tick, with the offsets that are in force.
  fleet::LocalReport report(std::vector<spec::EndpointTelemetry> own, const spec::LoopTiming& loop,
                            bool writes = true) const;

  /// What a policy sees of each service, in order.
  const std::vector<spec::ServiceObservation>& observe(std::vector<fleet::Service> services,
                                                       const spec::LoopTiming& loop);
  /// A proposal for each service that observe() gave, in its order. Of another node's endpoints what that
  /// node decided holds. In order of service; those that were there before and are not now among them.
  std::vector<Decision> act(std::vector<decide::ServiceProposal> proposals, const WordOf& word_of = {});

  std::vector<Decision> decide(std::vector<fleet::Service> services, const spec::LoopTiming& loop,
                               decide::Policy& policy, const WordOf& word_of = {});

  /// Equal weights for all services that are in force, at shutdown.
  std::vector<Decision> release();

 private:
  struct Offset {
    double kept = 0;      ///< from which the policy moves
    double in_force = 0;  ///< 0 while the endpoint is not measured or its service level
  };
  using Offsets = std::map<spec::EndpointId, Offset>;
  guard::GuardedWeights apply(const fleet::Service& service, const decide::ServiceProposal& proposal,
                              const WordOf& word_of);

  guard::Guard guard_;
  std::map<spec::ServiceId, Offsets> offsets_;
  spec::LoopTiming loop_;
  std::vector<fleet::Service> services_;                ///< of the tick that observe() began
  std::vector<spec::ServiceObservation> observations_;  ///< parallel to services_
};

}  // namespace ballast::turn
