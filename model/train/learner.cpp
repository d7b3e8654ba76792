// SPDX-License-Identifier: Apache-2.0
#include "model/train/learner.h"

#include <algorithm>

namespace ballast::train {
namespace {

Hyper for_pg(const std::string& environment) {
  Hyper h;
  h.environments = environment == "queue" ? 4 : 8;
  h.learning_rate = 3e-3;
  h.final_learning_rate = 0;
  h.normalise_advantages = true;
  return h;
}

Hyper for_a2c(const std::string& environment) {
  Hyper h;
  h.learning_rate = 3e-3;
  h.final_learning_rate = 0;
  h.environments = 8;
  h.horizon = 32;
  h.lambda = 1;
  h.normalise_advantages = true;
  if (environment == "queue") {
    h.learning_rate = 1e-3;
    h.lambda = 0.95;
    h.entropy_bonus = 0.001;
  }
  if (environment == "acrobot") {
    // Until it first reaches the goal every step costs the same, and normalising blows the noise of that
    // up to a direction: four seeds of ten then settled on one action and never saw the goal.
    h.normalise_advantages = false;
    h.entropy_bonus = 0.01;
  }
  return h;
}

Hyper for_ppo(const std::string& environment) {
  Hyper h;
  h.learning_rate = 1e-3;
  h.final_learning_rate = 0;
  h.environments = 8;
  h.horizon = 32;
  h.gamma = 0.98;
  h.lambda = 0.8;
  h.epochs = 20;
  h.minibatch = 256;
  h.clip = 0.2;
  h.normalise_advantages = true;
  if (environment != "cartpole") {
    h.horizon = 64;
    h.gamma = 0.99;
    h.lambda = 0.94;
    h.epochs = 4;
    h.minibatch = 128;
  }
  return h;
}

Hyper for_a3c(const std::string& environment) {
  Hyper h;
  h.optimiser.rule = Rule::kRmsProp;
  h.learning_rate = 1e-3;
  h.environments = 1;
  h.horizon = 20;
  h.lambda = 0.95;
  h.entropy_bonus = environment == "queue" ? 0.001 : 0.01;
  h.workers = 4;
  h.optimiser.clip_norm = 0.5;
  return h;
}

Hyper for_dqn(const std::string& environment) {
  Hyper h;
  h.learning_rate = 2.3e-3;
  h.final_learning_rate = 2.3e-4;
  h.double_q = true;
  h.optimiser.clip_norm = 10;
  if (environment == "acrobot") {
    h.learning_rate = 6.3e-4;
    h.final_learning_rate = 6.3e-5;
    h.train_every = 4;
    h.gradient_steps = 2;
    h.target_every = 250;
    h.exploration_fraction = 0.12;
    h.final_epsilon = 0.05;
  }
  if (environment == "queue") {
    h.learning_rate = 5e-4;
    h.final_learning_rate = 5e-5;
    h.train_every = 16;
    h.gradient_steps = 8;
    h.target_every = 500;
  }
  return h;
}

Hyper for_q_learning() {
  Hyper h;
  h.exploration_fraction = 0.5;
  h.final_epsilon = 0.02;
  h.final_learning_rate = 0.02;  // least step size
  return h;
}

}  // namespace

const std::vector<std::string>& learner_names() {
  static const std::vector<std::string> names = {"q_learning", "dqn", "ppo", "pg", "a2c", "a3c"};
  return names;
}

Result<std::string> canonical_learner(const std::string& name) {
  const std::string meant = name == "q" ? "q_learning" : name == "reinforce" ? "pg" : name;
  std::string known;
  for (const auto& each : learner_names()) {
    if (each == meant) {
      return each;
    }
    known += (known.empty() ? "" : ", ") + each;
  }
  return Error::usage("there is no learner '" + name + "'; known: " + known);
}

Hyper tuned(const std::string& learner, const std::string& environment) {
  Hyper h = learner == "pg"    ? for_pg(environment)
            : learner == "a2c" ? for_a2c(environment)
            : learner == "ppo" ? for_ppo(environment)
            : learner == "a3c" ? for_a3c(environment)
            : learner == "dqn" ? for_dqn(environment)
                               : for_q_learning();
  h.shared_encoder = environment == "queue" && learner != "dqn" && learner != "q_learning";
  return h;
}

std::unique_ptr<Learner> make_learner(const std::string& name, const Job& job) {
  if (name == "a3c") {
    return make_a3c(job);
  }
  if (name == "dqn") {
    return make_dqn(job);
  }
  return name == "q_learning" ? make_q_learning(job) : make_on_policy(name, job);
}

}  // namespace ballast::train
