// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/spec/telemetry.h"

namespace ballast::spec {

/// With it begins the name of an endpoint of which nothing is known but that there is one: no pod is called
/// so.
inline constexpr char kUnnamed = '~';

inline bool is_named(const EndpointId& id) {
  return id.pod.empty() || id.pod.front() != kUnnamed;
}

}  // namespace ballast::spec
