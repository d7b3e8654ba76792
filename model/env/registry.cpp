// SPDX-License-Identifier: Apache-2.0
#include "model/env/registry.h"

#include "model/env/acrobot.h"
#include "model/env/cart_pole.h"
#include "model/env/queue.h"
#include "model/env/two_servers.h"
#include "model/sim/technique.h"

namespace ballast::env {

namespace {

std::string listed(const std::vector<std::string>& names) {
  std::string list;
  for (const auto& each : names) {
    list += (list.empty() ? "" : ", ") + each;
  }
  return list;
}

Result<QueueOptions> queue_options(const EnvironmentOptions& asked) {
  QueueOptions options;
  options.reward.p50 = asked.p50_weight > 0 ? asked.p50_weight : options.reward.p50;
  if (!asked.steered_by.empty()) {
    const auto technique = sim::find_technique(asked.steered_by);
    if (!technique) {
      return technique.error();
    }
    if (!(*technique)->make_controller) {
      return Error::usage("technique " + asked.steered_by + " pushes no weights");
    }
    options.steered_by = asked.steered_by;
  }
  for (const auto& each : asked.without) {
    if (each == "prior") {
      options.prior = false;
    } else if (each == "context") {
      options.pooled_context = false;
    } else if (each == "churn") {
      options.reward.churn = 0;
    } else {
      return Error::usage("there is no ablation '" + each + "'; known: " + listed(ablation_names()));
    }
  }
  return options;
}

}  // namespace

const std::vector<std::string>& ablation_names() {
  static const std::vector<std::string> names = {"prior", "context", "churn"};
  return names;
}

const std::vector<std::string>& environment_names() {
  static const std::vector<std::string> names = {"cartpole", "acrobot", "queue", "two_servers"};
  return names;
}

Result<std::function<std::unique_ptr<Environment>()>> find_environment(const std::string& name,
                                                                       const EnvironmentOptions& options) {
  using Make = std::function<std::unique_ptr<Environment>()>;
  if (name == "cartpole") {
    return Make([] { return std::make_unique<CartPole>(); });
  }
  if (name == "acrobot") {
    return Make([] { return std::make_unique<Acrobot>(); });
  }
  if (name == "two_servers") {
    return Make([] { return std::make_unique<TwoServers>(); });
  }
  if (name == "queue" || name == "sim") {
    auto worlds = Queue::load(options.scenarios);
    if (!worlds) {
      return worlds.error();
    }
    const auto queue = queue_options(options);
    if (!queue) {
      return queue.error();
    }
    return Make([worlds = *worlds, queue = *queue] { return std::make_unique<Queue>(worlds, queue); });
  }
  return Error::usage("there is no environment '" + name + "'; known: " + listed(environment_names()));
}

}  // namespace ballast::env
