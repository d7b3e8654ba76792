// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "agent/decide/policy.h"
#include "agent/guard/guard.h"
#include "model/sim/policy.h"

namespace ballast::sim {

/// A weight controller that is the agent itself: simulated kernel samples go through the rooms that
/// ballastd and ballast-global run (observe, fleet, decide, guard), in the order of agent/loop, and
/// the guarded weights are the push. Nothing here decides anything.
std::unique_ptr<Controller> make_agent_controller(std::unique_ptr<decide::Policy> policy,
                                                  const LoopOptions& loop, std::size_t subscribers,
                                                  const guard::GuardOptions& guard = {});

/// Such a controller over Envoy's LEAST_REQUEST. `make` is called once a run.
Policy agent_policy(std::string name, std::string rule,
                    std::function<std::unique_ptr<decide::Policy>()> make);

/// `ballast` acting with this network; null: untrained, which is the prior.
Policy ballast_policy(std::shared_ptr<const decide::ActorNetwork> network);

}  // namespace ballast::sim
