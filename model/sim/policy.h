// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "model/sim/balancer.h"
#include "model/sim/scenario.h"
#include "model/sim/telemetry.h"

namespace ballast::sim {

/// The loop of a weight controller.
struct LoopOptions {
  double tick_s = 0.25;
  double apply_delay_s = 0.15;  ///< from the decision to the weights in every proxy
};

/// A technique: what runs in the proxies, and what steers them, if anything.
struct Policy {
  std::string name;
  std::string rule;       ///< one line for people
  bool oracle = false;    ///< knows what no deployable balancer can know
  bool pooled = false;    ///< all servers are one
  bool keyed = false;     ///< needs the requests' keys
  bool measured = false;  ///< needs telemetry or load reports of the servers
  std::function<Fleet(const Scenario&, std::span<const ClientView>)> make_fleet;
  /// Null: no controller.
  std::function<std::unique_ptr<Controller>(const Scenario&, const LoopOptions&)> make_controller;
};

/// LEAST_REQUEST over pushed weights without a controller: a learning environment steers it.
Policy steered_policy();

/// All techniques in the order of design section 10.
const std::vector<Policy>& policies();

/// An unknown name is refused with the list of the known ones.
Result<const Policy*> find_policy(const std::string& name);

}  // namespace ballast::sim
