// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "core/base/result.h"
#include "core/spec/gains.h"
#include "core/spec/spec.h"
#include "model/twin/sharing.h"
#include "model/twin/twin.h"

namespace ballast::twin {

struct GainOptions {
  Sharing sharing = {};
  std::uint64_t seed = 1;
  std::size_t updates = 40;
  std::size_t replays = 4;  ///< of one trace, each with gains of its own: the input-dependent baseline
  bool baseline = true;     ///< ablation: without it the replays' mean is not taken off
  double block_s = 30;      ///< that gains are kept for
  std::size_t n_steps = 3;  ///< blocks until a return bootstraps: the slow part pays later than at once
  double gamma = 0.8;       ///< a block
  double rate = 0.6;        ///< of the mean, in deviations; falls to 0
  double deviation = 0.35;  ///< of exploration, in gains; falls to a third
  double critic_rate = 0.05;
  double most_s = 0;                                      ///< of computing; 0: all updates
  std::function<bool()> stopping = [] { return false; };  ///< asked before each replay: ends as most_s does
  /// As of the simulator's queue environment: churn is per tick there, too.
  spec::RewardWeights reward = {.p50 = 1, .p99 = 0.5F, .errors = 10, .imbalance = 0.1F, .churn = 0.005F};
};

struct GainReport {
  spec::Gains gains{};
  std::uint64_t epoch = 0, version = 0;  ///< of the shared gains that these are; 0: the twin's own
  std::size_t updates = 0;
  double simulated_s = 0;  ///< over all replays
  double computing_s = 0;
  double first_return = 0;  ///< mean n-step return beside the strong rule, over the first and
  double last_return = 0;   ///< the last tenth of the updates
};

/// Advantage actor-critic over the gains of one service, in its twin. The policy is a Gaussian around the
/// gains, kept within [-1, 1]; an action is drawn a block. A = R - V: R the n-step return of the reward
/// beside that of the strong rule on the same trace, V a linear critic of the block's load, slowed pods and
/// the gains in force. What both leave of the trace's own noise is the mean of the other replays' A in that
/// block (Mao et al. 2019), which is taken off. While gains are shared each update is taken at the newest of
/// them and pushed, and they are what is learned; else the steps are the twin's own. Ends with an error that
/// says the update where a number is not finite, with nothing learned. The same twin and options give the
/// same gains, unless most_s ends it.
Result<GainReport> learn_gains(const Twin& twin, const Theta& theta, const GainOptions& options);

}  // namespace ballast::twin
