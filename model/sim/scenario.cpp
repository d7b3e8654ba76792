// SPDX-License-Identifier: Apache-2.0
#include "model/sim/scenario.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <set>

#include "model/sim/arrivals.h"

namespace ballast::sim {
namespace {

/// What is left of one server's capacity while it is slow.
double left_while_slow(const Slowness& slow, const ServerSpec& server, const Scenario& scenario) {
  const bool io = slow.shows == Slowness::Shows::kIo;
  if (scenario.wait.mean_s <= 0 || !holds_workers(server, scenario.discipline)) {
    return io ? 1 : slow.factor;
  }
  if (slow.factor <= 0) {
    return 0;
  }
  return (io ? carried_work(server, scenario, 1, 1 / slow.factor)
             : carried_work(server, scenario, slow.factor)) /
         carried_work(server, scenario);
}

/// The servers that slowness may touch: their part of the capacity of all, and what is left of it meanwhile.
struct Touched {
  double share = 0;
  double left = 1;
};
Touched touched_by(const Slowness& slow, const Scenario& scenario) {
  double all = 0, touched = 0, left = 0;
  for (std::size_t i = 0; i < scenario.servers.size(); ++i) {
    // Of the first one's, so that servers that are alike count 1 each, to the last bit.
    const double capacity =
        carried_work(scenario.servers[i], scenario) / carried_work(scenario.servers.front(), scenario);
    all += capacity;
    if (slow.servers.empty() ||
        std::find(slow.servers.begin(), slow.servers.end(), i) != slow.servers.end()) {
      touched += capacity;
      left += capacity * left_while_slow(slow, scenario.servers[i], scenario);
    }
  }
  // Without waiting the same is left of each.
  return {touched / all, scenario.wait.mean_s > 0 && touched > 0
                             ? left / touched
                             : left_while_slow(slow, scenario.servers.front(), scenario)};
}

/// Share of all servers' capacity that rotating slowness, pauses or periods leave, averaged over time.
double mean_factor(const Slowness& slow, const Scenario& scenario, double duration) {
  const double until = slow.until_s > 0 ? std::min(slow.until_s, duration) : duration;
  const double active = duration > 0 ? std::clamp((until - slow.at_s) / duration, 0.0, 1.0) : 1.0;
  auto [share, factor] = touched_by(slow, scenario);
  if (slow.kind == Slowness::Kind::kRotate) {
    share = static_cast<double>(slow.count) / static_cast<double>(scenario.servers.size());
  } else if (slow.kind == Slowness::Kind::kPeriodic) {
    factor = 1 - (1 - factor) * slow.duration_s / slow.every_s;
  } else {
    factor = 1 - (1 - factor) * slow.duration_s / (slow.duration_s + slow.every_s);
  }
  return 1 - active * share * (1 - factor);
}

double static_capacity(const Scenario& scenario) {
  double sum = 0;
  for (const auto& server : scenario.servers) {
    sum += carried_work(server, scenario);
  }
  return sum;
}

bool holds(const Slowness& slow, std::size_t server, double at_s) {
  return at_s >= slow.at_s && (slow.until_s <= 0 || at_s < slow.until_s) &&
         (slow.servers.empty() ||
          std::find(slow.servers.begin(), slow.servers.end(), server) != slow.servers.end());
}

/// What the slowness that is set by hand leaves of each server, summed at one time.
double set_capacity(const Scenario& scenario, double at_s) {
  double sum = 0;
  for (std::size_t server = 0; server < scenario.servers.size(); ++server) {
    double capacity = carried_work(scenario.servers[server], scenario);
    for (const auto& slow : scenario.slowness) {
      if (slow.kind == Slowness::Kind::kSet && holds(slow, server, at_s)) {
        capacity *= left_while_slow(slow, scenario.servers[server], scenario);
      }
    }
    sum += capacity;
  }
  return sum;
}

double capacity_over(const Scenario& scenario, double duration) {
  std::set<double> edges;
  double rest = 1;
  for (const auto& slow : scenario.slowness) {
    if (slow.kind == Slowness::Kind::kSet) {
      edges.insert({0, std::min(slow.at_s, duration), duration});
      edges.insert(slow.until_s > 0 ? std::min(slow.until_s, duration) : duration);
    } else {
      rest *= mean_factor(slow, scenario, duration);
    }
  }
  if (edges.size() < 2) {
    return set_capacity(scenario, 0) * rest;
  }
  double work = 0;
  for (auto to = std::next(edges.begin()); to != edges.end(); ++to) {
    const double from = *std::prev(to);
    work += set_capacity(scenario, from) * (*to - from);
  }
  return work / duration * rest;
}

}  // namespace

bool holds_workers(const ServerSpec& server, Discipline discipline) {
  return discipline == Discipline::kFifo || server.serial;
}

double carried_work(const ServerSpec& server, const Scenario& scenario, double speed, double wait) {
  if (scenario.wait.mean_s <= 0 || !holds_workers(server, scenario.discipline)) {
    return server.capacity() * speed;
  }
  const double work = mean_work(scenario.service);
  return server.workers * work /
         (work / (server.speed * speed) + scenario.wait.mean_s * server.wait_factor * wait);
}

double mean_capacity(const Scenario& scenario) {
  if (scenario.duration_s > 0) {
    return capacity_over(scenario, scenario.duration_s);
  }
  // With the length given in requests, the length in seconds follows from a rate that follows
  // from the capacity; one step from the unslowed length is close enough for slowness that ends.
  const double per_second =
      scenario.arrivals.rate_rps > 0
          ? scenario.arrivals.rate_rps
          : scenario.arrivals.rho * static_capacity(scenario) / mean_work(scenario.service);
  return capacity_over(scenario, per_second > 0 ? static_cast<double>(scenario.requests) / per_second : 0);
}

double base_rate(const Scenario& scenario) {
  if (!scenario.arrivals.trace_s.empty()) {
    return static_cast<double>(scenario.arrivals.trace_s.size()) /
           std::max(scenario.arrivals.trace_s.back(), 1e-9);
  }
  if (scenario.arrivals.rate_rps > 0) {
    return scenario.arrivals.rate_rps;
  }
  return scenario.arrivals.rho * mean_capacity(scenario) / mean_work(scenario.service);
}

double mean_envelope(const Scenario& scenario) {
  const auto& a = scenario.arrivals;
  if (a.steps.empty() && a.ramp.empty() && a.spikes.empty() && a.diurnal_period_s == 0) {
    return 1;
  }
  const double rate = base_rate(scenario);
  const double duration =
      scenario.duration_s > 0 ? scenario.duration_s : static_cast<double>(scenario.requests) / rate;
  constexpr int kSteps = 2000;
  double sum = 0;
  for (int i = 0; i < kSteps; ++i) {
    sum += envelope(a, (i + 0.5) * duration / kSteps);
  }
  return sum / kSteps;
}

double expected_duration(const Scenario& scenario) {
  if (scenario.duration_s > 0) {
    return scenario.duration_s;
  }
  return static_cast<double>(scenario.requests) / (base_rate(scenario) * mean_envelope(scenario));
}

double mean_load(const Scenario& scenario) {
  return base_rate(scenario) * mean_envelope(scenario) * mean_work(scenario.service) /
         mean_capacity(scenario);
}

}  // namespace ballast::sim
