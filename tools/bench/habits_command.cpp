// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/habits_command.h"

#include <fmt/format.h>

#include <memory>
#include <utility>
#include <vector>

#include "agent/decide/forecast_rule.h"
#include "agent/decide/recorder.h"
#include "core/base/file.h"
#include "model/policy/forecast_file.h"
#include "model/policy/recording_file.h"
#include "model/sim/agent_controller.h"
#include "model/sim/scenario.h"
#include "model/sim/simulation.h"
#include "tools/bench/sim_command.h"

namespace ballast::bench {

Status run_habits(const HabitsOptions& options) {
  const auto worlds = parse_seeds(options.worlds);
  if (!worlds) {
    return worlds.error();
  }
  const auto istio = sim::find_loop("istio");
  const auto fast = sim::find_loop("istio_fast");
  if (!istio || !fast) {
    return Error::failed("a loop is gone");
  }
  constexpr sim::LoopOptions kEverySecond{.tick_s = 1.0, .apply_delay_s = 0.02};
  std::vector<spec::ForecastSample> samples;
  for (std::uint64_t world = worlds->first; world <= worlds->last; ++world) {
    decide::ForecastRule* rule = nullptr;
    const auto recorded = sim::agent_technique("recorded", "", [&rule] {
      auto made = std::make_unique<decide::ForecastRule>();
      rule = made.get();
      rule->take_samples();  // from now on
      return made;
    });
    const auto loop = world % 6 == 0 ? kEverySecond : world % 3 == 2 ? *fast : *istio;
    sim::Simulation simulation(sim::habit_world(world), recorded, world, loop);
    simulation.run();
    const auto taken = rule->take_samples();
    samples.insert(samples.end(), taken.begin(), taken.end());
  }
  fmt::print("{} samples of {} worlds\n", samples.size(), worlds->last - worlds->first + 1);
  return write_file_atomic(options.output, policy::serialize_samples(samples));
}

Status run_record(const RecordOptions& options) {
  auto scenario = sim::load_scenario(options.scenario);
  const auto loop = sim::find_loop(options.loop_name);
  auto theta = policy::parse_forecast(policy::shipped_forecast());
  if (!scenario || !loop || !theta) {
    return !scenario ? scenario.error() : !loop ? loop.error() : theta.error();
  }
  scenario->duration_s = options.seconds;
  scenario->requests = 0;
  std::string text = policy::recording_header(options.policy);
  // Without parameters forecast_rule is queue_rule to the last bit.
  const auto acting = options.policy == "queue_rule"
                          ? nullptr
                          : std::make_shared<const std::vector<float>>(std::move(*theta));
  const auto recorded = sim::agent_technique("recorded", "", [&] {
    return std::make_unique<decide::Recorder>(
        std::make_unique<decide::ForecastRule>(acting),
        [&text](const spec::RecordedTick& tick) { text += policy::recording_line(tick); });
  });
  sim::Simulation(*scenario, recorded, options.seed, *loop).run();
  return write_file_atomic(options.output, text);
}

}  // namespace ballast::bench
