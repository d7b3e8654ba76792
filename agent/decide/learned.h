// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <random>
#include <string>

#include "agent/decide/policy.h"
#include "agent/decide/prior.h"
#include "core/base/result.h"
#include "core/spec/actor_network.h"

namespace ballast::decide {

struct LearnedOptions {
  PriorOptions prior;
  /// A step is taken only when its probability exceeds that of keeping the offset by this factor:
  /// an untrained or barely trained network (all actions about equal) stays the prior.
  double margin = 1.5;
  /// Exploration: share of decisions that are sampled from the softmax instead of greedy. Each
  /// node may have its own epsilon and temperature, as A3C's workers do.
  double epsilon = 0;
  double temperature = 1;  ///< of the softmax that is sampled from
  std::uint64_t seed = 0;  ///< of the exploration
  bool operator==(const LearnedOptions&) const = default;

  void declare(options::Schema& s) {
    prior.declare(s);
    s.section("learner");
    s.number("exploration", epsilon, 0, 1, "",
             "share of decisions drawn from the softmax, while somebody learns");
    s.number("temperature", temperature, 0.01, 100, "", "of that softmax");
    s.number("margin", margin, 1, 1000, "", "factor by which an action has to beat keeping the offset");
  }
};

/// One choice of the acting policy.
struct Choice {
  std::size_t action = spec::kKeep;
  float probability = 1;  ///< with which the acting policy (greedy and exploration mixed) takes it
};

/// The acting policy over logits. Total: logits that are not finite give kKeep with probability 1.
/// `explore` in [0,1) decides whether this choice is sampled, `sample` in [0,1) which action.
Choice choose(const std::array<float, spec::kActions>& logits, const LearnedOptions& options, double explore,
              double sample);

/// The prior plus an offset for each endpoint, which the network moves by one bounded step a tick.
///
/// While the service is neutral or level, and for an endpoint that is not measured, an action would have no
/// effect: the offset is kept as it is.
class LearnedPolicy final : public Policy {
 public:
  /// A null network acts as the prior.
  explicit LearnedPolicy(std::shared_ptr<const spec::ActorNetwork> network,
                         const options::Checked<LearnedOptions>& options = LearnedOptions{});

  std::string name() const override { return "learned"; }
  ServiceProposal decide(const spec::ServiceObservation& observation, const LoopContext& loop) override;

  /// The next decide() acts with this network; from any thread.
  void set_network(std::shared_ptr<const spec::ActorNetwork> network);
  /// The network in force; epoch and version say which theta acts. May be null.
  std::shared_ptr<const spec::ActorNetwork> network() const;

 private:
  LearnedOptions options_;
  PriorPolicy prior_;
  std::mt19937_64 random_;
  mutable std::mutex mutex_;  ///< guards network_
  std::shared_ptr<const spec::ActorNetwork> network_;
};

}  // namespace ballast::decide
