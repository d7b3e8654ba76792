// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <memory>

#include "core/base/result.h"
#include "core/spec/actor_network.h"
#include "core/spec/spec.h"
#include "model/policy/parameters.h"

namespace ballast::policy {

/// The actor-critic of core/spec/spec.h as a hand-written forward pass, so that the process that
/// measures and acts carries no ML runtime. Immutable: any number of threads may share one.
/// Neither pass allocates; an actor pass costs about a microsecond.
class ForwardNetwork final : public spec::ActorNetwork {
 public:
  /// Refuses parameters that check() refuses.
  static Result<std::shared_ptr<const ForwardNetwork>> create(const Parameters& parameters);

  /// Non-finite inputs give non-finite logits; the caller judges them.
  std::array<float, spec::kActions> logits(const spec::Observation& observation) const override;
  /// The critic's value of a service context (own features = the mean over the service).
  float value(const spec::Observation& context) const;

  std::uint64_t epoch() const override { return epoch_; }
  std::uint64_t version() const override { return version_; }

 private:
  explicit ForwardNetwork(const Parameters& parameters);
  using Hidden = std::array<float, spec::kHidden>;
  void encode(const spec::Observation& observation, Hidden& out) const;

  /// Actor outputs and the critic's, padded to whole vectors.
  static constexpr std::size_t kActorLanes = 8;

  // Transposed, [input][output]: the inner loop then runs over independent sums, which
  // vectorises without reordering any of them.
  alignas(64) std::array<Hidden, spec::kObservation> w1_{};
  alignas(64) std::array<Hidden, spec::kHidden> w2_{};
  alignas(64) Hidden b1_{};
  alignas(64) Hidden b2_{};
  alignas(64) std::array<std::array<float, kActorLanes>, spec::kHidden> actor_{};
  alignas(64) std::array<float, kActorLanes> actor_bias_{};
  alignas(64) Hidden critic_{};
  float critic_bias_ = 0;
  std::uint64_t epoch_ = 0;
  std::uint64_t version_ = 0;
};

}  // namespace ballast::policy
