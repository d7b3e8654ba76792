// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "agent/decide/policy.h"
#include "agent/guard/guard.h"
#include "core/spec/telemetry.h"

namespace ballast::turn {

/// The record of one service in one tick: what was seen, what a policy wanted, what the guard made of it, and
/// what became of it, which the shell adds. All that shows decisions prints this.
struct Decision {
  spec::ServiceObservation observation;
  decide::ServiceProposal proposal;
  guard::GuardedWeights weights;  ///< without endpoints: the service is gone
  guard::Answer answer = {};
  std::vector<std::uint32_t> in_force =
      {};  ///< one an endpoint: its weight at proxies by us; 0 or missing: none
};

}  // namespace ballast::turn
