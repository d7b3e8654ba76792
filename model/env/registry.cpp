// SPDX-License-Identifier: Apache-2.0
#include "model/env/registry.h"

#include "model/env/acrobot.h"
#include "model/env/cart_pole.h"
#include "model/env/queue.h"
#include "model/env/two_servers.h"

namespace ballast::env {

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
    return Make([worlds = *worlds] { return std::make_unique<Queue>(worlds); });
  }
  std::string known;
  for (const auto& each : environment_names()) {
    known += (known.empty() ? "" : ", ") + each;
  }
  return Error::usage("there is no environment '" + name + "'; known: " + known);
}

}  // namespace ballast::env
