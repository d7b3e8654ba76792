// SPDX-License-Identifier: Apache-2.0
#include "model/env/two_servers.h"

namespace ballast::env {

TwoServers::TwoServers() {
  spec_.name = "two_servers";
  spec_.observation = 2;
  spec_.context = 2;
  spec_.actions = 2;
  spec_.max_steps = 200;
  const double top = static_cast<double>(kCapacity) + 0.5;
  spec_.table = {{0, -0.5, top, kCapacity + 1}, {1, -0.5, top, kCapacity + 1}};
  spec_.reward_scale = 0.1;
}

void TwoServers::set(std::size_t state) {
  state_ = state;
  observation_ = {static_cast<float>(state / (kCapacity + 1)), static_cast<float>(state % (kCapacity + 1))};
}

void TwoServers::reset(std::uint64_t seed) {
  random_ = Random(seed);
  steps_ = 0;
  // From anywhere, so that rare states are seen too.
  set(random_.below(kStates));
}

std::array<TwoServers::Branch, 3> TwoServers::branches(std::size_t state, std::size_t action) {
  const std::array<std::size_t, 2> queues = {state / (kCapacity + 1), state % (kCapacity + 1)};
  const auto holding = static_cast<double>(queues[0] + queues[1]);
  std::array<Branch, 3> out{};
  std::array<std::size_t, 2> joined = queues;
  const bool full = queues[action] == kCapacity;
  joined[action] += full ? 0 : 1;
  out[0] = {kArrival, state_of(joined[0], joined[1]), -holding - (full ? kTurnedAway : 0)};
  for (std::size_t server = 0; server < 2; ++server) {
    std::array<std::size_t, 2> served = queues;
    served[server] -= served[server] > 0 ? 1 : 0;
    out[1 + server] = {kService[server], state_of(served[0], served[1]), -holding};
  }
  return out;
}

Outcome TwoServers::step(std::span<const std::size_t> actions) {
  const auto all = branches(state_, actions[0]);
  double left = random_.uniform();
  const Branch* taken = &all.back();
  for (const auto& branch : all) {
    left -= branch.probability;
    if (left < 0) {
      taken = &branch;
      break;
    }
  }
  set(taken->next);
  ++steps_;
  return {taken->reward, false, steps_ >= spec_.max_steps};
}

}  // namespace ballast::env
