// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "agent/observe/observer.h"
#include "telemetry.h"

namespace ballast::observe::testing {

using ballast::testing::endpoint;
using ballast::testing::kMillisecond;
using ballast::testing::kTick;

/// What one container does in every tick of a FakeNode.
struct Load {
  std::uint64_t id = 0;
  double limit_cores = 1;
  std::uint64_t requests = 0;
  std::uint64_t cpu_ns_per_request = 2 * kMillisecond;
  std::uint64_t latency_ns = 10 * kMillisecond;
  std::uint64_t errors = 0;
  std::uint64_t wait_ns = 0;
  std::uint64_t self_wait_ns = 0;
  std::uint64_t throttled_ns = 0;
  std::uint64_t unanswered = 0;  ///< of the requests: closed or reset instead of answered
  std::uint64_t unknown = 0;     ///< of the answers: status not seen
  bool swallows = false;         ///< requests come in, nothing is done and nothing goes out
  std::uint64_t unasked = 0;     ///< answers beside those to requests
  std::int64_t in_flight = 0;
};

inline sample::CgroupSample cgroup_sample(const Load& load) {
  sample::CgroupSample s;
  s.id = load.id;
  s.requests = s.responses = load.requests;
  s.responses += load.unasked;
  s.responses -= load.unanswered;
  s.in_flight = load.in_flight;
  s.unanswered = load.unanswered;
  s.unknown = load.unknown;
  s.errors = load.errors + load.unanswered;
  s.first_byte.count = load.requests;
  s.first_byte.sum_ns = load.requests * load.latency_ns;
  s.first_byte.buckets[ballast_hist_bucket(load.latency_ns)] = load.requests;
  s.on_cpu_ns = load.requests * load.cpu_ns_per_request;
  s.wait_ns = load.wait_ns;
  s.self_wait_ns = load.self_wait_ns;
  s.throttled_ns = load.throttled_ns;
  s.cpu_limit_cores = load.limit_cores;
  if (load.swallows) {
    s.responses = s.first_byte.count = s.first_byte.sum_ns = s.on_cpu_ns = 0;
    s.first_byte.buckets = {};
  }
  return s;
}

/// Pods of one service, sampled tick by tick.
class FakeNode {
 public:
  explicit FakeNode(ObserverOptions options = {.machine_cores = 2}) : observer_(std::move(options)) {}

  void add(const std::string& pod, const Load& load, const std::string& container = "") {
    identity::Pod identity;
    identity.cgroup_id = load.id;
    identity.pod = pod;
    identity.ns = "shop";
    identity.container = container;
    identity.service = "web";
    identity.address = "127.1.0.1";
    identity.port = 8080;
    pods.push_back(identity);
    loads.push_back(load);
  }

  const std::vector<spec::EndpointTelemetry>& tick(int times = 1) {
    for (int i = 1; i < times; ++i) {
      once();
    }
    return once();
  }

  const Disbelief& disbelief() const { return observer_.disbelief(); }

  std::vector<identity::Pod> pods;
  std::vector<Load> loads;  ///< parallel to pods
  std::uint64_t interval = kTick;
  bool stuck = false;  ///< every sample equals the one before
  MonotonicNs now = 1'000'000'000;

 private:
  const std::vector<spec::EndpointTelemetry>& once() {
    now += interval;
    sample::Sample sample;
    sample.taken = now;
    sample.interval_ns = interval;
    for (const auto& load : loads) {
      if (load.id != 0) {
        sample.cgroups.push_back(cgroup_sample(load));
        // No two ticks of anything that runs are equal to the nanosecond.
        sample.cgroups.back().first_byte.sum_ns += stuck ? 0 : now / kTick;
      }
    }
    return observer_.endpoints(sample, pods);
  }

  Observer observer_;
};

}  // namespace ballast::observe::testing
