// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "model/env/environment.h"

namespace ballast::env {

struct EnvironmentOptions {
  /// Of the queue environment: scenarios of model/sim, NAME[:VARIANT] or FILE[:VARIANT], one drawn
  /// for each episode. Empty: its own training set.
  std::vector<std::string> scenarios;
  /// Of the queue environment, for ablations: what the learner goes without, of ablation_names().
  std::vector<std::string> without;
  /// Of the queue environment: the median's part of the reward, in place of QueueReward's; 0: as it is there.
  double p50_weight = 0;
  /// Of the queue environment: the technique whose controller acts instead; empty: the actions act.
  std::string steered_by = {};
};

/// cartpole, acrobot, queue, two_servers.
const std::vector<std::string>& environment_names();

/// prior, context (pooled over the service) and churn (its term of the reward).
const std::vector<std::string>& ablation_names();

/// A maker of independent copies. `sim` is the queue environment. An unknown name is a usage error that
/// lists the known ones; so is a scenario or an ablation that does not exist.
Result<std::function<std::unique_ptr<Environment>()>> find_environment(
    const std::string& name, const EnvironmentOptions& options = {});

}  // namespace ballast::env
