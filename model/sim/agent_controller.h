// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "agent/decide/policy.h"
#include "agent/guard/guard.h"
#include "core/spec/actor_network.h"
#include "core/spec/gains.h"
#include "core/spec/telemetry.h"
#include "model/sim/technique.h"

namespace ballast::sim {

/// The agent's own turn (agent/turn) over simulated samples, a tick in two halves, so that what decides may
/// sit between them (a policy, or a learner that steps an environment): observe(), then act().
class AgentLoop {
 public:
  AgentLoop(const LoopOptions& loop, std::size_t subscribers, const guard::GuardOptions& guard = {});
  AgentLoop(AgentLoop&&) noexcept;
  AgentLoop& operator=(AgentLoop&&) noexcept;
  ~AgentLoop();

  /// What a policy sees of the service in this tick; nullopt when it has no endpoints.
  std::optional<spec::ServiceObservation> observe(double now_s, const std::vector<std::uint32_t>& servers,
                                                  const std::vector<ServerTelemetry>& telemetry);
  /// Of the tick that observe() began.
  const spec::LoopTiming& timing() const;
  /// Through fleet and guard: one weight a server, or nullopt when nothing is worth a push.
  std::optional<std::vector<double>> act(const decide::ServiceProposal& proposal,
                                         const std::vector<std::uint32_t>& servers);

 private:
  struct Rooms;
  std::unique_ptr<Rooms> rooms_;
};

/// A weight controller that is the agent itself: simulated kernel samples go through the rooms that
/// ballastd runs, and the guarded weights are the push. Nothing here decides anything.
std::unique_ptr<Controller> make_agent_controller(std::unique_ptr<decide::Policy> policy,
                                                  const LoopOptions& loop, std::size_t subscribers,
                                                  const guard::GuardOptions& guard = {});

/// Such a controller over Envoy's LEAST_REQUEST. `make` is called once a run.
Technique agent_technique(std::string name, std::string rule,
                          std::function<std::unique_ptr<decide::Policy>()> make);

/// Learned gains of the rule, a service; the simulator's is kSimulated.
using GainsByService = std::map<spec::ServiceId, spec::Gains>;
inline const spec::ServiceId kSimulated = {"sim", "service"};

/// `queue_rule` with gains.
Technique queue_rule_technique(GainsByService gains = {});

/// `forecast_rule` with these parameters of the forecast; null: queue_rule. `trusting`: without the judgement
/// of forecasts by what came.
Technique forecast_technique(std::shared_ptr<const std::vector<float>> theta, bool trusting = false,
                             GainsByService gains = {});

/// `ballast` acting with this network; null: untrained, which is the prior.
Technique learned_technique(std::shared_ptr<const spec::ActorNetwork> network);

}  // namespace ballast::sim
