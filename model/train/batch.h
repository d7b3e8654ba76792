// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "model/env/environment.h"
#include "model/env/random.h"
#include "model/train/network.h"

namespace ballast::train {

using Environments = std::vector<std::unique_ptr<env::Environment>>;

/// Experience to learn from. A step of an environment is a row for each agent that acted in it; the
/// critic, the reward and so the advantage belong to the step.
struct Batch {
  std::vector<float> observations;     ///< [rows][observation]
  std::vector<std::uint8_t> actions;   ///< [rows]
  std::vector<float> log_probability;  ///< [rows], of the acting policy, exploration included
  std::vector<std::uint32_t> step;     ///< [rows], which step the row belongs to
  std::vector<float> contexts;         ///< [steps][context]
  std::vector<float> advantages;       ///< [steps]
  std::vector<float> returns;          ///< [steps]

  std::size_t rows() const { return actions.size(); }
  std::size_t steps() const { return returns.size(); }
  void clear();
};

/// How a worker explores: it samples from (1 - epsilon) softmax(logits / temperature) + epsilon / |A|.
struct Exploration {
  double temperature = 1;
  double epsilon = 0;
};

struct ReturnOptions {
  double gamma = 0.99;
  double lambda = 1;  ///< of the generalised advantage (Schulman et al. 2016); 1: n-step returns
};

/// Draws an action and its probability. `scratch` holds one number an action.
std::size_t sample_action(std::span<const float> logits, const Exploration& exploration, env::Random& random,
                          std::vector<double>& scratch, float& log_probability);

/// Acts in a set of environments in step, episode after episode. Not thread-safe.
class Collector {
 public:
  /// Episode k of environment e begins with a seed made from (seed, e, k).
  Collector(Environments environments, std::uint64_t seed);

  /// `horizon` steps of every environment; what lies beyond is bootstrapped from the critic.
  void collect(const Network& network, std::span<const float> theta, std::size_t horizon,
               const Exploration& exploration, const ReturnOptions& options, Batch& batch);
  /// One whole episode of every environment, from its start to its end; nothing is bootstrapped.
  void collect_episodes(const Network& network, std::span<const float> theta, const Exploration& exploration,
                        const ReturnOptions& options, Batch& batch);

  /// Undiscounted returns of the episodes that ended since the call before.
  std::vector<double> take_returns();
  const env::Spec& spec() const { return slots_.front().environment->spec(); }
  std::size_t environments() const { return slots_.size(); }

 private:
  struct Step {
    float reward = 0;
    float value = 0;
    bool ends = false;      ///< nothing of what comes after belongs to this episode
    float beyond = 0;       ///< value of what the end cut off; 0 where the episode terminated
    std::size_t index = 0;  ///< in the batch, before flattening
  };
  struct Slot {
    std::unique_ptr<env::Environment> environment;
    std::uint64_t episodes = 0;
    double episode_return = 0;
    bool idle = false;
    std::vector<Step> steps;
  };
  void begin(Slot& slot);
  /// One step of every slot that is not idle. `whole` episodes: a slot whose episode ends idles.
  void advance(const Network& network, std::span<const float> theta, const Exploration& exploration,
               bool whole, Batch& batch);
  void act(Slot& slot, std::size_t& row, const Exploration& exploration, Batch& batch);
  void finish(const Network& network, std::span<const float> theta, const ReturnOptions& options, bool whole,
              Batch& batch);

  std::vector<Slot> slots_;
  std::uint64_t seed_;
  env::Random random_;
  std::vector<double> returns_;
  Cache actor_, critic_;
  std::vector<float> inputs_, contexts_;
  std::vector<std::size_t> chosen_;
  std::vector<double> scratch_;
};

}  // namespace ballast::train
