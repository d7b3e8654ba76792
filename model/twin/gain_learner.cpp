// SPDX-License-Identifier: Apache-2.0
#include "model/twin/gain_learner.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <functional>
#include <numeric>
#include <optional>
#include <random>

#include "agent/decide/forecast_rule.h"
#include "core/spec/reward.h"
#include "model/sim/agent_controller.h"
#include "model/sim/metrics.h"
#include "model/sim/simulation.h"

namespace ballast::twin {
namespace {

constexpr std::size_t kState = 3 + spec::kGains;  ///< 1, load, slowed pods, gains in force
using State = std::array<double, kState>;

struct Block {
  State state{};
  std::array<double, spec::kGains> noise{};  ///< of the action, in deviations
  double cost = 0;
};
using Run = std::vector<Block>;

double imbalance_of(const std::vector<sim::ServerTelemetry>& telemetry) {
  double sum = 0;
  double squares = 0;
  double n = 0;
  for (const auto& each : telemetry) {
    if (each.known && each.interval_s > 0 && each.limit_cores > 0) {
      const double used = each.on_cpu_s / each.interval_s / each.limit_cores;
      sum += used;
      squares += used * used;
      ++n;
    }
  }
  const double mean = n > 0 ? sum / n : 0;
  return mean > 0 ? std::sqrt(std::max(0.0, squares / n - mean * mean)) / mean : 0;
}

/// One replay of the trace. `act` gives the gains of the next block and fills its noise.
Run replay(const Twin& twin, std::uint64_t seed, const Theta& theta, const GainOptions& options,
           const std::function<spec::Gains(Block&)>& act) {
  sim::Simulation simulation(twin.scenario, sim::steered_technique(), seed, twin.loop);
  sim::AgentLoop loop(twin.loop, twin.scenario.clients);
  simulation.take_outcome();
  Run run;
  decide::ForecastRule policy(theta);
  spec::Gains gains{};
  std::vector<double> in_force;
  std::vector<float> latencies;
  spec::ServiceOutcome outcome;
  State state{};
  double errors = 0;
  double slowed = 0;
  double load = 0;
  double ticks = 0;
  const auto ticks_a_block = std::max(1.0, std::round(options.block_s / twin.loop.tick_s));
  Block block;
  const auto begin = [&] {
    state = {1, load, slowed};
    std::copy(gains.begin(), gains.end(), state.begin() + 3);
    block = {.state = state};
    gains = act(block);
    policy.rule().set_gains({{sim::kSimulated, gains}});
    latencies.clear();
    outcome = {};
    errors = slowed = load = ticks = 0;
  };
  for (double now = twin.loop.tick_s;; now += twin.loop.tick_s) {
    if (ticks == 0) {
      begin();
    }
    const bool goes_on = simulation.run_until(now);
    auto ended = simulation.take_outcome();
    latencies.insert(latencies.end(), ended.latencies.begin(), ended.latencies.end());
    errors += static_cast<double>(ended.errors);
    const auto servers = simulation.members();
    const auto telemetry = simulation.take_telemetry();
    outcome.imbalance += imbalance_of(telemetry) / ticks_a_block;
    if (const auto seen = loop.observe(now, servers, telemetry)) {
      for (const auto& endpoint : seen->endpoints) {
        const double part = 1.0 / static_cast<double>(seen->endpoints.size()) / ticks_a_block;
        slowed += endpoint.telemetry.speed < 0.9 ? part : 0;
        load += std::clamp(endpoint.telemetry.utilisation, 0.0, 2.0) * part;
      }
      if (const auto weights = loop.act(policy.decide(*seen, loop.timing()), servers)) {
        for (std::size_t i = 0; i < weights->size() && i < in_force.size(); ++i) {
          outcome.churn += std::abs(std::log(std::max((*weights)[i], 1e-3) / std::max(in_force[i], 1e-3)));
        }
        in_force = *weights;
        simulation.push_weights(servers, *weights);
      }
    }
    if (++ticks >= ticks_a_block || !goes_on) {
      if (!latencies.empty()) {
        const auto log_ms = [&](double q) {
          return std::log(std::max(1000 * sim::quantile(latencies, q), 1e-3));
        };
        outcome.log_p50 = log_ms(0.5);
        outcome.log_p99 = log_ms(0.99);
        outcome.error_rate = errors / static_cast<double>(latencies.size());
        outcome.churn /= ticks_a_block;
        block.cost = spec::cost(outcome, options.reward);
        run.push_back(block);
      }
      ticks = 0;
    }
    if (!goes_on) {
      return run;
    }
  }
}

double value(const std::array<double, kState>& critic, const State& state) {
  return std::inner_product(critic.begin(), critic.end(), state.begin(), 0.0);
}

}  // namespace

Result<GainReport> learn_gains(const Twin& twin, const Theta& theta, const GainOptions& options) {
  const auto began = std::chrono::steady_clock::now();
  const auto computing = [&] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  };
  GainReport report;
  spec::Gains mean{};
  spec::Gains sum{};
  double summed = 0;
  std::array<double, kState> critic{};
  std::mt19937_64 random(options.seed);
  std::normal_distribution<double> normal;
  std::vector<double> returns_seen;
  std::optional<SharedGains> shared;
  const auto take_shared = [&] {
    if (options.sharing.newest == nullptr) {
      return;
    }
    // Where nobody answers any more the steps go on from what there is.
    if (shared = options.sharing.newest(); shared) {
      mean = shared->gains;
      report.epoch = shared->epoch;
      report.version = shared->version;
    } else {
      report.epoch = report.version = 0;
    }
  };
  for (std::size_t update = 0; update < options.updates; ++update) {
    if (options.stopping() || (options.most_s > 0 && computing() > options.most_s)) {
      break;
    }
    take_shared();
    const double left = 1 - static_cast<double>(update) / static_cast<double>(options.updates);
    const double deviation = options.deviation * (1 + 2 * left) / 3;
    const std::uint64_t trace = options.seed * 100'003 + update;
    const Run rule = replay(twin, trace, theta, options, [](Block&) { return spec::Gains{}; });
    std::vector<Run> runs;
    for (std::size_t k = 0; k < options.replays; ++k) {
      runs.push_back(replay(twin, trace, theta, options, [&](Block& block) {
        spec::Gains gains;
        for (std::size_t i = 0; i < spec::kGains; ++i) {
          block.noise[i] = normal(random);
          gains[i] = std::clamp(mean[i] + deviation * block.noise[i], -1.0, 1.0);
        }
        return gains;
      }));
      report.simulated_s += twin.recorded_s;
    }
    std::size_t blocks = rule.size();
    for (const Run& run : runs) {
      blocks = std::min(blocks, run.size());
    }
    // The first block warms up under gains that are not its own.
    std::vector<std::vector<double>> advantage(runs.size(), std::vector<double>(blocks, 0));
    double all = 0;
    double count = 0;
    std::array<double, kState> step{};
    for (std::size_t k = 0; k < runs.size(); ++k) {
      for (std::size_t b = 1; b < blocks; ++b) {
        double ret = 0;
        double factor = 1;
        std::size_t j = b;
        for (; j < std::min(blocks, b + options.n_steps); ++j, factor *= options.gamma) {
          ret += factor * (rule[j].cost - runs[k][j].cost);
        }
        ret += j < blocks ? factor * value(critic, runs[k][j].state) : 0;
        advantage[k][b] = ret - value(critic, runs[k][b].state);
        all += ret;
        ++count;
        for (std::size_t s = 0; s < kState; ++s) {
          step[s] += advantage[k][b] * runs[k][b].state[s];
        }
      }
    }
    if (count == 0) {
      return Error::failed("the recording is shorter than two blocks: gains stay as they are");
    }
    for (std::size_t s = 0; s < kState; ++s) {
      critic[s] += options.critic_rate * step[s] / count;
    }
    double squares = 0;
    std::array<double, spec::kGains> gradient{};
    for (std::size_t b = 1; b < blocks; ++b) {
      double together = 0;
      for (const auto& of_run : advantage) {
        together += of_run[b];
      }
      for (std::size_t k = 0; k < runs.size(); ++k) {
        const double others = (together - advantage[k][b]) / static_cast<double>(runs.size() - 1);
        const double own = runs.size() > 1 && options.baseline ? advantage[k][b] - others : advantage[k][b];
        squares += own * own;
        for (std::size_t i = 0; i < spec::kGains; ++i) {
          gradient[i] += own * runs[k][b].noise[i];
        }
      }
    }
    const double scale = std::sqrt(squares / count);
    if (!std::isfinite(scale) || !std::isfinite(all)) {
      return Error::failed(
          fmt::format("a return is not finite in update {}: gains stay as they are", update));
    }
    if (shared && scale > 0) {
      spec::Gains loss{};
      for (std::size_t i = 0; i < spec::kGains; ++i) {
        loss[i] = -gradient[i] / count / scale;
      }
      options.sharing.push(*shared, loss, all / count);
    }
    for (std::size_t i = 0; i < spec::kGains && scale > 0 && !shared; ++i) {
      mean[i] =
          std::clamp(mean[i] + options.rate * left * deviation * gradient[i] / count / scale, -1.0, 1.0);
    }
    returns_seen.push_back(all / count);
    ++report.updates;
    if (2 * update >= options.updates) {  // Polyak's mean over the second half
      for (std::size_t i = 0; i < spec::kGains; ++i) {
        sum[i] += mean[i];
      }
      ++summed;
    }
  }
  take_shared();
  for (std::size_t i = 0; i < spec::kGains; ++i) {
    report.gains[i] = summed > 0 && !shared ? sum[i] / summed : mean[i];
  }
  const std::size_t part = std::max<std::size_t>(1, returns_seen.size() / 10);
  for (std::size_t i = 0; i < part && !returns_seen.empty(); ++i) {
    report.first_return += returns_seen[i] / static_cast<double>(part);
    report.last_return += returns_seen[returns_seen.size() - 1 - i] / static_cast<double>(part);
  }
  report.computing_s = computing();
  return report;
}

}  // namespace ballast::twin
