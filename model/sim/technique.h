// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "model/sim/balancer.h"
#include "model/sim/scenario.h"
#include "model/sim/telemetry.h"

namespace ballast::sim {

/// The loop of a weight controller.
struct LoopOptions {
  double tick_s = 0.25;
  double apply_delay_s = 0.15;  ///< from the decision to the weights in every proxy
};

/// Loops by name, as measured: `eds` (Ballast's own EDS server, ticks of 47 ms, 16 ms to every Envoy),
/// `istio_fast` (istiod without Envoy's merge window: 250 ms, 115 ms) and `istio` (Envoy's window of
/// 1 s: 1.1 s, 120 ms). Refused with the list of the known ones.
Result<LoopOptions> find_loop(const std::string& name);
/// Their names, the fastest first.
const std::vector<std::string>& loop_names();

/// A technique: what runs in the proxies, and what steers them, if anything.
struct Technique {
  std::string name;
  std::string rule;        ///< one line for people
  bool oracle = false;     ///< knows what no deployable balancer can know
  bool pooled = false;     ///< all servers are one
  bool foresight = false;  ///< the controller's weights arrive at once
  bool keyed = false;      ///< needs the requests' keys
  bool measured = false;   ///< needs telemetry or load reports of the servers
  std::function<Balancers(const Scenario&, std::span<const ClientView>)> make_balancers;
  /// Null: no controller.
  std::function<std::unique_ptr<Controller>(const Scenario&, const LoopOptions&)> make_controller;
};

/// LEAST_REQUEST over pushed weights without a controller: a learning environment steers it.
Technique steered_technique();

/// All techniques as `ballast-bench policies` lists them.
const std::vector<Technique>& techniques();

/// An unknown name is refused with the list of the known ones.
Result<const Technique*> find_technique(const std::string& name);

}  // namespace ballast::sim
