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
    sim::Simulation simulation(*scenario, *technique, options.seed, *loop);
    simulation.take_outcome();
    simulation.run(options.every_s, [&](double now) {
      auto latencies = simulation.take_outcome().latencies;
      if (latencies.empty()) {
        return;
      }
      const std::size_t count = latencies.size();
      const double p50 = 1000 * sim::quantile(latencies, 0.5);
      const double p99 = 1000 * sim::quantile(latencies, 0.99);
      table += fmt::format("{},{:.0f},{},{:.2f},{:.2f}\n", name, now / 60, count, p50, p99);
    });
  }
  return write_file_atomic(options.output, table);
}

}  // namespace ballast::bench
