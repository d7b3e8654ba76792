// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <span>

#include "core/spec/loop_timing.h"
#include "core/spec/spec.h"
#include "core/spec/telemetry.h"

namespace ballast::observe {

using OwnFeatures = std::array<float, spec::kFeatures>;

/// log(capacity / the service's mean capacity), within +-spec::kFeatureBound. An endpoint of
/// unknown capacity has the median's, and all have 0 where no capacity is known.
double log_prior(const spec::EndpointTelemetry& endpoint, const spec::ServiceAggregate& aggregate);

/// One endpoint's features in the order of spec::Feature, clipped; NaN is 0. Of the aggregate all
/// but mean and max is used. An endpoint that is not known has 0 in every measured feature.
/// `offset` is the delta in force. Total.
OwnFeatures own_features(const spec::EndpointTelemetry& endpoint, const spec::ServiceAggregate& aggregate,
                         const spec::LoopTiming& loop, double offset);

/// [own][mean][max][log N], clipped; NaN is 0.
spec::Observation make_observation(const OwnFeatures& own, const spec::ServiceAggregate& aggregate);

/// What a policy sees of one service: the aggregate is the whole service's, the endpoints are
/// those that are decided here. `offsets` are parallel to `endpoints`, missing ones are 0.
spec::ServiceObservation observe(const spec::ServiceAggregate& aggregate,
                                 std::span<const spec::EndpointTelemetry> endpoints,
                                 std::span<const double> offsets, const spec::LoopTiming& loop);

}  // namespace ballast::observe
