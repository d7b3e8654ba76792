// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "model/sim/balancer.h"
#include "model/sim/balancers/edf.h"

namespace ballast::sim {

/// Client-side weighted round robin: weight = qps / (utilization + eps/qps * penalty) from the load
/// report that comes with each answer; EDF, made anew every second with every first deadline
/// random in its period. A weight counts only after 10 s of reports (blackout) and for 180 s after
/// the last one; endpoints without one get the mean; fewer than two with one: plain round robin.
/// The utilization is the report's cpu_utilization, or, where the application gives one, its
/// application_utilization. Source: gRFC A58 (weighted_round_robin LB policy); ORCA (gRFC A51).
class ClientSideWeightedRoundRobin final : public Balancer {
 public:
  static constexpr double kUpdate = 1;
  static constexpr double kBlackout = 10;
  static constexpr double kExpiration = 180;
  static constexpr double kErrorPenalty = 1;
  ClientSideWeightedRoundRobin(const ClientView& view, bool application);
  void set_endpoints(const std::vector<Endpoint>& endpoints) override;
  std::uint32_t pick(const Keys& keys) override;
  void on_response(const Response& response) override;
  double period_s() const override { return kUpdate; }
  void on_tick() override;
  std::uint64_t weight_changes() const override { return changes_; }
  /// 0 while the report does not count.
  double weight(std::uint32_t server);

 private:
  struct Seen {
    double weight = 0;
    double non_empty_since = -1;  ///< negative: never
    double last_updated = -1e9;
  };
  void rebuild();

  ClientView view_;
  Rng rng_;
  std::vector<Endpoint> endpoints_;
  std::vector<Seen> seen_;
  std::vector<double> in_force_;
  EdfScheduler edf_;
  bool application_;
  std::uint64_t changes_ = 0;
};

/// L3, a controller of TrafficSplit weights: every 5 s weight =
/// 100 / ((in_flight/rps + 1)^2 * (P99 + 0.6 s * (1/success - 1))), at least 1; in flight and P99
/// smoothed with time constant 5 s, rps and success with 10 s. One controller sees all proxies'
/// metrics (Prometheus); each proxy splits at random by the weights.
/// Source: Fernandez et al., "L3: latency-aware load balancing in multi-cluster service mesh",
/// Middleware 2024, as summarised in our reference; its traffic-surge term is left out.
class L3Controller {
 public:
  static constexpr double kLoop = 5;
  static constexpr double kFastTau = 5;
  static constexpr double kSlowTau = 10;
  static constexpr double kPenalty = 0.6;
  /// What one loop saw of one server.
  struct Seen {
    std::vector<float> latencies;
    double ok = 0;
    double failed = 0;
  };
  /// What is known of one server, smoothed.
  struct State {
    bool known = false;
    double in_flight = 0;
    double rps = 0;
    double p99_s = 0;
    double success = 1;
    double weight = 1;
  };
  static double weight(const State& state);

  void set_servers(std::size_t servers);
  void add_client(const ClientView& view) { clients_.push_back(view); }
  void record(const Response& response);
  /// One loop; does nothing unless kLoop has passed since the last.
  void run(double now);
  double weight_of(std::uint32_t server) const { return states_[server].weight; }
  std::uint64_t version() const { return version_; }

 private:
  std::vector<ClientView> clients_;
  std::vector<Seen> seen_;
  std::vector<State> states_;
  double last_ = 0;
  std::uint64_t version_ = 0;
};

Balancers make_l3(std::span<const ClientView> clients);

/// Global shortest expected delay: the server with the least (in flight + 1) / capacity, everything
/// known at once; ties in turn. An unreachable bound for per-request balancers that do not know
/// sizes. Source: Winston 1977; Banawan, Zeidat 1992.
class ShortestExpectedDelay final : public Balancer {
 public:
  explicit ShortestExpectedDelay(const ClientView& view) : view_(view) {}
  void set_endpoints(const std::vector<Endpoint>& endpoints) override { endpoints_ = endpoints; }
  std::uint32_t pick(const Keys& keys) override;

 private:
  ClientView view_;
  std::vector<Endpoint> endpoints_;
  std::size_t last_ = 0;
};

}  // namespace ballast::sim
