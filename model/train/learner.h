// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "model/env/environment.h"
#include "model/train/batch.h"
#include "model/train/network.h"
#include "model/train/optimiser.h"

/// Six learners on one Environment interface, for the bench: they share networks, losses and the
/// way they are run, so that a comparison compares the learners. No Torch.
namespace ballast::train {

/// What may be tuned. Not every learner reads every one.
struct Hyper {
  std::size_t hidden = 64;
  double learning_rate = 7e-4;
  double final_learning_rate = 7e-4;  ///< reached in a straight line at the last step
  double gamma = 0.99;
  double lambda = 1;
  std::size_t environments = 8;  ///< that act in step (a3c: a worker)
  std::size_t horizon = 5;       ///< steps of each before an update: t_max
  double entropy_bonus = 0;
  double value_coefficient = 0.5;
  OptimiserOptions optimiser;
  // ppo
  std::size_t epochs = 1;
  std::size_t minibatch = 0;  ///< steps; 0: all
  double clip = 0;
  // dqn, q_learning
  std::size_t replay = 100'000;
  std::size_t learning_starts = 1'000;
  std::size_t train_every = 256;       ///< steps
  std::size_t gradient_steps = 128;    ///< at each of them
  std::size_t target_every = 10;       ///< steps between copies into the target network
  double exploration_fraction = 0.16;  ///< of all steps, over which epsilon falls from 1
  double final_epsilon = 0.04;
  // a3c
  std::size_t workers = 2;
  double target_divergence = 0.003;  ///< of one update, that the learning rate is led by
  // Together, as they would be padded apart.
  bool shared_encoder = false;        ///< as core/spec has it; needed for parameters that an agent can load
  bool normalise_advantages = false;  ///< pg, ppo, a3c
  bool double_q = true;               ///< dqn
  bool adapt = true;                  ///< a3c: learning rate and exploration adapt while learning
  bool one_exploration = false;       ///< a3c, ablation: all workers explore alike
};

using MakeEnvironment = std::function<std::unique_ptr<env::Environment>()>;

struct Job {
  MakeEnvironment make_environment;
  std::uint64_t seed = 1;
  std::uint64_t steps = 0;  ///< planned in all, for what is annealed
  Hyper hyper;
};

/// All that a checkpoint keeps.
struct LearnerState {
  std::vector<float> theta;
  OptimiserState optimiser;
  std::uint64_t steps = 0;
  std::vector<double> extra;  ///< of the learner: adapted rates and exploration
  bool operator==(const LearnerState&) const = default;
};

/// Since the look before.
struct Progress {
  std::vector<double> returns;  ///< of the episodes that ended, exploration included
  std::uint64_t updates = 0;
  double policy_loss = 0;  ///< means over the updates
  double value_loss = 0;
  double entropy = 0;
  double learning_rate = 0;  ///< in force
  double entropy_bonus = 0;  ///< in force (a3c: mean over the workers)
};

/// Learns in steps. Not thread-safe, whatever threads it uses inside.
class Learner {
 public:
  virtual ~Learner() = default;
  /// Until at least `steps` steps of the environments were taken since the very beginning. An error
  /// (a loss that is not finite) names the step and the worker; state() is then the last good one.
  virtual Status advance(std::uint64_t steps) = 0;
  virtual std::uint64_t steps() const = 0;
  /// The action without exploration.
  virtual std::size_t act(std::span<const float> observation) const = 0;
  virtual LearnerState state() const = 0;
  /// From a state() of the same learner with the same shapes. Episodes begin anew, and what a replay
  /// memory held is gathered anew.
  virtual Status restore(LearnerState state) = 0;
  virtual Progress take_progress() = 0;
  /// The network behind act(); null for a table.
  virtual const Network* network() const = 0;
};

/// One learner: its own file defines one of these, and learner.cpp lists it.
struct LearnerKind {
  std::string_view name;
  std::unique_ptr<Learner> (*make)(const Job& job);
  Hyper (*tuned)(const std::string& environment);
};

/// Names in the order of the paper's figure 3.
const std::vector<std::string>& learner_names();
/// An unknown name is a usage error that lists the known ones. `q` and `reinforce` are
/// q_learning and pg.
Result<std::string> canonical_learner(const std::string& name);
/// REQUIRES a canonical name; so does tuned().
std::unique_ptr<Learner> make_learner(const std::string& name, const Job& job);
/// What this learner is run with in this environment, the same budget of tuning for each.
Hyper tuned(const std::string& learner, const std::string& environment);

}  // namespace ballast::train
