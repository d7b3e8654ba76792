// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/life_command.h"

#include <fmt/format.h>

#include "core/base/file.h"
#include "model/sim/metrics.h"
#include "model/sim/simulation.h"
#include "tools/bench/sim_command.h"

namespace ballast::bench {

Status run_life(const LifeOptions& options) {
  const auto scenario = sim::load_scenario(options.scenario);
  const auto loop = sim::find_loop(options.loop_name);
  if (!scenario || !loop) {
    return scenario ? loop.error() : scenario.error();
  }
  std::string table = "policy,minute,requests,p50_ms,p99_ms\n";
  for (const auto& name : options.policies) {
    const auto technique = technique_named(name, "");
    if (!technique) {
      return technique.error();
    }
    // Stepped as run() would, so that the latencies of each stretch can be taken.
    const auto controller =
        technique->make_controller ? technique->make_controller(*scenario, *loop) : nullptr;
    sim::Technique steered = *technique;
    steered.make_controller = nullptr;
    sim::Simulation simulation(*scenario, steered, options.seed, *loop);
    simulation.take_outcome();
    std::vector<float> latencies;
    double until = options.every_s;
    bool goes_on = true;
    for (double now = loop->tick_s; goes_on; now += loop->tick_s) {
      goes_on = simulation.run_until(now);
      const auto ended = simulation.take_outcome();
      latencies.insert(latencies.end(), ended.latencies.begin(), ended.latencies.end());
      if (controller) {
        const auto servers = simulation.members();
        if (const auto weights = controller->tick(now, servers, simulation.take_telemetry())) {
          simulation.push_weights(servers, *weights);
        }
      }
      if (now >= until && !latencies.empty()) {
        const std::size_t count = latencies.size();
        const double p50 = 1000 * sim::quantile(latencies, 0.5);
        const double p99 = 1000 * sim::quantile(latencies, 0.99);
        table += fmt::format("{},{:.0f},{},{:.2f},{:.2f}\n", name, until / 60, count, p50, p99);
        latencies.clear();
        until += options.every_s;
      }
    }
  }
  return write_file_atomic(options.output, table);
}

}  // namespace ballast::bench
