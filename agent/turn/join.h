// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/decide/policy.h"
#include "agent/fleet/fleet.h"
#include "agent/guard/guard.h"

namespace ballast::turn {

/// One service as the guard judges it, from all its endpoints' latest telemetry and the proposal for it.
///
/// Shares are proportional to exp(log_prior + offset) and sum to 1; a neutral view has equal ones.
/// An endpoint that is not known has the median capacity and no offset; a known one that the
/// proposal does not name has its own capacity; one that only the proposal names has left and is
/// not in the view. Proposals that are not finite give shares that are not: judging is the guard's.
guard::ServiceView join(const fleet::Service& service, const decide::ServiceProposal& proposal,
                        MonotonicNs now);

}  // namespace ballast::turn
