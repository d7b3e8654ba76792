// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

namespace ballast::sim {

/// What one run of one policy gives. Latency is from the request's intended start at the client to
/// its last answer there; a failed or unfinished request counts as the deadline, or as what it had
/// waited if that was longer.
struct Metrics {
  std::uint64_t requests = 0;
  std::uint64_t errors = 0;  ///< failed, past the deadline or unfinished
  double duration_s = 0;     ///< over which requests were counted
  double mean_ms = 0;
  double p50_ms = 0;
  double p90_ms = 0;
  double p99_ms = 0;
  double p999_ms = 0;
  double goodput_rps = 0;
  double utilisation_mean = 0;
  double utilisation_max_over_mean = 0;
  double weight_changes_per_min = 0;          ///< pushes or recalculations that changed a weight, a proxy
  double jain_clients = 1;                    ///< Jain's index of the clients' mean latencies
  std::vector<std::uint32_t> good_by_second;  ///< answered in time, by second of the run
  std::vector<std::uint64_t> requests_by_server;
};

/// Quantile q of a sample, linear between the order statistics; 0 when empty. Reorders the sample.
double quantile(std::vector<float>& sample, double q);

}  // namespace ballast::sim
