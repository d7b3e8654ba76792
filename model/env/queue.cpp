// SPDX-License-Identifier: Apache-2.0
#include "model/env/queue.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "core/spec/reward.h"
#include "core/spec/rollout.h"
#include "model/env/random.h"

namespace ballast::env {
namespace {

constexpr double kShortestMs = 0.001;  // keeps the logarithm finite

// Of the advice: the least load it reckons with, how far it goes, and gaps that ask for a step of s or 2s.
constexpr double kLeastLoad = 0.05;
constexpr double kAdviceBound = 0.65;
// The rule is for differences that stay. Where they hardly outlast the loop (log of persistence over
// delay) the offset of a pod would be that of what it was before, and near saturation the same rule
// buys its tail with the median: there the advice goes back to the prior. Nowhere is all of it advised:
// that has 1.02 of the prior's median where slowness moves every minute, which is as much as the gate allows.
constexpr double kMostAdvice = 0.92;
constexpr double kBriefPersistence = 2.8;
constexpr double kLastingPersistence = 3.6;
constexpr double kFullLoad = 0.93;
constexpr double kLoadRange = 0.12;
constexpr double kNearEnough = 0.045;
constexpr double kFarOff = 0.12;

constexpr double kBurstyWorlds = 0.4;  // share of the training set
constexpr double kMostLoad = 0.9;      // of a training world on average, its peaks included

double pooled_quantile(const std::deque<std::vector<float>>& window, double q) {
  std::vector<float> all;
  for (const auto& part : window) {
    all.insert(all.end(), part.begin(), part.end());
  }
  return sim::quantile(all, q);
}

/// Bursts, and peaks beyond what the pods can do, which a deadline ends: what a policy learned at even
/// loads it has to unlearn within seconds here.
void make_bursty(sim::Scenario& world, Random& random) {
  const double swing = 0.2 + 0.4 * random.uniform();
  const double period = 4 + 16 * random.uniform();
  world.arrivals.mmpp = {{1 - swing, period}, {1 + swing, period}};
  if (random.uniform() < 0.5) {
    sim::Spike spike;
    spike.at_s = 5 + 20 * random.uniform();
    spike.duration_s = 4 + 10 * random.uniform();
    spike.factor = 1.2 + 0.6 * random.uniform();
    spike.every_s = 25 + 35 * random.uniform();
    world.arrivals.spikes.push_back(spike);
    world.arrivals.rho =
        std::min(world.arrivals.rho, kMostLoad / (1 + (spike.factor - 1) * spike.duration_s / spike.every_s));
  }
  world.deadline_s = 1 + 3 * random.uniform();
  if (random.uniform() < 0.5) {
    for (sim::ServerSpec& server : world.servers) {
      server.workers = 2;
    }
    world.service.mean_s *= 2;
  }
}

double log_ms(double seconds) {
  return std::log(std::max(seconds * 1000, kShortestMs));
}

}  // namespace

Queue::Queue(Worlds worlds, const QueueOptions& options)
    : worlds_(std::move(worlds)), reward_(options.reward), options_(options) {
  spec_.name = "queue";
  spec_.observation = spec::kObservation;
  spec_.context = spec::kObservation;
  spec_.actions = spec::kActions;
  spec_.max_steps = kMaxSteps;
  spec_.max_agents = 64;
  spec_.table = {{spec::kPrior, -1.5, 1.5, 9}, {spec::kLoad, 0.2, 1.0, 8}, {spec::kLogWeight, -0.7, 0.7, 9}};
}

Result<Queue::Worlds> Queue::load(const std::vector<std::string>& scenarios) {
  if (scenarios.empty()) {
    return Worlds(nullptr);
  }
  auto worlds = std::make_shared<std::vector<sim::Scenario>>();
  for (const auto& reference : scenarios) {
    auto scenario = sim::load_scenario(reference);
    if (!scenario) {
      return scenario.error();
    }
    worlds->push_back(std::move(*scenario));
  }
  return Worlds(std::move(worlds));
}

sim::Scenario Queue::random_world(std::uint64_t seed) {
  Random random(Random::derive(seed, 77));
  sim::Scenario world;
  world.name = "random";
  world.duration_s = 3600;  // the episode's length ends it
  constexpr std::array<std::uint32_t, 4> kClients = {1, 5, 20, 50};
  world.clients = kClients[random.below(kClients.size())];
  const std::size_t pods = 3 + random.below(10);
  const bool unequal = random.uniform() < 0.8;
  constexpr std::array<double, 5> kSpeeds = {1, 0.75, 0.5, 0.35, 0.25};
  for (std::size_t i = 0; i < pods; ++i) {
    sim::ServerSpec server;
    server.speed = unequal ? kSpeeds[random.below(kSpeeds.size())] : 1;
    world.servers.push_back(server);
  }
  world.service.mean_s = 0.005 + 0.015 * random.uniform();
  world.service.cv = 0.5 + 1.5 * random.uniform();
  world.arrivals.rho = 0.3 + 0.6 * random.uniform();
  if (random.uniform() < 0.3) {
    sim::Slowness slow;
    slow.kind = sim::Slowness::Kind::kRotate;
    slow.count = static_cast<std::uint32_t>(1 + random.below(std::max<std::size_t>(1, pods / 3)));
    slow.factor = 0.4 + 0.3 * random.uniform();
    slow.every_s = 5 + 55 * random.uniform();
    world.slowness.push_back(slow);
    world.arrivals.rho = std::min(world.arrivals.rho, 0.75);
  }
  if (random.uniform() < kBurstyWorlds) {
    make_bursty(world, random);
  }
  return world;
}

void Queue::reset(std::uint64_t seed) {
  const sim::Scenario world = worlds_ ? (*worlds_)[Random(seed).below(worlds_->size())] : random_world(seed);
  loop_ = options_.loop;
  if (world.telemetry.tick_s > 0) {
    loop_.tick_s = world.telemetry.tick_s;
  }
  const sim::Technique* by =
      options_.steered_by.empty() ? nullptr : *sim::find_technique(options_.steered_by);
  sim::Technique own = by != nullptr ? *by : sim::steered_technique();
  own.make_controller = nullptr;  // stepped here
  for (Side* side : {&own_, &twin_}) {
    *side = {};
    side->simulation =
        std::make_unique<sim::Simulation>(world, side == &own_ ? own : sim::steered_technique(), seed, loop_);
    side->simulation->take_outcome();
  }
  own_.controller = by != nullptr ? by->make_controller(world, loop_) : nullptr;
  steered_offsets_.clear();
  twin_.controller =
      sim::make_agent_controller(std::make_unique<decide::PriorPolicy>(), loop_, world.clients);
  loop_rooms_ = std::make_unique<sim::AgentLoop>(loop_, world.clients);
  prior_ = std::make_unique<decide::PriorPolicy>();
  clock_ = 0;
  steps_ = 0;
  moved_ = 0;
  over_ = false;
  while (clock_ < kWarmUpS && tick()) {
    if (look()) {
      propose_and_push({});
    }
  }
  skip_to_agents();
}

void Queue::absorb(Side& side) const {
  sim::Simulation::Outcome outcome = side.simulation->take_outcome();
  side.window.push_back(std::move(outcome.latencies));
  side.errors.push_back(outcome.errors);
  if (side.window.size() > reward_.window_ticks) {
    side.window.pop_front();
    side.errors.pop_front();
  }
}

bool Queue::tick() {
  clock_ += loop_.tick_s;
  const bool goes_on = own_.simulation->run_until(clock_);
  const bool twin_goes_on = twin_.simulation->run_until(clock_);
  absorb(own_);
  absorb(twin_);
  if (twin_goes_on) {
    const auto members = twin_.simulation->members();
    if (const auto weights = twin_.controller->tick(clock_, members, twin_.simulation->take_telemetry())) {
      twin_.simulation->push_weights(members, *weights);
    }
  }
  over_ = !goes_on || !twin_goes_on;
  return !over_;
}

bool Queue::look() {
  acting_.clear();
  servers_ = own_.simulation->members();
  const auto telemetry = own_.simulation->take_telemetry();
  seen_ = loop_rooms_->observe(clock_, servers_, telemetry);
  steered_ = own_.controller ? own_.controller->tick(clock_, servers_, telemetry) : std::nullopt;
  if (!seen_) {
    return false;
  }
  proposal_ = prior_->propose(*seen_, loop_rooms_->timing());
  ablate();
  if (!seen_->endpoints.empty()) {
    context_ = spec::context_of(seen_->endpoints.front().features);
  }
  if (!proposal_.neutral && !proposal_.level) {
    for (std::size_t i = 0; i < seen_->endpoints.size(); ++i) {
      if (seen_->endpoints[i].telemetry.known) {
        acting_.push_back(i);
      }
    }
  }
  if (!acting_.empty()) {
    advise();
  }
  return true;
}

void Queue::ablate() {
  measured_.clear();
  for (auto& endpoint : proposal_.endpoints) {
    measured_.push_back(endpoint.log_prior);
    endpoint.log_prior = options_.prior ? endpoint.log_prior : 0;
  }
  if (!options_.pooled_context) {
    for (auto& endpoint : seen_->endpoints) {
      std::fill(endpoint.features.begin() + spec::kFeatures, endpoint.features.end(), 0.0F);
    }
  }
}

void Queue::advise() {
  double capacity = 0;
  double roots = 0;
  double used = 0;
  for (const std::size_t i : acting_) {
    const double own = std::exp(measured_[i]);
    capacity += own;
    roots += std::sqrt(own);
    used += own * std::clamp(seen_->endpoints[i].telemetry.utilisation, 0.0, 1.0);
  }
  const double load = std::clamp(used / capacity, kLeastLoad, 1.0);
  const auto persistence = static_cast<double>(seen_->endpoints[acting_[0]].features[spec::kPersistence]);
  const double strength =
      kMostAdvice *
      std::clamp((persistence - kBriefPersistence) / (kLastingPersistence - kBriefPersistence), 0.0, 1.0) *
      std::clamp((kFullLoad - load) / kLoadRange, 0.0, 1.0);
  advice_.clear();
  for (const std::size_t i : acting_) {
    const double own = std::exp(measured_[i]);
    const double share = own - std::sqrt(own) * capacity * (1 - load) / roots;
    const double wanted = std::log(std::max(share / (own * load), std::exp(-kAdviceBound)));
    const double beside_prior = options_.prior ? 0 : measured_[i];
    const double gap = std::clamp(strength * std::clamp(wanted, -kAdviceBound, kAdviceBound) + beside_prior,
                                  -kAdviceBound, kAdviceBound) -
                       seen_->endpoints[i].offset;
    const double size = std::abs(gap);
    const std::size_t steps = size > kFarOff ? 2 : size > kNearEnough ? 1 : 0;
    advice_.push_back(gap > 0 ? spec::kKeep + steps : spec::kKeep - steps);
  }
}

void Queue::steer() {
  if (!steered_) {
    return;
  }
  std::vector<double> offsets;
  double mean = 0;
  for (std::size_t i = 0; i < steered_->size(); ++i) {
    const double prior = i < proposal_.endpoints.size() ? proposal_.endpoints[i].log_prior : 0;
    offsets.push_back(std::log(std::max((*steered_)[i], 1e-3)) - prior);
    mean += offsets.back() / static_cast<double>(steered_->size());
  }
  for (std::size_t i = 0; i < offsets.size(); ++i) {
    offsets[i] -= mean;
    moved_ += i < steered_offsets_.size() ? std::abs(offsets[i] - steered_offsets_[i]) : 0;
  }
  steered_offsets_ = offsets;
  own_.simulation->push_weights(servers_, *steered_);
}

void Queue::propose_and_push(std::span<const std::size_t> actions) {
  constexpr double kBound = spec::kMaxOffset;
  moved_ = 0;
  if (own_.controller) {
    loop_rooms_->act(proposal_, servers_);  // ends its tick
    steer();
    return;
  }
  for (std::size_t i = 0; i < proposal_.endpoints.size() && !proposal_.level; ++i) {
    proposal_.endpoints[i].offset = seen_->endpoints[i].offset;
  }
  for (std::size_t i = 0; i < actions.size(); ++i) {
    decide::Proposal& endpoint = proposal_.endpoints[acting_[i]];
    const double before = endpoint.offset;
    endpoint.action = actions[i];
    endpoint.offset =
        std::clamp(before + static_cast<double>(spec::kActionStep[actions[i]]), -kBound, kBound);
    moved_ += std::abs(endpoint.offset - before);
  }
  decide::tilt_if_equal(proposal_);
  if (const auto weights = loop_rooms_->act(proposal_, servers_)) {
    own_.simulation->push_weights(servers_, *weights);
  }
}

void Queue::skip_to_agents() {
  // Ends: every scenario is over at some time, and so is this one after as many ticks as an episode has.
  for (std::size_t skipped = 0; !over_; ++skipped) {
    if (tick() && look() && !acting_.empty()) {
      return;
    }
    if (skipped > kMaxSteps) {
      over_ = true;
    }
    if (!over_ && seen_) {
      propose_and_push({});
    }
  }
}

double Queue::cost(const Side& side) const {
  std::size_t requests = 0;
  std::uint64_t errors = 0;
  for (std::size_t i = 0; i < side.window.size(); ++i) {
    requests += side.window[i].size();
    errors += side.errors[i];
  }
  if (requests == 0) {
    return 0;
  }
  const double rate = static_cast<double>(errors) / static_cast<double>(requests);
  return spec::cost(spec::ServiceOutcome{log_ms(pooled_quantile(side.window, 0.5)),
                                         log_ms(pooled_quantile(side.window, 0.99)), rate, 0, 0},
                    reward_);
}

Outcome Queue::step(std::span<const std::size_t> actions) {
  propose_and_push(actions);
  const double moved = moved_;
  skip_to_agents();
  ++steps_;
  Outcome outcome;
  const double excess = cost(own_) - cost(twin_) + reward_.churn * moved;
  const double bound = spec::kRewardBound;
  outcome.reward = std::clamp(std::isfinite(excess) ? -excess : 0.0, -bound, bound);
  outcome.truncated = over_ || steps_ >= spec_.max_steps;
  return outcome;
}

}  // namespace ballast::env
