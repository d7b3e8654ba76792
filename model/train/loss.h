// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "model/train/batch.h"
#include "model/train/network.h"

namespace ballast::train {

struct LossOptions {
  /// PPO's clip (Schulman et al. 2017, equation 7) around the acting policy; 0: the plain policy
  /// gradient, a step that exploration took more often than the policy would weighing
  /// min(1, pi / mu).
  double clip = 0;
  double value_coefficient = 0.5;  ///< of the mean squared error
  double entropy_bonus = 0.0;
};

struct LossStatistics {
  double loss = 0;  ///< what the gradient is of
  double policy = 0;
  double value = 0;
  double entropy = 0;  ///< nats, mean over rows
};

/// Scratch of one worker, so that a loss allocates once.
struct LossScratch {
  Cache actor, critic;
  std::vector<float> slope;
};

/// -mean over rows of w log pi(a|s) A (or PPO's clipped ratio times A)
///   + value_coefficient * mean over steps of (R - V)^2 - entropy_bonus * mean entropy,
/// with A, R and w constants. Adds its slope to `gradient` unless that is empty.
LossStatistics actor_critic_loss(const Network& network, std::span<const float> theta, const Batch& batch,
                                 const LossOptions& options, LossScratch& scratch, std::span<float> gradient);

/// Mean Huber loss (threshold 1) of Q(s, a) against fixed targets; inputs [rows][inputs].
double q_loss(const Network& network, std::span<const float> theta, std::span<const float> inputs,
              std::span<const std::uint8_t> actions, std::span<const float> targets, LossScratch& scratch,
              std::span<float> gradient);

/// KL of the policy at `before` and the one at `after`, mean over the batch's rows; over all actions, so that
/// it does not matter how they were explored.
double divergence(const Network& network, std::span<const float> before, std::span<const float> after,
                  const Batch& batch, Cache& cache);

}  // namespace ballast::train
