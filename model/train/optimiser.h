// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace ballast::train {

enum class Rule {
  kRmsProp,  ///< non-centred, without momentum (Mnih et al. 2016): g / sqrt(mean square + epsilon)
  kAdam,     ///< Kingma, Ba 2015, betas .9 and .999
};

struct OptimiserOptions {
  Rule rule = Rule::kAdam;
  double alpha = 0.99;     ///< RMSProp's decay
  double epsilon = 1e-5;   ///< under the root for RMSProp, beside it for Adam
  double clip_norm = 0.5;  ///< of the whole gradient; 0: not clipped
};

/// Its state is plain, so that a checkpoint can hold it.
struct OptimiserState {
  std::vector<float> mean;    ///< Adam's first moment; empty for RMSProp
  std::vector<float> square;  ///< second moment
  double steps = 0;
  bool operator==(const OptimiserState&) const = default;
};

/// One step down a gradient. Not thread-safe.
class Optimiser {
 public:
  Optimiser(const OptimiserOptions& options, std::size_t parameters);
  /// The gradient is scaled in place when it is clipped. Returns its L2 norm before; when that is not
  /// finite nothing else is changed.
  double step(std::span<float> theta, std::span<float> gradient, double learning_rate);

  const OptimiserState& state() const { return state_; }
  /// REQUIRES sizes as in state().
  void restore(OptimiserState state) { state_ = std::move(state); }

 private:
  OptimiserOptions options_;
  OptimiserState state_;
};

}  // namespace ballast::train
