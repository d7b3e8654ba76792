// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/spec/latency.h"
#include "core/spec/telemetry.h"

namespace ballast::testing {

inline constexpr std::uint64_t kMillisecond = 1'000'000;
inline constexpr std::uint64_t kTick = 250 * kMillisecond;

/// The histogram of these requests.
inline spec::LatencyBuckets latencies(const std::vector<double>& ns) {
  spec::Latency dense;
  for (const double each : ns) {
    ++dense.buckets[ballast_hist_bucket(static_cast<unsigned long long>(each))];
  }
  spec::LatencyBuckets out;
  dense.store(out);
  return out;
}

/// A known endpoint of shop/web with plain values.
inline spec::EndpointTelemetry endpoint(const std::string& pod, double capacity_qps = 100) {
  spec::EndpointTelemetry e;
  e.id = {{"shop", "web"}, pod};
  e.known = true;
  e.qps = 50;
  e.p50_ns = 10e6;
  e.p99_ns = 40e6;
  e.tick_p50_ns = 10e6;
  e.cpu_cores = 0.1;
  e.cpu_limit_cores = 0.2;
  e.utilisation = 0.5;
  e.capacity_qps = capacity_qps;
  return e;
}

/// Every number of an endpoint's telemetry. A field that is added does not compile until it is named here, so
/// that no test that goes through them all misses it.
inline std::vector<double*> numbers(spec::EndpointTelemetry& e) {
  auto& [id, address, port, taken, known, qps, tick_requests, p50_ns, p99_ns, tick_p50_ns, p50_stretch,
         mean_stretch, answers_per_s, seen_per_s, seen_p99_ns, in_flight, error_rate, success, cpu_cores,
         cpu_limit_cores, wait_share, speed, utilisation, running_share, usable_cores, cpu_evidence,
         memory_bytes, memory_share, capacity_qps, latency] = e;
  return {&qps,          &tick_requests, &p50_ns,       &p99_ns,          &tick_p50_ns,  &in_flight,
          &error_rate,   &success,       &cpu_cores,    &cpu_limit_cores, &wait_share,   &speed,
          &utilisation,  &running_share, &usable_cores, &cpu_evidence,    &memory_bytes, &memory_share,
          &capacity_qps, &answers_per_s, &seen_per_s,   &seen_p99_ns,     &p50_stretch,  &mean_stretch};
}

}  // namespace ballast::testing
