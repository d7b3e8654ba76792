// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>

#include "agent/fleet/fleet.h"
#include "core/base/clock.h"

namespace ballast::fleet {

/// One service's view from all its endpoints' latest telemetry, its aggregate and the proposal for
/// it (null: neutral, because no policy has spoken). The same for one node and for many.
///
/// Shares are proportional to exp(log_prior + offset) and sum to 1; a neutral view has equal ones.
/// An endpoint that is not known has the median capacity and no offset; a known one that the
/// proposal does not name has its own capacity; one that only the proposal names has left and is
/// not in the view. Proposals that are not finite give shares that are not: judging is the guard's.
ServiceView join_service(const spec::ServiceAggregate& aggregate,
                         std::span<const spec::EndpointTelemetry> endpoints,
                         const decide::ServiceProposal* proposal, MonotonicNs now);

}  // namespace ballast::fleet
