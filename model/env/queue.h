// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/decide/prior.h"
#include "core/base/result.h"
#include "core/spec/spec.h"
#include "model/env/environment.h"
#include "model/sim/agent_controller.h"
#include "model/sim/scenario.h"
#include "model/sim/simulation.h"

namespace ballast::env {

/// Weights of the reward, spec::cost() with a minus. Latencies are those of requests at the
/// client over the last `window_ticks` ticks, relative to the prior's in a twin of the world that has
/// the same arrivals, works and slowness.
struct QueueReward {
  double p50 = 1.0;
  double p99 = 0.5;
  double errors = 10.0;
  double imbalance = 0;
  double churn = 0.02;  ///< times the sum of |delta log w| over the endpoints
  std::size_t window_ticks = 8;
};

struct QueueOptions {
  QueueReward reward;
  sim::LoopOptions loop;
  // Ablations: what the learner goes without.
  bool prior = true;           ///< false: the offsets are added to equal shares
  bool pooled_context = true;  ///< false: mean, max and number of the service's endpoints read zero
  /// Weights come from this technique's controller and actions are passed over: what learners are compared
  /// with, paid by the same reward. Empty: the actions act.
  std::string steered_by;
};

/// A service of the simulator with one agent an endpoint: the agent's own rooms measure, observe and
/// guard (sim::AgentLoop), and an action moves its endpoint's offset from the capacity prior by one
/// step of core/spec. All agents share the policy and the reward. Agents of a step are the endpoints
/// that are measured while the service is neither neutral nor level; time without any passes unseen.
///
/// An episode is one run of a scenario, cut after max_steps ticks that agents acted in or when the
/// scenario is over.
class Queue final : public Environment {
 public:
  using Worlds = std::shared_ptr<const std::vector<sim::Scenario>>;
  static constexpr std::size_t kMaxSteps = 240;  ///< a minute at the default tick
  static constexpr double kWarmUpS = 5;          ///< run under the prior before agents act

  /// One world is drawn for each episode; null: made anew for each by random_world().
  explicit Queue(Worlds worlds, const QueueOptions& options = {});
  /// Scenarios by reference; none gives null. The error lists the known ones.
  static Result<Worlds> load(const std::vector<std::string>& scenarios);
  /// The training set: three to twelve pods, equal, unequal or slowed now and then by other tenants, at
  /// 30 to 90 % load, one to fifty clients, two in five with bursts, peaks and a deadline. The built-in
  /// scenarios are not among them, so they can judge.
  static sim::Scenario random_world(std::uint64_t seed);

  const Spec& spec() const override { return spec_; }
  void reset(std::uint64_t seed) override;
  std::size_t agents() const override { return acting_.size(); }
  std::span<const float> observation(std::size_t agent) const override {
    return seen_->endpoints[acting_[agent]].features;
  }
  /// One step towards the square-root rule: the static split of least mean latency for
  /// processor-sharing servers, l_i = c_i - sqrt(c_i) (C - l) / sum sqrt(c), by the capacities and the
  /// load that the agent measures; less of it the nearer the load is to one and the sooner differences
  /// pass. Keeps offsets that are near enough.
  std::optional<std::size_t> advice(std::size_t agent) const override { return advice_[agent]; }
  std::span<const float> context() const override { return context_; }
  Outcome step(std::span<const std::size_t> actions) override;

 private:
  /// One of the two worlds of an episode.
  struct Side {
    std::unique_ptr<sim::Simulation> simulation;
    std::unique_ptr<sim::Controller> controller;  // the twin's prior; own: steered_by, or null
    std::deque<std::vector<float>> window;        // latencies of the last ticks
    std::deque<std::uint64_t> errors;
  };
  void absorb(Side& side) const;
  double cost(const Side& side) const;
  /// One tick of both worlds. False when the scenario is over.
  bool tick();
  bool look();
  void ablate();
  void advise();
  void propose_and_push(std::span<const std::size_t> actions);
  void steer();
  void skip_to_agents();

  Spec spec_;
  Worlds worlds_;
  QueueReward reward_;
  QueueOptions options_;
  sim::LoopOptions loop_;
  Side own_, twin_;
  std::unique_ptr<sim::AgentLoop> loop_rooms_;
  std::unique_ptr<decide::PriorPolicy> prior_;
  std::optional<spec::ServiceObservation> seen_;
  decide::ServiceProposal proposal_;
  std::vector<double> measured_;  // the log priors, ablated or not; one an endpoint
  std::vector<std::uint32_t> servers_;
  std::optional<std::vector<double>> steered_;  // by steered_by, of the last look
  std::vector<double> steered_offsets_;         // beside the prior
  std::vector<std::size_t> acting_;             // indices into seen_->endpoints
  std::vector<std::size_t> advice_;             // one an agent
  spec::Observation context_{};
  double clock_ = 0;
  double moved_ = 0;  // sum of |delta offset| in the last step
  std::size_t steps_ = 0;
  bool over_ = false;
};

}  // namespace ballast::env
