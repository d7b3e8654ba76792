// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>

#include "core/spec/spec.h"

namespace ballast::spec {

/// What a learned policy is made of. model/policy implements it; agent/decide does not know the network.
class ActorNetwork {
 public:
  virtual ~ActorNetwork() = default;
  /// Logits of the kActions actions for one endpoint.
  virtual std::array<float, kActions> logits(const Observation& observation) const = 0;
  virtual std::uint64_t epoch() const = 0;
  virtual std::uint64_t version() const = 0;
};

}  // namespace ballast::spec
