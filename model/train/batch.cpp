// SPDX-License-Identifier: Apache-2.0
#include "model/train/batch.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ballast::train {

void Batch::clear() {
  observations.clear();
  actions.clear();
  log_probability.clear();
  step.clear();
  contexts.clear();
  advantages.clear();
  returns.clear();
}

std::size_t sample_action(std::span<const float> logits, const Exploration& exploration, env::Random& random,
                          std::vector<double>& scratch, float& log_probability) {
  const std::size_t n = logits.size();
  const float highest = *std::max_element(logits.begin(), logits.end());
  scratch.resize(n);
  double sum = 0;
  for (std::size_t a = 0; a < n; ++a) {
    scratch[a] = std::exp(static_cast<double>(logits[a] - highest) / exploration.temperature);
    sum += scratch[a];
  }
  double left = random.uniform();
  std::size_t action = n - 1;
  for (std::size_t a = 0; a < n; ++a) {
    scratch[a] = (1 - exploration.epsilon) * scratch[a] / sum + exploration.epsilon / static_cast<double>(n);
    left -= scratch[a];
    if (left < 0) {
      action = a;
      break;
    }
  }
  log_probability = static_cast<float>(std::log(scratch[action]));
  return action;
}

Collector::Collector(Environments environments, std::uint64_t seed)
    : seed_(seed), random_(env::Random::derive(seed, 1'000'003)) {
  for (auto& environment : environments) {
    slots_.emplace_back();
    slots_.back().environment = std::move(environment);
  }
  for (auto& slot : slots_) {
    begin(slot);
  }
}

void Collector::begin(Slot& slot) {
  const auto index = static_cast<std::uint64_t>(&slot - slots_.data());
  slot.environment->reset(env::Random::derive(env::Random::derive(seed_, index), slot.episodes++));
  slot.episode_return = 0;
}

void Collector::act(Slot& slot, std::size_t& row, const Exploration& exploration, Batch& batch) {
  const std::size_t agents = slot.environment->agents();
  const std::size_t outputs = spec().actions;
  const auto step = static_cast<std::uint32_t>(batch.returns.size());
  chosen_.clear();
  for (std::size_t agent = 0; agent < agents; ++agent, ++row) {
    float log_probability = 0;
    const std::span<const float> logits(actor_.out.data() + row * outputs, outputs);
    chosen_.push_back(sample_action(logits, exploration, random_, scratch_, log_probability));
    const auto observation = slot.environment->observation(agent);
    batch.observations.insert(batch.observations.end(), observation.begin(), observation.end());
    batch.actions.push_back(static_cast<std::uint8_t>(chosen_.back()));
    batch.log_probability.push_back(log_probability);
    batch.step.push_back(step);
  }
  const auto context = slot.environment->context();
  batch.contexts.insert(batch.contexts.end(), context.begin(), context.end());
  batch.returns.push_back(0);
}

void Collector::advance(const Network& network, std::span<const float> theta, const Exploration& exploration,
                        bool whole, Batch& batch) {
  inputs_.clear();
  contexts_.clear();
  for (const auto& slot : slots_) {
    if (slot.idle) {
      continue;
    }
    for (std::size_t agent = 0; agent < slot.environment->agents(); ++agent) {
      const auto observation = slot.environment->observation(agent);
      inputs_.insert(inputs_.end(), observation.begin(), observation.end());
    }
    const auto context = slot.environment->context();
    contexts_.insert(contexts_.end(), context.begin(), context.end());
  }
  network.actor(theta, inputs_, actor_);
  network.critic(theta, contexts_, critic_);
  std::size_t row = 0;
  std::size_t place = 0;
  const double scale = spec().reward_scale;
  for (auto& slot : slots_) {
    if (slot.idle) {
      continue;
    }
    Step step;
    step.index = batch.returns.size();
    step.value = critic_.out[place++];
    act(slot, row, exploration, batch);
    const env::Outcome outcome = slot.environment->step(chosen_);
    slot.episode_return += outcome.reward;
    step.reward = static_cast<float>(outcome.reward * scale);
    step.ends = outcome.done();
    slot.steps.push_back(step);
    if (!outcome.done()) {
      continue;
    }
    returns_.push_back(slot.episode_return);
    if (outcome.truncated && !whole) {
      Cache cut_off;
      network.critic(theta, slot.environment->context(), cut_off);
      slot.steps.back().beyond = cut_off.out[0];
    }
    slot.idle = whole;
    if (!whole) {
      begin(slot);
    }
  }
}

void Collector::finish(const Network& network, std::span<const float> theta, const ReturnOptions& options,
                       bool whole, Batch& batch) {
  batch.advantages.assign(batch.returns.size(), 0);
  const auto gamma = static_cast<float>(options.gamma);
  const auto decay = static_cast<float>(options.gamma * options.lambda);
  for (auto& slot : slots_) {
    float next = 0;
    if (!whole) {
      network.critic(theta, slot.environment->context(), critic_);
      next = critic_.out[0];
    }
    float advantage = 0;
    for (std::size_t t = slot.steps.size(); t-- > 0;) {
      const Step& step = slot.steps[t];
      if (step.ends) {
        next = step.beyond;
        advantage = 0;
      }
      advantage = step.reward + gamma * next - step.value + decay * advantage;
      next = step.value;
      batch.advantages[step.index] = advantage;
      batch.returns[step.index] = advantage + step.value;
    }
    slot.steps.clear();
  }
}

void Collector::collect(const Network& network, std::span<const float> theta, std::size_t horizon,
                        const Exploration& exploration, const ReturnOptions& options, Batch& batch) {
  batch.clear();
  for (std::size_t t = 0; t < horizon; ++t) {
    advance(network, theta, exploration, false, batch);
  }
  finish(network, theta, options, false, batch);
}

void Collector::collect_episodes(const Network& network, std::span<const float> theta,
                                 const Exploration& exploration, const ReturnOptions& options, Batch& batch) {
  batch.clear();
  for (auto& slot : slots_) {
    begin(slot);
    slot.idle = false;
  }
  const auto busy = [this] {
    return std::any_of(slots_.begin(), slots_.end(), [](const Slot& slot) { return !slot.idle; });
  };
  while (busy()) {
    advance(network, theta, exploration, true, batch);
  }
  finish(network, theta, options, true, batch);
}

std::vector<double> Collector::take_returns() {
  return std::exchange(returns_, {});
}

}  // namespace ballast::train
