// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/spec/spec.h"

namespace ballast::spec {

/// Namespace and name of a service; the unit that has weights.
struct ServiceId {
  std::string ns;
  std::string name;
  auto operator<=>(const ServiceId&) const = default;
};

/// A pod of a service at one address. Two pods never share (service, pod).
struct EndpointId {
  ServiceId service;
  std::string pod;
  auto operator<=>(const EndpointId&) const = default;
};

/// One bucket of bpf/wire/histogram.h that is not empty.
struct LatencyBucket {
  std::uint16_t index = 0;
  std::uint32_t count = 0;
  auto operator<=>(const LatencyBucket&) const = default;
};

/// In rising order of their index.
using LatencyBuckets = std::vector<LatencyBucket>;
/// As if each were in the middle of its bucket; 0 when empty.
double mean_ns(const LatencyBuckets& buckets);

/// What is known of one endpoint at one tick, in units. `known` says which of it could be
/// measured: a value that was not measured must not be used.
struct EndpointTelemetry {
  EndpointId id;
  std::string address;
  std::uint16_t port = 0;

  MonotonicNs taken = 0;     ///< when measured; the age is now - taken
  bool known = false;        ///< false: an endpoint without an agent, or no sample yet
  double qps = 0;            ///< over the longer window
  double tick_requests = 0;  ///< in the last tick
  double p50_ns = 0;         ///< first byte, longer window
  double p99_ns = 0;
  double tick_p50_ns = 0;  ///< first byte, last tick; 0 when no request ended in it
  /// The same window's medians and means: last byte over first byte, at least 1; 0 where unknown. Whoever
  /// answers chooses when its heads go out, but not when its answers end.
  double p50_stretch = 0;
  double mean_stretch = 0;
  /// Answers a second that it counted lately, those that its callers saw in the same time (0: no caller is
  /// measured), and first byte as they saw it over the longer window.
  double answers_per_s = 0;
  double seen_per_s = 0;
  double seen_p99_ns = 0;
  double in_flight = 0;
  double error_rate = 0;  ///< failed or unanswered / ended, where known, over the longer window
  /// Share of the last requests that went well, in [0,1]; recent, not windowed, so that an endpoint
  /// that gets little traffic keeps its record.
  double success = 1;
  double cpu_cores = 0;        ///< CPUs' worth used, longer window
  double cpu_limit_cores = 0;  ///< CPUs' worth it may use
  double wait_share = 0;       ///< wait / (on-CPU + wait), last tick
  /// Speed the scheduler shows, last tick, in (0,1]: on-CPU / (on-CPU + waiting for others).
  /// Waiting for its own quota or behind its own tasks is not counted: those depend on how much
  /// traffic we send, and a weight that follows them would chase itself.
  double speed = 1;
  double utilisation = 0;  ///< cpu_cores / (cpu_limit_cores * speed)
  /// Part of the requests' time, over the longer window, in which tasks of the pod ran or were
  /// ready to run; 1: they never waited for anything but a CPU.
  double running_share = 0;
  /// CPUs' worth that the pod was seen to use or want at once, at least 1 and within its limit: a
  /// single thread cannot use more than one whatever its limit is.
  double usable_cores = 0;
  /// How far CPU is what limits the service's pods, in [0, 1]: 0 where the CPU limit says nothing.
  double cpu_evidence = 0;
  double memory_bytes = 0;
  double memory_share = 0;  ///< of the limit; 0 where there is none
  /// Requests a second this endpoint can carry well: qps / utilisation (gRFC A58), cut by a success
  /// below the service's; 0 where unknown.
  double capacity_qps = 0;
  /// First byte, longer window: what p50_ns and p99_ns are quantiles of. To be added up over endpoints.
  LatencyBuckets latency;
};

/// The service as a whole, made from all nodes' telemetry by the fleet.
struct ServiceAggregate {
  ServiceId service;
  std::size_t endpoints = 0;
  std::size_t known = 0;
  double median_p50_ns = 0;
  double median_p99_ns = 0;
  double median_in_flight = 0;
  double median_wait_share = 0;
  double mean_qps = 0;
  double mean_utilisation = 0;
  double median_speed = 1;
  double median_capacity_qps = 0;  ///< over known endpoints; stands in for the unknown
  double mean_capacity_qps = 0;    ///< unknown ones counted with the median
  double p50_ns = 0;  ///< of the service, of all its requests: the endpoints' histograms added up
  double p99_ns = 0;
  double error_rate = 0;
  double cpu_imbalance = 0;  ///< coefficient of variation of utilisation
  double memory_imbalance = 0;
  /// How long differences of capacity between endpoints last, in seconds (decorrelation time).
  double persistence_s = 0;
  /// How unequal the capacities are: standard deviation of log capacity over known endpoints.
  double capacity_spread = 0;
  std::array<float, kFeatures> mean{};  ///< of the endpoints' own features
  std::array<float, kFeatures> max{};
};

/// An endpoint as a policy sees it.
struct EndpointObservation {
  EndpointTelemetry telemetry;
  double log_prior = 0;  ///< log(capacity * speed / the service's mean); 0 where unknown
  Observation features{};
  /// From which a policy moves; also while it is not in force, because the service is level or the endpoint
  /// is not measured.
  double offset = 0;
  bool own = true;  ///< decided here; else another node does, and has this offset in force
};

struct ServiceObservation {
  ServiceAggregate aggregate;
  std::vector<EndpointObservation> endpoints;
};

}  // namespace ballast::spec
