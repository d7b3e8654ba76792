// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "model/train/learner.h"

namespace ballast::train {

/// One run: a learner in an environment.
struct TrainOptions {
  std::string learner;      ///< one of learner_names(), or q, reinforce
  std::string environment;  ///< one of env::environment_names(), or sim for queue
  std::vector<std::string>
      scenarios;  ///< of the queue environment, drawn anew each episode; empty: its own set
  std::uint64_t seed = 1;
  std::uint64_t steps = 100'000;     ///< of the environment
  std::filesystem::path out;         ///< folder, made if absent; empty: nothing is written
  std::uint64_t evaluate_every = 0;  ///< steps; 0: a fiftieth of all
  std::size_t evaluation_episodes = 10;
  std::size_t final_episodes = 100;  ///< that the result is judged by
  std::size_t workers = 0;           ///< a3c; 0: as tuned
  std::vector<std::string> without;  ///< of env::ablation_names() (queue environment)
  double p50_weight = 0;             ///< of the reward (queue environment); 0: env::QueueReward's
  double learning_rate = 0;          ///< at the start; 0: as tuned
  double gamma = 0;                  ///< discount a step; 0: as tuned
  std::size_t horizon = 0;           ///< steps of each environment before an update; 0: as tuned
  bool resume = false;               ///< go on from the checkpoint in `out`, if there is one
  bool one_exploration = false;      ///< ablation: all of a3c's workers explore alike
  std::filesystem::path initial;     ///< parameters to begin with (queue environment); empty: untrained
  /// Steps of imitate() before learning begins (queue environment); 0: none. They count for themselves.
  std::uint64_t imitate_steps = 0;
  std::optional<Hyper> hyper;  ///< in place of tuned()
};

/// A look at the run. All of it is the same for the same seed on the same machine (a3c with more than
/// one worker excepted: its threads race, as they should).
struct CurvePoint {
  std::uint64_t steps = 0;
  std::uint64_t episodes = 0;    ///< that ended while learning, in all
  double training_return = 0;    ///< mean over those since the point before; as before if there was none
  double evaluation_return = 0;  ///< mean of episodes without exploration, the same ones each time
  Progress progress;
};

struct TrainResult {
  std::vector<CurvePoint> curve;
  std::vector<float> theta;       ///< of the last step
  std::vector<float> best_theta;  ///< of the best evaluation
  /// Mean return of final_episodes fresh episodes without exploration, by the best parameters and
  /// by the last ones.
  double final_return = 0;
  double last_return = 0;
  double steps_per_s = 0;  ///< while learning, evaluations excluded
};

/// Trains. While it runs, `out` holds
///   curve.csv       one line a CurvePoint
///   checkpoint.bin  last good state
/// and at the end summary.json and, where the network is that of core/spec, parameters.bin (the best
/// by evaluation, as an agent loads it). A loss that is not finite stops the run with the step, the
/// worker and the last good checkpoint. `report`, if given, is called with each point.
Result<TrainResult> run(const TrainOptions& options,
                        const std::function<void(const CurvePoint&)>& report = nullptr);

/// Mean undiscounted return of `episodes` episodes of greedy actions; episode k is the same each time.
double evaluate(const Learner& learner, env::Environment& environment, std::size_t episodes,
                std::uint64_t seed);

/// What `technique` returns in the queue environment, in the episodes by which run() looks at learners.
Result<double> evaluate_technique(const std::string& technique, const std::vector<std::string>& scenarios,
                                  std::size_t episodes);

}  // namespace ballast::train
