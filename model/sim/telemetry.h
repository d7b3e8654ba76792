// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "bpf/wire/histogram.h"

namespace ballast::sim {

/// What an agent in the kernel would measure of one pod in one tick.
struct ServerTelemetry {
  std::uint32_t server = 0;
  bool known = true;            ///< false: the sample was lost
  double taken_s = 0;           ///< when it was measured
  double interval_s = 0;        ///< since the sample before
  std::uint64_t requests = 0;   ///< that came in the tick
  std::uint64_t responses = 0;  ///< that ended in the tick
  std::uint64_t errors = 0;
  double in_flight = 0;
  double on_cpu_s = 0;
  double wait_s = 0;  ///< runnable, not running; self wait included
  double self_wait_s = 0;
  double ready_s = 0;  ///< running or ready to run, waiting for its own quota included
  double limit_cores = 0;
  double latency_sum_s = 0;
  double true_capacity = 0;                                   ///< work a second, now; only oracles may look
  std::array<std::uint64_t, BALLAST_HIST_BUCKETS> latency{};  ///< server side, by bpf/wire's buckets
};

/// A controller of endpoint weights: called once a tick with what the telemetry brings.
class Controller {
 public:
  virtual ~Controller() = default;
  /// One weight a listed server, in the order of `servers`; nullopt: nothing worth a push.
  virtual std::optional<std::vector<double>> tick(double now, const std::vector<std::uint32_t>& servers,
                                                  const std::vector<ServerTelemetry>& telemetry) = 0;
};

}  // namespace ballast::sim
