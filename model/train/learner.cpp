// SPDX-License-Identifier: Apache-2.0
#include "model/train/learner.h"

#include <algorithm>
#include <array>

namespace ballast::train {

extern const LearnerKind kQLearning, kDqn, kPpo, kPg, kA2c, kA3c;

namespace {

constexpr std::array kKinds = {&kQLearning, &kDqn, &kPpo, &kPg, &kA2c, &kA3c};

const LearnerKind& kind_of(const std::string& name) {
  return **std::find_if(kKinds.begin(), kKinds.end(), [&](const auto* kind) { return kind->name == name; });
}

}  // namespace

const std::vector<std::string>& learner_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const auto* kind : kKinds) {
      all.emplace_back(kind->name);
    }
    return all;
  }();
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
  Hyper h = kind_of(learner).tuned(environment);
  h.shared_encoder = environment == "queue" && learner != "dqn" && learner != "q_learning";
  return h;
}

std::unique_ptr<Learner> make_learner(const std::string& name, const Job& job) {
  return kind_of(name).make(job);
}

}  // namespace ballast::train
