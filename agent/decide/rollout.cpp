// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/rollout.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "core/spec/service_name.h"

namespace ballast::decide {

namespace {

/// A pause longer than this cuts: the reward after it does not belong to the action before it.
constexpr MonotonicNs kMaxPause = 10'000'000'000ULL;

std::string path_of(const spec::EndpointId& id) {
  return to_string(id.service) + "/" + id.pod;
}

bool finite(const spec::Observation& observation) {
  return std::all_of(observation.begin(), observation.end(), [](float v) { return std::isfinite(v); });
}

}  // namespace

RolloutRecorder::RolloutRecorder(std::size_t n_steps, std::size_t max_ready)
    : n_steps_(std::max<std::size_t>(1, n_steps)), max_ready_(std::max<std::size_t>(1, max_ready)) {}

void RolloutRecorder::finish(spec::Rollout&& rollout, const spec::Observation& bootstrap,
                             const spec::Observation& context) {
  if (rollout.steps.empty()) {
    return;
  }
  rollout.bootstrap_observation = bootstrap;
  rollout.bootstrap_context = context;
  ready_.push_back(std::move(rollout));
  if (ready_.size() > max_ready_) {
    ready_.pop_front();
    ++dropped_;
  }
}

void RolloutRecorder::cut_unrewarded(spec::Rollout&& rollout) {
  // The state in which the unpaid action was taken is the one to bootstrap from.
  const spec::Step last = rollout.steps.back();
  rollout.steps.pop_back();
  finish(std::move(rollout), last.observation, last.context);
}

void RolloutRecorder::cut_all(Pending& pending) {
  for (auto& [id, rollout] : pending) {
    cut_unrewarded(std::move(rollout));
  }
  pending.clear();
}

void RolloutRecorder::sweep(MonotonicNs now) {
  if (now < swept_ + kMaxPause) {
    return;
  }
  swept_ = now;
  for (auto it = services_.begin(); it != services_.end();) {
    const bool gone = now > it->second.last + kMaxPause;
    if (gone) {
      cut_all(it->second.pending);
    }
    it = gone ? services_.erase(it) : std::next(it);
  }
}

void RolloutRecorder::record(const spec::ServiceObservation& observation, const ServiceProposal& proposal,
                             std::uint64_t epoch, std::uint64_t version, float reward, MonotonicNs now) {
  sweep(now);
  Service& service = services_[proposal.service];
  if (!std::isfinite(reward) || now > service.last + kMaxPause) {
    cut_all(service.pending);
  }
  service.last = now;
  const float paid = std::clamp(reward, -spec::kRewardBound, spec::kRewardBound);

  Pending next;
  const std::size_t n = std::min(observation.endpoints.size(), proposal.endpoints.size());
  for (std::size_t i = 0; i < n; ++i) {
    const Proposal& acted = proposal.endpoints[i];
    const spec::Observation& seen = observation.endpoints[i].features;
    if (acted.id != observation.endpoints[i].telemetry.id || next.contains(acted.id) || !finite(seen)) {
      continue;
    }
    const spec::Observation context = spec::context_of(seen);
    const bool acts = !proposal.neutral && !proposal.level && observation.endpoints[i].telemetry.known &&
                      observation.endpoints[i].own;
    spec::Rollout rollout;
    if (const auto before = service.pending.find(acted.id); before != service.pending.end()) {
      rollout = std::move(before->second);
      service.pending.erase(before);
      rollout.steps.back().reward = paid;
      if (!acts || rollout.steps.size() >= n_steps_ || rollout.epoch != epoch || rollout.version != version) {
        finish(std::move(rollout), seen, context);
        rollout = {};
      }
    }
    if (!acts) {
      continue;
    }
    if (rollout.steps.empty()) {
      rollout.endpoint = path_of(acted.id);
      rollout.epoch = epoch;
      rollout.version = version;
      rollout.steps.reserve(n_steps_);
    }
    rollout.steps.push_back({.observation = seen,
                             .context = context,
                             .action = static_cast<std::uint8_t>(acted.action),
                             .behaviour_probability = acted.behaviour_probability});
    next.emplace(acted.id, std::move(rollout));
  }
  cut_all(service.pending);
  service.pending = std::move(next);
}

void RolloutRecorder::forget(const spec::ServiceId& service) {
  if (const auto it = services_.find(service); it != services_.end()) {
    cut_all(it->second.pending);
    services_.erase(it);
  }
}

std::vector<spec::Rollout> RolloutRecorder::take() {
  std::vector<spec::Rollout> out(std::make_move_iterator(ready_.begin()),
                                 std::make_move_iterator(ready_.end()));
  ready_.clear();
  return out;
}

}  // namespace ballast::decide
