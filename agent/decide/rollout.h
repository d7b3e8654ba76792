// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <vector>

#include "agent/decide/policy.h"
#include "core/spec/rollout.h"

namespace ballast::decide {

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
  /// Each node learns from what it decided itself: endpoints that are not its own do not act.
  /// REQUIRES the proposal made from the observation: endpoints are matched by their place, and
  /// those that do not agree are left out.
  void record(const spec::ServiceObservation& observation, const ServiceProposal& proposal,
              std::uint64_t epoch, std::uint64_t version, float reward, MonotonicNs now);
  /// The service is not managed any more: its rollouts are cut.
  void forget(const spec::ServiceId& service);

  /// Takes all complete rollouts, oldest first.
  std::vector<spec::Rollout> take();
  std::size_t ready() const { return ready_.size(); }
  std::uint64_t dropped() const { return dropped_; }

 private:
  /// The last step of `rollout` waits for its reward.
  using Pending = std::map<spec::EndpointId, spec::Rollout>;
  struct Service {
    Pending pending;
    MonotonicNs last = 0;
  };

  void finish(spec::Rollout&& rollout, const spec::Observation& bootstrap, const spec::Observation& context);
  void cut_unrewarded(spec::Rollout&& rollout);
  void cut_all(Pending& pending);
  void sweep(MonotonicNs now);

  std::size_t n_steps_;
  std::size_t max_ready_;
  std::map<spec::ServiceId, Service> services_;
  std::deque<spec::Rollout> ready_;
  MonotonicNs swept_ = 0;
  std::uint64_t dropped_ = 0;
};

}  // namespace ballast::decide
