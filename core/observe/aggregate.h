// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "core/observe/observation.h"
#include "core/observe/persistence.h"
#include "core/spec/telemetry.h"

namespace ballast::observe {

/// The whole service from its endpoints' latest telemetry, of all nodes. Called once a tick and
/// service; `persistence` is that service's own and takes one step.
///
/// p50 and p99 are of the endpoints' latency histograms added up; 0 while none has any. Medians, means and
/// spreads are over known endpoints, and each over those whose value makes sense (finite, not negative;
/// latencies, speeds and capacities above 0). In what is summed up nobody counts for more than sixteen times
/// the one in the middle, whatever it claims. mean and max are over all endpoints' own features. `offsets`,
/// the deltas in force, are parallel to `endpoints`; missing ones are 0. Total.
spec::ServiceAggregate aggregate(const spec::ServiceId& service,
                                 std::span<const spec::EndpointTelemetry> endpoints,
                                 std::span<const double> offsets, const spec::LoopTiming& loop,
                                 PersistenceEstimator& persistence);

}  // namespace ballast::observe
