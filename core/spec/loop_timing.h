// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "core/base/clock.h"

namespace ballast::spec {

/// What the features, the policy and the fleet know of the loop that they are a part of; made once a tick.
struct LoopTiming {
  MonotonicNs now = 0;  ///< of this tick
  double tick_s = 0.25;
  double loop_delay_s = 0.4;    ///< from a change in a pod to the weight in Envoy
  std::size_t subscribers = 0;  ///< proxies that take our weights; 0 where the sink cannot know
};

}  // namespace ballast::spec
