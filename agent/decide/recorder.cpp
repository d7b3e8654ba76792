// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/recorder.h"

namespace ballast::decide {

spec::RecordedTick Recorder::recorded(const spec::ServiceObservation& observation, const LoopContext& loop) {
  spec::RecordedTick tick;
  tick.at_s = static_cast<double>(loop.now) * 1e-9;
  tick.service = observation.aggregate.service;
  tick.tick_s = loop.tick_s;
  tick.delay_s = loop.loop_delay_s;
  tick.proxies = loop.subscribers;
  tick.p50_ms = observation.aggregate.p50_ns * 1e-6;
  tick.p99_ms = observation.aggregate.p99_ns * 1e-6;
  for (const auto& endpoint : observation.endpoints) {
    const auto& t = endpoint.telemetry;
    if (t.known) {
      tick.pods.push_back({t.id.pod, t.tick_requests, t.in_flight, t.qps, t.cpu_cores, t.cpu_limit_cores,
                           t.speed, t.running_share, t.p50_ns * 1e-6});
    }
  }
  return tick;
}

}  // namespace ballast::decide
