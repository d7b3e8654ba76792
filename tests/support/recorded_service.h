// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <vector>

#include "agent/decide/queue_rule.h"
#include "agent/decide/recorder.h"
#include "model/sim/agent_controller.h"
#include "model/sim/simulation.h"

namespace ballast::twin {

inline constexpr sim::LoopOptions kIstio{1.1, 0.12};

/// Pods that lose their CPU for six ticks at random times: level and neutral to the strong rule.
inline sim::Scenario bouts(double seconds) {
  sim::Scenario world;
  world.clients = 10;
  world.service = {.mean_s = 0.02, .cv = 1};
  world.servers.assign(6, {.speed = 1});
  world.arrivals.rho = 0.6;
  world.slowness.push_back(
      {.kind = sim::Slowness::Kind::kPause, .factor = 0.3, .every_s = 26, .duration_s = 6.6});
  world.duration_s = seconds;
  world.overload = true;
  return world;
}

/// What an agent under queue_rule records of it.
inline std::vector<spec::RecordedTick> recording(const sim::Scenario& world, std::uint64_t seed) {
  std::vector<spec::RecordedTick> ticks;
  const auto recorded = sim::agent_technique("recorded", "", [&ticks] {
    return std::make_unique<decide::Recorder>(std::make_unique<decide::QueueRule>(),
                                              [&ticks](const auto& tick) { ticks.push_back(tick); });
  });
  sim::Simulation(world, recorded, seed, kIstio).run();
  return ticks;
}

}  // namespace ballast::twin
