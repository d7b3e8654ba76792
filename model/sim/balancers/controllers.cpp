// SPDX-License-Identifier: Apache-2.0
#include "model/sim/balancers/controllers.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "agent/decide/prior.h"

namespace ballast::sim {
namespace {

constexpr double kNearlyALoop = 0.999;

void normalise(std::vector<double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (double& each : weights) {
    each *= sum > 0 ? static_cast<double>(weights.size()) / sum : 1;
  }
}

}  // namespace

void LoopSum::add(const ServerTelemetry& t) {
  if (!t.known) {
    return;
  }
  seconds += t.interval_s;
  requests += static_cast<double>(t.requests);
  responses += static_cast<double>(t.responses);
  on_cpu_s += t.on_cpu_s;
  latency_s += t.latency_sum_s;
  limit_cores = t.limit_cores;
  in_flight = t.in_flight;
}

void RobinhoodController::step(std::vector<Pid*>& pids, const std::vector<double>& utilisations,
                               double seconds) {
  const double mean = std::accumulate(utilisations.begin(), utilisations.end(), 0.0) /
                      static_cast<double>(utilisations.size());
  double sum = 0;
  for (std::size_t i = 0; i < pids.size(); ++i) {
    Pid& pid = *pids[i];
    const double error = mean - utilisations[i];
    pid.integral += error * seconds;
    const double derivative = pid.begun ? (error - pid.error) / seconds : 0;
    pid.error = error;
    pid.begun = true;
    pid.weight += kProportional * error + kIntegral * pid.integral + kDerivative * derivative;
    pid.weight = std::max(pid.weight, kLeastWeight);
    sum += pid.weight;
  }
  for (Pid* pid : pids) {
    pid->weight *= static_cast<double>(pids.size()) / sum;
  }
}

std::optional<std::vector<double>> RobinhoodController::tick(double now,
                                                             const std::vector<std::uint32_t>& servers,
                                                             const std::vector<ServerTelemetry>& telemetry) {
  for (const auto& each : telemetry) {
    sums_[each.server].add(each);
  }
  if (now - last_ < kLoop * kNearlyALoop) {
    return std::nullopt;
  }
  std::vector<Pid*> pids;
  std::vector<double> utilisations;
  for (const auto server : servers) {
    const LoopSum& sum = sums_[server];
    if (sum.seconds > 0 && sum.limit_cores > 0) {
      pids.push_back(&pids_[server]);
      utilisations.push_back(sum.on_cpu_s / (sum.seconds * sum.limit_cores));
    }
  }
  if (!pids.empty()) {
    step(pids, utilisations, now - last_);
  }
  last_ = now;
  sums_.clear();
  std::vector<double> weights;
  for (const auto server : servers) {
    weights.push_back(pids_[server].weight);
  }
  return weights;
}

KnapsackController::Curve KnapsackController::fit(const std::vector<Point>& points) {
  double n = 0, x1 = 0, x2 = 0, y1 = 0, xy = 0;
  for (const auto& point : points) {
    const double x = point.weight * point.weight;
    n += 1;
    x1 += x;
    x2 += x * x;
    y1 += point.latency_s;
    xy += x * point.latency_s;
  }
  Curve curve;
  const double spread = n * x2 - x1 * x1;
  curve.slope = spread > 1e-9 ? std::max(0.0, (n * xy - x1 * y1) / spread) : 0;
  curve.base = n > 0 ? (y1 - curve.slope * x1) / n : 0;
  if (curve.base < 0) {
    curve.base = 0;
    curve.slope = x2 > 0 ? xy / x2 : 0;
  }
  return curve;
}

std::vector<double> KnapsackController::knapsack(const std::vector<Curve>& curves) {
  const int n = static_cast<int>(curves.size());
  const int total = n * kUnits;
  const int most = std::min(total, static_cast<int>(kMost * kUnits));
  constexpr double kNever = std::numeric_limits<double>::infinity();
  // best[u]: least cost of the servers so far with u units given out; taken[i][u]: of it by server i.
  std::vector<double> best(static_cast<std::size_t>(total) + 1, kNever);
  best[0] = 0;
  std::vector<std::vector<int>> taken(curves.size(), std::vector<int>(best.size(), 0));
  for (std::size_t i = 0; i < curves.size(); ++i) {
    std::vector<double> next(best.size(), kNever);
    for (int given = 0; given <= total; ++given) {
      if (best[given] == kNever) {
        continue;
      }
      for (int units = 1; units <= most && given + units <= total; ++units) {
        const double weight = static_cast<double>(units) / kUnits;
        const double cost = best[given] + weight * curves[i].at(weight);
        if (cost < next[given + units]) {
          next[given + units] = cost;
          taken[i][given + units] = units;
        }
      }
    }
    best = std::move(next);
  }
  std::vector<double> weights(curves.size(), 1);
  int left = total;
  for (std::size_t i = curves.size(); i-- > 0;) {
    weights[i] = static_cast<double>(taken[i][left]) / kUnits;
    left -= taken[i][left];
  }
  return weights;
}

std::optional<std::vector<double>> KnapsackController::tick(double now,
                                                            const std::vector<std::uint32_t>& servers,
                                                            const std::vector<ServerTelemetry>& telemetry) {
  for (const auto& each : telemetry) {
    servers_[each.server].sum.add(each);
  }
  if (now - last_ < kLoop * kNearlyALoop) {
    return std::nullopt;
  }
  last_ = now;
  ++loops_;
  std::vector<Curve> curves;
  for (const auto id : servers) {
    Server& server = servers_[id];
    Curve curve = fit(server.points);
    if (server.sum.responses > 0) {
      const double latency = server.sum.latency_s / server.sum.responses;
      const double expected = curve.at(server.weight) * server.shift;
      if (loops_ > kProbes && expected > 0 && std::abs(latency / expected - 1) > kShift) {
        server.shift *= latency / expected;
      }
      server.points.push_back({server.weight, latency / server.shift});
      if (server.points.size() > kPoints) {
        server.points.erase(server.points.begin());
      }
      curve = fit(server.points);
    }
    curve.shift = server.shift;
    curves.push_back(curve);
    server.sum = {};
  }
  std::vector<double> weights;
  if (loops_ <= kProbes) {
    for (std::size_t i = 0; i < servers.size(); ++i) {
      const bool up = ((static_cast<std::size_t>(loops_) >> (i % 2)) + i / 2) % 2 == 0;
      weights.push_back(up ? 1 + kProbe : 1 - kProbe);
    }
    normalise(weights);
  } else {
    weights = knapsack(curves);
  }
  for (std::size_t i = 0; i < servers.size(); ++i) {
    servers_[servers[i]].weight = weights[i];
  }
  return weights;
}

std::optional<std::vector<double>> TrueCapacityController::tick(
    double, const std::vector<std::uint32_t>& servers, const std::vector<ServerTelemetry>& telemetry) {
  std::map<std::uint32_t, double> capacities;
  double total = 0;
  for (const auto& each : telemetry) {
    capacities[each.server] = each.true_capacity;
    total += each.true_capacity;
  }
  std::vector<double> logs;
  for (const auto server : servers) {
    logs.push_back(std::log(std::max(capacities[server], 1e-6 * total)));
  }
  const auto tilt = decide::square_root_tilt(logs, total > 0 ? load_ / total : 0);
  std::vector<double> weights;
  for (std::size_t i = 0; i < logs.size(); ++i) {
    weights.push_back(std::exp(logs[i] + tilt[i]));
  }
  normalise(weights);
  if (weights == last_) {
    return std::nullopt;
  }
  last_ = weights;
  return weights;
}

}  // namespace ballast::sim
