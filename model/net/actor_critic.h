// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "core/base/result.h"
#include "core/spec/rollout.h"
#include "core/spec/spec.h"

/// The actor and critic of spec.h on LibTorch, for learning only: acting needs the hand-written
/// forward pass of model/policy, and the tests hold the two equal. Torch runs in the caller's
/// thread and in no other.
namespace ballast::net {

/// Of the loss (Mnih et al. 2016, section 4 and supplement 8). What concerns the step that is
/// taken along the gradient (learning rate, RMSProp, clipping) belongs to the global network.
struct Hyperparameters {
  double gamma = 0.99;          ///< discount a step
  double entropy_bonus = 0.01;  ///< beta
  std::size_t t_max = 20;       ///< a return bootstraps after at most so many steps
};

/// Means over the steps of one gradient, at the theta that it was taken at.
struct Statistics {
  std::size_t rollouts = 0;
  std::size_t steps = 0;
  double policy_loss = 0;
  double value_loss = 0;
  double entropy = 0;  ///< nats; ln(spec::kActions) is uniform
  double reward = 0;
  double value = 0;              ///< what the critic says
  double importance_weight = 0;  ///< 1 when all was on policy
  double norm = 0;               ///< L2 norm of the whole gradient
};

struct Gradient {
  std::vector<float> flat;  ///< d loss / d theta in the order of spec.h
  Statistics statistics;
};

/// Why a rollout cannot be learned from: no step, an action out of range, a probability outside
/// (0, 1], a number that is not finite.
Status check(const spec::Rollout& rollout);

/// Holds one theta. Not thread-safe.
class ActorCritic {
 public:
  ActorCritic();  ///< theta = 0
  ActorCritic(ActorCritic&&) noexcept;
  ActorCritic& operator=(ActorCritic&&) noexcept;
  ~ActorCritic();

  /// Fails on another length than spec::kParameters; theta is then unchanged.
  Status load(std::span<const float> theta);
  std::vector<float> store() const;

  /// The actor's head on each observation.
  std::vector<std::array<float, spec::kActions>> logits(
      std::span<const spec::Observation> observations) const;
  /// The critic's head on each service context.
  std::vector<float> values(std::span<const spec::Observation> contexts) const;

  /// Gradient at the theta held of
  ///   sum over steps of  -w log pi(a|s) A  +  0.5 (R - V(c))^2  -  beta H(pi(.|s)),
  /// averaged over the rollouts, so that one rollout is exactly A3C's update and many are the
  /// same update with less noise. R is the n-step return of the rollout, bootstrapped from
  /// V(bootstrap context) unless it ended in a terminal state, and cut every t_max steps;
  /// A = R - V(c) and R are constants to the derivative. w = min(1, pi(a|s)/mu(a|s)) weighs a
  /// step that the acting policy took for exploration more often than pi would; it is 1 on
  /// policy. The returns themselves are not corrected: the rollout has to have acted at (about)
  /// this theta.
  /// Fails when there is no rollout or one does not pass check().
  Result<Gradient> gradient(std::span<const spec::Rollout> rollouts, const Hyperparameters& hyper) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace ballast::net
