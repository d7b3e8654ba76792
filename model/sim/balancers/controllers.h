// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <vector>

#include "model/sim/technique.h"
#include "model/sim/telemetry.h"

namespace ballast::sim {

/// What a controller that is slower than the loop has added up of one server since it decided last.
struct LoopSum {
  double seconds = 0;
  double requests = 0;
  double responses = 0;
  double on_cpu_s = 0;
  double latency_s = 0;
  double limit_cores = 0;
  double in_flight = 0;
  void add(const ServerTelemetry& t);
};

/// Dropbox's Robinhood: a PID controller for each server, whose setpoint is the mean utilisation of the
/// service and whose output is added to the server's weight; weights are normalised over the service and
/// clients do weighted round robin. Utilisation is the CPU's. Source: "What's new with Robinhood, our
/// in-house load balancing service", dropbox.tech, 23 October 2024. Gains and period are not published:
/// kLoop and the three gains are ours, tuned on `static` at 5 s.
class RobinhoodController final : public Controller {
 public:
  static constexpr double kLoop = 5;
  static constexpr double kProportional = 0.5;
  static constexpr double kIntegral = 0.02;
  static constexpr double kDerivative = 0.1;
  static constexpr double kLeastWeight = 0.01;
  struct Pid {
    double weight = 1;
    double integral = 0;
    double error = 0;
    bool begun = false;
  };
  /// One step of the controllers in place; utilisations parallel to it, `seconds` since the last.
  static void step(std::vector<Pid*>& pids, const std::vector<double>& utilisations, double seconds);

  std::optional<std::vector<double>> tick(double now, const std::vector<std::uint32_t>& servers,
                                          const std::vector<ServerTelemetry>& telemetry) override;

 private:
  std::map<std::uint32_t, LoopSum> sums_;
  std::map<std::uint32_t, Pid> pids_;
  double last_ = 0;
};

/// KnapsackLB: learns how each server's latency answers to its weight, by giving it different weights,
/// fits a polynomial through what was seen, and picks weights of least total latency by a multiple-choice
/// knapsack. Source: Gandhi, Narayana, "KnapsackLB: Enabling Performance-Aware Layer-4 Load Balancing",
/// arXiv 2404.17783. Of it: probing (here the server's own mean latency, which flatters it), curve
/// fitting with latency not falling in the weight, the knapsack (exact, by dynamic programming over
/// kUnits), and shifting a curve when a server's latency has left it. Periods and step sizes are ours.
/// The clients do weighted round robin, as layer-4 balancers do.
class KnapsackController final : public Controller {
 public:
  static constexpr double kLoop = 5;
  static constexpr int kProbes = 4;      ///< loops in which weights are tried, in turn up and down
  static constexpr double kProbe = 0.3;  ///< by so much
  static constexpr std::size_t kPoints = 12;
  static constexpr int kUnits = 20;      ///< of a fair share
  static constexpr double kMost = 4;     ///< greatest weight, of a fair share
  static constexpr double kShift = 0.2;  ///< latency off its curve by more: the curve is shifted
  struct Point {
    double weight = 1;
    double latency_s = 0;
  };
  /// latency = base + slope * weight^2, by least squares, neither below 0.
  struct Curve {
    double base = 0;
    double slope = 0;
    double shift = 1;
    double at(double weight) const { return shift * (base + slope * weight * weight); }
  };
  static Curve fit(const std::vector<Point>& points);
  /// Weights of mean 1 in units of 1 / kUnits, each at least one unit, that make sum(w * latency(w))
  /// least.
  static std::vector<double> knapsack(const std::vector<Curve>& curves);

  std::optional<std::vector<double>> tick(double now, const std::vector<std::uint32_t>& servers,
                                          const std::vector<ServerTelemetry>& telemetry) override;

 private:
  struct Server {
    LoopSum sum;
    std::vector<Point> points;
    double weight = 1;
    double shift = 1;
  };
  std::map<std::uint32_t, Server> servers_;
  double last_ = 0;
  int loops_ = 0;
};

/// The square-root rule over true capacities: what any estimate of capacity can reach at most. With
/// `Technique::foresight` the weights are of the moment at which they arrive.
class TrueCapacityController final : public Controller {
 public:
  explicit TrueCapacityController(double load) : load_(load) {}
  std::optional<std::vector<double>> tick(double now, const std::vector<std::uint32_t>& servers,
                                          const std::vector<ServerTelemetry>& telemetry) override;

 private:
  double load_;  ///< offered work a second
  std::vector<double> last_;
};

}  // namespace ballast::sim
