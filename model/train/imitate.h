// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "core/base/result.h"
#include "model/train/learner.h"

namespace ballast::train {

struct ImitateOptions {
  std::uint64_t steps = 50'000;  ///< of the environments
  double learning_rate = 1e-3;   ///< Adam's at the start; falls to a tenth
  std::size_t environments = 8;
  std::size_t horizon = 32;  ///< steps between updates
  std::size_t epochs = 2;
  std::uint64_t seed = 1;
};

/// Where learning begins when the reward alone is too faint to begin from nothing: the network learns
/// to do what the environment advises (Environment::advice), in the states that its own actions lead to
/// (DAgger, Ross et al. 2011, without the memory of old rounds). Cross-entropy on the actor; the
/// critic is left as it is. Fails when the environment gives no advice.
Result<std::vector<float>> imitate(const Network& network, std::vector<float> theta,
                                   const MakeEnvironment& make_environment, const ImitateOptions& options);

/// Mean cross-entropy of the actor against fixed actions; adds its slope to `gradient` unless empty.
double cross_entropy(const Network& network, std::span<const float> theta, std::span<const float> inputs,
                     std::span<const std::uint8_t> actions, Cache& cache, std::span<float> gradient);

}  // namespace ballast::train
