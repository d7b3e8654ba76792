// SPDX-License-Identifier: Apache-2.0
#include "model/twin/twin.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <boost/math/distributions/students_t.hpp>
#include <cmath>
#include <iterator>
#include <limits>
#include <map>

#include "agent/decide/forecast_rule.h"
#include "agent/decide/recorder.h"
#include "core/spec/service_name.h"
#include "model/sim/agent_controller.h"
#include "model/sim/simulation.h"

namespace ballast::twin {
namespace {

constexpr double kFull = 0.97;     ///< of a speed: above, the pod is not slowed
constexpr double kStep = 0.05;     ///< speeds are kept to
constexpr double kEnvelopeS = 10;  ///< of which the arrivals' rate is the mean
constexpr double kGap = 1.5;       ///< ticks without one, from which on it is a gap
constexpr double kCpuBound = 0.9;  ///< running share above which the rest is no waiting
constexpr double kWarmUpS = 20;
constexpr std::array<double, 4> kSpreads = {0.5, 1, 1.6, 2.5};  ///< of the work: its coefficient of variation

std::vector<spec::RecordedTick> of_service(const std::vector<spec::RecordedTick>& all,
                                           const spec::ServiceId& service) {
  std::vector<spec::RecordedTick> ticks;
  for (const auto& tick : all) {
    // Times that go back are another clock's; what came before it is of no use for a habit.
    if (tick.service == service) {
      if (!ticks.empty() && tick.at_s <= ticks.back().at_s) {
        ticks.clear();
      }
      ticks.push_back(tick);
    }
  }
  return ticks;
}

double geometric(double sum_of_logs, double count) {
  return count > 0 ? std::exp(sum_of_logs / count) : 0;
}

struct Latencies {
  double p50 = 0, p99 = 0;
};

Latencies mean_of(const std::vector<spec::RecordedTick>& ticks) {
  double p50 = 0;
  double p99 = 0;
  double count = 0;
  for (const auto& tick : ticks) {
    if (tick.p50_ms > 0 && tick.p99_ms > 0) {
      p50 += std::log(tick.p50_ms);
      p99 += std::log(tick.p99_ms);
      ++count;
    }
  }
  return {geometric(p50, count), geometric(p99, count)};
}

std::unique_ptr<decide::Policy> rule_of(const Acting& acting) {
  auto rule = std::make_unique<decide::ForecastRule>(acting.theta);
  rule->rule().set_gains({{sim::kSimulated, acting.gains}});
  return rule;
}

Latencies recorded_in(const Twin& twin, const Acting& acted, std::uint64_t seed) {
  std::vector<spec::RecordedTick> ticks;
  const auto technique = sim::agent_technique("twin", "", [&] {
    return std::make_unique<decide::Recorder>(
        rule_of(acted), [&ticks](const spec::RecordedTick& tick) { ticks.push_back(tick); });
  });
  sim::Simulation(twin.scenario, technique, seed, twin.loop).run();
  return mean_of(ticks);
}

/// Runs of equal speed below kFull become a slowness each.
void add_slowness(sim::Scenario& world, const std::vector<std::vector<double>>& speeds, double tick_s) {
  for (std::uint32_t pod = 0; pod < speeds.size(); ++pod) {
    const auto& of_pod = speeds[pod];
    for (std::size_t begin = 0; begin < of_pod.size();) {
      std::size_t end = begin + 1;
      while (end < of_pod.size() && of_pod[end] == of_pod[begin]) {
        ++end;
      }
      if (of_pod[begin] < kFull) {
        sim::Slowness slow;
        slow.factor = of_pod[begin];
        slow.servers = {pod};
        slow.at_s = static_cast<double>(begin) * tick_s;
        slow.until_s = static_cast<double>(end) * tick_s;
        world.slowness.push_back(slow);
      }
      begin = end;
    }
  }
}

sim::ServerSpec server_of(double limit_cores) {
  sim::ServerSpec server;
  const double limit = std::clamp(limit_cores > 0 ? limit_cores : 1, 0.05, 256.0);
  server.workers = static_cast<std::uint32_t>(std::max(1.0, std::round(limit)));
  server.speed = limit / server.workers;
  return server;
}

}  // namespace

std::vector<spec::ServiceId> services_of(const std::vector<spec::RecordedTick>& ticks) {
  std::map<spec::ServiceId, double> requests;
  for (const auto& tick : ticks) {
    for (const auto& pod : tick.pods) {
      requests[tick.service] += pod.requests;
    }
  }
  std::vector<spec::ServiceId> services;
  for (const auto& [service, count] : requests) {
    services.push_back(service);
  }
  std::stable_sort(services.begin(), services.end(),
                   [&](const auto& a, const auto& b) { return requests[a] > requests[b]; });
  return services;
}

Result<Twin> build(const std::vector<spec::RecordedTick>& all, const spec::ServiceId& service,
                   const Acting& acted, const Twin* like) {
  const auto ticks = of_service(all, service);
  Twin twin;
  twin.service = service;
  if (ticks.empty()) {
    return Error::failed("nothing of " + to_string(service) + " is recorded");
  }
  const double tick_s = ticks.back().tick_s;
  twin.loop = {tick_s, std::max(0.0, ticks.back().delay_s - tick_s)};
  twin.recorded_s = static_cast<double>(ticks.size()) * tick_s;
  double lost = 0;
  for (std::size_t i = 1; i < ticks.size(); ++i) {
    const double apart = ticks[i].at_s - ticks[i - 1].at_s;
    if (apart > kGap * tick_s) {
      ++twin.gaps;
      lost += apart - tick_s;
    }
  }
  if (twin.gaps > 0) {
    twin.notes.push_back(fmt::format("{} gaps of {:.0f} s in all are cut out", twin.gaps, lost));
  }

  std::map<std::string, std::size_t> index;
  std::vector<double> limits;
  double cpu = 0;
  double rate = 0;
  double waiting = 0;
  double weight = 0;
  std::vector<double> arrivals(ticks.size());
  double in_all = 0;
  for (std::size_t i = 0; i < ticks.size(); ++i) {
    for (const auto& pod : ticks[i].pods) {
      const auto [at, fresh] = index.emplace(pod.pod, index.size());
      if (fresh) {
        limits.push_back(0);
      }
      limits[at->second] = pod.limit_cores > 0 ? pod.limit_cores : limits[at->second];
      cpu += pod.cpu_cores;
      rate += pod.qps;
      arrivals[i] += pod.requests;
      if (pod.running_share > 0 && pod.running_share < kCpuBound) {
        waiting += pod.requests * pod.p50_ms * (1 - pod.running_share);
      }
      weight += pod.requests;
    }
    in_all += arrivals[i];
  }
  if (twin.recorded_s < kLeastS || index.size() < 2 || !(cpu > 0) || !(rate > 0)) {
    return Error::failed(
        fmt::format("{:.0f} s of {} pods of {}/{} are recorded, {:.0f} s of two that take requests would be "
                    "the least: it "
                    "goes on as before",
                    twin.recorded_s, index.size(), service.ns, service.name, kLeastS));
  }
  std::vector<std::vector<double>> speeds(index.size(), std::vector<double>(ticks.size(), 1));
  for (std::size_t i = 0; i < ticks.size(); ++i) {
    for (const auto& pod : ticks[i].pods) {
      speeds[index[pod.pod]][i] = std::clamp(std::round(pod.speed / kStep) * kStep, kStep, 1.0);
    }
  }
  sim::Scenario& world = twin.scenario;
  world.name = "twin:" + to_string(service);
  world.title = "as recorded";
  world.duration_s = twin.recorded_s;
  world.warmup_s = std::min(kWarmUpS, twin.recorded_s / 4);
  world.clients = static_cast<std::uint32_t>(std::clamp<std::size_t>(ticks.back().proxies, 1, 1000));
  for (const double limit : limits) {
    world.servers.push_back(server_of(limit));
  }
  world.service.mean_s = cpu / rate;
  world.wait.mean_s = weight > 0 ? waiting / weight / 1000 : 0;
  world.arrivals.rate_rps = in_all / twin.recorded_s;
  const auto part = static_cast<std::size_t>(std::max(1.0, std::round(kEnvelopeS / tick_s)));
  for (std::size_t i = 0; i < ticks.size(); i += part) {
    const std::size_t end = std::min(ticks.size(), i + part);
    double sum = 0;
    for (std::size_t j = i; j < end; ++j) {
      sum += arrivals[j];
    }
    const double factor = sum / (static_cast<double>(end - i) * tick_s) / world.arrivals.rate_rps;
    world.arrivals.steps.push_back({static_cast<double>(i) * tick_s, std::max(factor, 0.01)});
  }
  world.overload = true;
  world.deadline_s = 30;
  add_slowness(world, speeds, tick_s);

  const Latencies happened = mean_of(ticks);
  twin.happened_p50_ms = happened.p50;
  twin.happened_p99_ms = happened.p99;
  double least = std::numeric_limits<double>::infinity();
  double best = 1;
  for (const double spread : like != nullptr ? std::vector<double>{like->scenario.service.cv}
                                             : std::vector<double>(kSpreads.begin(), kSpreads.end())) {
    world.service.cv = spread;
    const Latencies said = recorded_in(twin, acted, 1);
    const double off = std::abs(std::log(std::max(said.p99, 1e-6) / std::max(happened.p99, 1e-6)));
    if (off < least) {
      least = off;
      best = spread;
      twin.predicted_p50_ms = said.p50;
      twin.predicted_p99_ms = said.p99;
    }
  }
  world.service.cv = best;
  return twin;
}

Parts parts_of(const std::vector<spec::RecordedTick>& all, const spec::ServiceId& service) {
  auto ticks = of_service(all, service);
  const auto rest = ticks.begin() + static_cast<std::ptrdiff_t>(ticks.size() - ticks.size() / 3);
  Parts parts;
  parts.held_out.assign(std::make_move_iterator(rest), std::make_move_iterator(ticks.end()));
  ticks.erase(rest, ticks.end());
  parts.learned = std::move(ticks);
  return parts;
}

std::vector<spec::ForecastSample> samples_of(const std::vector<spec::RecordedTick>& all,
                                             const spec::ServiceId& service) {
  const auto ticks = of_service(all, service);
  std::vector<spec::ForecastSample> samples;
  auto rule = std::make_unique<decide::ForecastRule>();
  rule->take_samples();
  double before = 0;
  for (const auto& tick : ticks) {
    if (before > 0 && tick.at_s - before > kGap * tick.tick_s) {
      rule = std::make_unique<decide::ForecastRule>();  // what was before a gap says nothing of after it
      rule->take_samples();
    }
    before = tick.at_s;
    spec::ServiceObservation observation;
    observation.aggregate.service = tick.service;
    observation.aggregate.endpoints = observation.aggregate.known = tick.pods.size();
    decide::LoopContext loop;
    loop.now = static_cast<MonotonicNs>(tick.at_s * 1e9) + 1;
    loop.tick_s = tick.tick_s;
    loop.loop_delay_s = tick.delay_s;
    loop.subscribers = tick.proxies;
    for (const auto& pod : tick.pods) {
      spec::EndpointObservation endpoint;
      endpoint.telemetry.id = {tick.service, pod.pod};
      endpoint.telemetry.known = true;
      endpoint.telemetry.taken = loop.now;
      endpoint.telemetry.speed = pod.speed;
      observation.endpoints.push_back(std::move(endpoint));
    }
    rule->decide(observation, loop);
    const auto taken = rule->take_samples();
    samples.insert(samples.end(), taken.begin(), taken.end());
  }
  return samples;
}

Comparison compare(const Twin& twin, const Acting& before, const Acting& after, std::uint64_t first_seed,
                   std::size_t seeds, const std::function<bool()>& stopping) {
  Comparison comparison;
  for (std::uint64_t seed = first_seed; seed < first_seed + seeds && !stopping(); ++seed) {
    const auto run = [&](const Acting& acting) {
      return sim::Simulation(twin.scenario,
                             sim::forecast_technique(acting.theta, false, {{sim::kSimulated, acting.gains}}),
                             seed, twin.loop)
          .run();
    };
    const sim::Metrics old_one = run(before);
    const sim::Metrics new_one = run(after);
    comparison.p99.push_back(std::log(std::max(old_one.p99_ms, 1e-6) / std::max(new_one.p99_ms, 1e-6)));
    comparison.p50.push_back(std::log(std::max(old_one.p50_ms, 1e-6) / std::max(new_one.p50_ms, 1e-6)));
  }
  return comparison;
}

namespace {

spec::Interval bounds_of(const std::vector<double>& values) {
  const double n = static_cast<double>(values.size());
  double mean = 0;
  for (const double each : values) {
    mean += each / n;
  }
  double squares = 0;
  for (const double each : values) {
    squares += (each - mean) * (each - mean);
  }
  if (values.size() < 2) {
    return {mean, -20, 20};
  }
  const double wide = quantile(boost::math::students_t(n - 1), 0.975) * std::sqrt(squares / (n - 1) / n);
  return {mean, mean - wide, mean + wide};
}

}  // namespace

Judgement judge(const Comparison& comparison) {
  constexpr double kMostMedian = 1.05;
  const auto ratio = [](const spec::Interval& gain) {
    return spec::Interval{std::exp(-gain.mean), std::exp(-gain.high), std::exp(-gain.low)};
  };
  const spec::Interval gain = bounds_of(comparison.p99);
  Judgement judgement{.p99 = ratio(gain), .p50 = ratio(bounds_of(comparison.p50))};
  judgement.why = fmt::format(
      "in the twin p99 {:.3f} [{:.3f}, {:.3f}] and p50 {:.3f} [{:.3f}, {:.3f}] of before", judgement.p99.mean,
      judgement.p99.low, judgement.p99.high, judgement.p50.mean, judgement.p50.low, judgement.p50.high);
  judgement.improved =
      spec::standing(gain) == spec::Standing::kBetter && spec::not_worse(judgement.p50, kMostMedian);
  return judgement;
}

}  // namespace ballast::twin
