// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "agent/decide/policy.h"

namespace ballast::decide {

/// One transition: the endpoint's observation, the action taken on it, and the reward of the tick
/// that followed. `context` is the service as the critic sees it (own features = the mean).
struct Step {
  spec::Observation observation{};
  spec::Observation context{};
  std::uint8_t action = spec::kKeep;
  float behaviour_probability = 1;
  float reward = 0;
};

/// Consecutive steps of one endpoint, all acted with the theta of (epoch, version). The return
/// after the last step is bootstrapped from the critic's value of bootstrap_context unless terminal.
struct Rollout {
  std::string endpoint;  ///< "namespace/service/pod"
  std::uint64_t epoch = 0;
  std::uint64_t version = 0;
  std::vector<Step> steps;
  spec::Observation bootstrap_observation{};
  spec::Observation bootstrap_context{};
  bool terminal = false;  ///< never in a running service: balancing has no end
};

/// The critic's input for a service, from any of its endpoints' observations.
spec::Observation context_of(const spec::Observation& observation);

/// Cuts the loop's experience into rollouts of n steps.
///
/// A rollout ends early when theta changes, when its endpoint leaves, when the service turns
/// neutral or stays unrecorded for a while (actions have no effect there), and when a reward is
/// not finite; a step whose reward never came is not handed out. Memory is bounded: when nobody
/// takes them, the oldest rollouts are dropped and counted. Not thread-safe: one loop, one recorder.
class RolloutRecorder {
 public:
  static constexpr std::size_t kDefaultSteps = 20;    ///< A3C's t_max
  static constexpr std::size_t kDefaultReady = 1024;  ///< of 20 steps: about 8 MB
  /// Zero is read as one for both.
  explicit RolloutRecorder(std::size_t n_steps = kDefaultSteps, std::size_t max_ready = kDefaultReady);

  /// One tick of one service: `reward` is what this tick paid for the actions of the tick before
  /// (clipped to spec::kRewardBound); `proposal` acts now, with the theta of (epoch, version).
  /// REQUIRES the proposal made from the observation: endpoints are matched by their place, and
  /// those that do not agree are left out.
  void record(const observe::ServiceObservation& observation, const ServiceProposal& proposal,
              std::uint64_t epoch, std::uint64_t version, float reward, MonotonicNs now);
  /// The service is not managed any more: its rollouts are cut.
  void forget(const observe::ServiceId& service);

  /// Takes all complete rollouts, oldest first.
  std::vector<Rollout> take();
  std::size_t ready() const { return ready_.size(); }
  std::uint64_t dropped() const { return dropped_; }

 private:
  /// The last step of `rollout` waits for its reward.
  using Pending = std::map<observe::EndpointId, Rollout>;
  struct Service {
    Pending pending;
    MonotonicNs last = 0;
  };

  void finish(Rollout&& rollout, const spec::Observation& bootstrap, const spec::Observation& context);
  void cut_unrewarded(Rollout&& rollout);
  void cut_all(Pending& pending);
  void sweep(MonotonicNs now);

  std::size_t n_steps_;
  std::size_t max_ready_;
  std::map<observe::ServiceId, Service> services_;
  std::deque<Rollout> ready_;
  MonotonicNs swept_ = 0;
  std::uint64_t dropped_ = 0;
};

}  // namespace ballast::decide
