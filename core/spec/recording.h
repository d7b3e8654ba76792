// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/spec/telemetry.h"

namespace ballast::spec {

/// What a twin is built from: what telemetry showed of one pod in one tick.
struct RecordedPod {
  std::string pod;
  double requests = 0;  ///< that came in the tick
  double in_flight = 0;
  double qps = 0;        ///< over the longer window
  double cpu_cores = 0;  ///< the same
  double limit_cores = 0;
  double speed = 1;          ///< in the tick
  double running_share = 0;  ///< part of its requests' time, longer window
  double p50_ms = 0;         ///< longer window
};

/// One tick of one service; pods that were not measured in it are left out.
struct RecordedTick {
  double at_s = 0;  ///< the time when it was decided, of any origin
  ServiceId service;
  double tick_s = 0;
  double delay_s = 0;
  std::size_t proxies = 0;
  double p50_ms = 0;  ///< of the service, longer window
  double p99_ms = 0;
  std::vector<RecordedPod> pods;
};

inline constexpr unsigned kRecordingVersion = 1;

}  // namespace ballast::spec
