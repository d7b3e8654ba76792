// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "model/train/learner.h"
#include "model/train/loss.h"

/// What all learners do alike.
namespace ballast::train {

/// Adds up what take_progress() tells.
class Meter {
 public:
  void add(const LossStatistics& statistics) { add(statistics.policy, statistics.value, statistics.entropy); }
  void add(double policy_loss, double value_loss, double entropy) {
    ++sum_.updates;
    sum_.policy_loss += policy_loss;
    sum_.value_loss += value_loss;
    sum_.entropy += entropy;
  }
  void returns(const std::vector<double>& values) {
    sum_.returns.insert(sum_.returns.end(), values.begin(), values.end());
  }
  Progress take(double learning_rate, double entropy_bonus) {
    Progress out = std::exchange(sum_, {});
    const double n = std::max<double>(1, static_cast<double>(out.updates));
    out.policy_loss /= n;
    out.value_loss /= n;
    out.entropy /= n;
    out.learning_rate = learning_rate;
    out.entropy_bonus = entropy_bonus;
    return out;
  }

 private:
  Progress sum_;
};

inline std::size_t greedy(const Network& network, std::span<const float> theta,
                          std::span<const float> observation, Cache& cache) {
  network.actor(theta, observation, cache);
  return static_cast<std::size_t>(std::max_element(cache.out.begin(), cache.out.end()) - cache.out.begin());
}

inline Error not_finite(std::uint64_t step, std::size_t worker) {
  return Error::failed("the loss or its gradient is not finite at step " + std::to_string(step) +
                       ", worker " + std::to_string(worker));
}

inline Status check_state(const LearnerState& state, std::size_t parameters, const OptimiserState& like) {
  if (state.theta.size() != parameters || state.optimiser.mean.size() != like.mean.size() ||
      state.optimiser.square.size() != like.square.size()) {
    return Error::failed("the checkpoint holds " + std::to_string(state.theta.size()) +
                         " parameters where this learner has " + std::to_string(parameters) +
                         ", or another optimiser's state");
  }
  return ok();
}

}  // namespace ballast::train
