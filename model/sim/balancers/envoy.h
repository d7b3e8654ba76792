// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "model/sim/balancer.h"
#include "model/sim/balancers/edf.h"

namespace ballast::sim {

/// Which of an endpoint's weights a balancer goes by.
enum class Weights {
  kNone,      ///< all 1
  kOperator,  ///< true capacity, set by hand
  kEds,       ///< what a weight controller last pushed; all equal until then
  kStatic,    ///< the M/G/1-PS square-root rule over the true capacities and the load
  kNow,       ///< the same over the true capacities of this moment, looked at every kNowPeriodS
};

inline constexpr double kNowPeriodS = 0.05;

/// Envoy's EDF base: equal weights and nobody in slow start -> the unweighted pick; else EDF. The
/// choice is made when endpoints or weights change, not at a pick. Source: Envoy,
/// source/extensions/load_balancing_policies/common/load_balancer_impl.cc (EdfLoadBalancerBase).
class EnvoyBalancer : public Balancer {
 public:
  EnvoyBalancer(const ClientView& view, Weights weights, double load);
  void set_endpoints(const std::vector<Endpoint>& endpoints) override;
  std::uint32_t pick(const Keys& keys) final;
  double period_s() const override { return which_ == Weights::kNow ? kNowPeriodS : 0; }
  void on_tick() override;

 protected:
  /// The weight at which an endpoint is put back into the schedule.
  virtual double schedule_weight(std::size_t index) const { return weights_[index]; }
  virtual bool force_schedule() const { return false; }
  virtual std::size_t unweighted_pick() = 0;

  ClientView view_;
  Rng rng_;
  std::vector<Endpoint> endpoints_;
  std::vector<double> weights_;

 private:
  void choose_weights();
  void schedule();

  Weights which_;
  double load_;
  std::uint32_t start_;  ///< Envoy's seed_: where the schedule and the round robin begin
  EdfScheduler edf_;
};

/// ROUND_ROBIN: in turn from a random start; unequal weights: EDF over the weights.
/// Source: Envoy, round_robin_lb.h.
class RoundRobin final : public EnvoyBalancer {
 public:
  RoundRobin(const ClientView& view, Weights weights, double load = 0);

 private:
  std::size_t unweighted_pick() override;
  std::uint64_t turn_;
};

struct LeastRequestOptions {
  double active_request_bias = 1;
  bool full_scan = false;
  double slow_start_window_s = 0;  ///< 0: no slow start
  double slow_start_aggression = 1;
  double slow_start_min = 0.1;
};

/// LEAST_REQUEST. Equal weights: two draws with replacement, the second wins only with fewer
/// active requests (FULL_SCAN: the fewest of all, ties at random). Unequal: EDF over
/// weight / (active + 1)^bias, the active requests counted when the endpoint was last put back.
/// Slow start: weight * max(min, (age/window)^(1/aggression)) while an endpoint is younger than
/// the window; the schedule stays until the next change of endpoints. "Active" are this proxy's own.
/// Source: Envoy, least_request_lb.cc and load_balancer_impl.cc (applySlowStartFactor).
class LeastRequest final : public EnvoyBalancer {
 public:
  LeastRequest(const ClientView& view, Weights weights, LeastRequestOptions options = {}, double load = 0);

 private:
  double schedule_weight(std::size_t index) const override;
  bool force_schedule() const override;
  std::size_t unweighted_pick() override;
  std::uint32_t active(std::size_t index) const { return view_.active[endpoints_[index].server]; }
  bool warming(const Endpoint& endpoint) const;

  LeastRequestOptions options_;
};

/// RANDOM: uniform, weights ignored. Source: Envoy, random_lb.cc.
class Random final : public Balancer {
 public:
  explicit Random(const ClientView& view);
  void set_endpoints(const std::vector<Endpoint>& endpoints) override { endpoints_ = endpoints; }
  std::uint32_t pick(const Keys& keys) override;

 private:
  Rng rng_;
  std::vector<Endpoint> endpoints_;
};

/// leastconn: fewest of this proxy's requests in flight over weight, among all endpoints; ties in
/// turn. Source: HAProxy configuration manual, "balance leastconn"; nginx, least_conn.
class LeastConnections final : public Balancer {
 public:
  explicit LeastConnections(const ClientView& view) : view_(view) {}
  void set_endpoints(const std::vector<Endpoint>& endpoints) override { endpoints_ = endpoints; }
  std::uint32_t pick(const Keys& keys) override;

 private:
  ClientView view_;
  std::vector<Endpoint> endpoints_;
  std::size_t last_ = 0;
};

/// Optimal static split of Poisson traffic over M/G/1-PS servers: least mean response time at
/// offered work `load` (a second): l_i = c_i - sqrt(c_i) * (C - load) / sum sqrt(c), servers whose
/// share would be negative left out. Source: Bell, Stidham 1983. Every share is kept positive (a
/// thousandth of fair) because Envoy knows no weight 0.
std::vector<double> square_root_split(const std::vector<double>& capacities, double load);

}  // namespace ballast::sim
