// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/learned.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

namespace ballast::decide {

namespace {

using Probabilities = std::array<double, spec::kActions>;

Probabilities softmax(const std::array<float, spec::kActions>& logits, double temperature) {
  const double highest = *std::max_element(logits.begin(), logits.end());
  Probabilities p{};
  for (std::size_t a = 0; a < spec::kActions; ++a) {
    p[a] = std::exp((static_cast<double>(logits[a]) - highest) / temperature);
  }
  const double sum = std::accumulate(p.begin(), p.end(), 0.0);
  for (double& value : p) {
    value /= sum;
  }
  return p;
}

std::size_t draw(const Probabilities& p, double sample) {
  for (std::size_t a = 0; a + 1 < spec::kActions; ++a) {
    sample -= p[a];
    if (sample < 0) {
      return a;
    }
  }
  return spec::kActions - 1;
}

/// As observe makes them; garbage that came another way must not reach the network.
spec::Observation sane(const spec::Observation& features) {
  spec::Observation out = features;
  for (std::size_t i = 0; i < out.size(); ++i) {
    // The last one is log N, which is no feature and may exceed the bound.
    const float bound = i + 1 == out.size() ? 16.0F : spec::kFeatureBound;
    out[i] = std::isnan(out[i]) ? 0.0F : std::clamp(out[i], -bound, bound);
  }
  return out;
}

double uniform(std::mt19937_64& random) {
  return static_cast<double>(random() >> 11) * 0x1.0p-53;
}

}  // namespace

Choice choose(const std::array<float, spec::kActions>& logits, const LearnedOptions& options, double explore,
              double sample) {
  if (!std::all_of(logits.begin(), logits.end(), [](float v) { return std::isfinite(v); })) {
    return {};
  }
  const Probabilities plain = softmax(logits, 1.0);
  const auto best = static_cast<std::size_t>(std::max_element(plain.begin(), plain.end()) - plain.begin());
  const std::size_t greedy = plain[best] > options.margin * plain[spec::kKeep] ? best : spec::kKeep;
  if (options.epsilon <= 0) {
    return {.action = greedy, .probability = 1};
  }
  const Probabilities tempered = softmax(logits, options.temperature);
  const std::size_t action = explore < options.epsilon ? draw(tempered, sample) : greedy;
  const double probability =
      options.epsilon * tempered[action] + (action == greedy ? 1 - options.epsilon : 0.0);
  return {.action = action, .probability = static_cast<float>(probability)};
}

LearnedPolicy::LearnedPolicy(std::shared_ptr<const spec::ActorNetwork> network,
                             const options::Checked<LearnedOptions>& options)
    : options_(*options), prior_(options->prior), random_(options->seed), network_(std::move(network)) {}

void LearnedPolicy::set_network(std::shared_ptr<const spec::ActorNetwork> network) {
  const std::lock_guard lock(mutex_);
  network_ = std::move(network);
}

std::shared_ptr<const spec::ActorNetwork> LearnedPolicy::network() const {
  const std::lock_guard lock(mutex_);
  return network_;
}

ServiceProposal LearnedPolicy::decide(const spec::ServiceObservation& observation, const LoopContext& loop) {
  ServiceProposal proposal = prior_.propose(observation, loop);
  const std::shared_ptr<const spec::ActorNetwork> acting = network();
  constexpr double kBound = spec::kMaxOffset;

  for (std::size_t i = 0; i < proposal.endpoints.size(); ++i) {
    Proposal& endpoint = proposal.endpoints[i];
    if (proposal.level) {
      continue;
    }
    const double kept = observation.endpoints[i].offset;
    endpoint.offset = std::isfinite(kept) ? std::clamp(kept, -kBound, kBound) : 0;
    if (acting != nullptr && !proposal.neutral && observation.endpoints[i].telemetry.known) {
      const double explore = uniform(random_);
      const double sample = uniform(random_);
      const Choice choice =
          choose(acting->logits(sane(observation.endpoints[i].features)), options_, explore, sample);
      endpoint.action = choice.action;
      endpoint.behaviour_probability = choice.probability;
      endpoint.offset = std::clamp(endpoint.offset + static_cast<double>(spec::kActionStep[choice.action]),
                                   -kBound, kBound);
    }
  }
  tilt_if_equal(proposal);
  return proposal;
}

}  // namespace ballast::decide
