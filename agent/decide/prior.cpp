// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/prior.h"

#include <algorithm>
#include <cmath>

#include "core/base/statistics.h"

namespace ballast::decide {

namespace {

constexpr double kLastingS = 5.0;

/// No endpoint is believed to be more than e^8 = 3000 times another: beyond lies a broken counter.
constexpr double kMaxLogPrior = 4.0;

double sane(double log_prior) {
  return std::isfinite(log_prior) ? std::clamp(log_prior, -kMaxLogPrior, kMaxLogPrior) : 0;
}

/// Seconds since the last call, from the clock; the nominal tick where that says nothing.
double elapsed_s(MonotonicNs last, const LoopContext& loop) {
  if (last != 0 && loop.now > last) {
    return static_cast<double>(loop.now - last) * 1e-9;
  }
  return std::isfinite(loop.tick_s) && loop.tick_s > 0 ? loop.tick_s : 0.25;
}

/// A slow loop that acts on late samples is slower still: their median age is delay too. (A fast
/// one loses more by staying neutral on this account than by being wrong for a second.)
LoopContext with_age(const spec::ServiceObservation& observation, LoopContext loop) {
  if (!(loop.loop_delay_s > kSlowLoopS)) {
    return loop;
  }
  std::vector<double> ages;
  for (const spec::EndpointObservation& endpoint : observation.endpoints) {
    const MonotonicNs taken = endpoint.telemetry.taken;
    if (endpoint.telemetry.known && taken != 0) {
      ages.push_back(loop.now > taken ? static_cast<double>(loop.now - taken) * 1e-9 : 0);
    }
  }
  loop.loop_delay_s += median(std::move(ages));
  return loop;
}

ServiceProposal empty_proposal(const spec::ServiceObservation& observation) {
  ServiceProposal proposal;
  proposal.service = observation.aggregate.service;
  proposal.endpoints.reserve(observation.endpoints.size());
  for (const spec::EndpointObservation& endpoint : observation.endpoints) {
    proposal.endpoints.push_back({.id = endpoint.telemetry.id});
  }
  return proposal;
}

}  // namespace

std::vector<double> PriorFilter::update(const std::vector<spec::EndpointObservation>& endpoints, double dt_s,
                                        const PriorFilterOptions& options) {
  std::vector<double> changes;
  for (const spec::EndpointObservation& endpoint : endpoints) {
    const auto track = tracks_.find(endpoint.telemetry.id);
    if (endpoint.telemetry.known && track != tracks_.end()) {
      changes.push_back(sane(endpoint.log_prior) - track->second.value);
    }
  }
  const double common = median(std::move(changes));
  const double lasting_alpha = 1 - std::exp(-dt_s / kLastingS);
  const double alpha = options.time_constant_s > 0 ? 1 - std::exp(-dt_s / options.time_constant_s) : 1;

  std::map<spec::EndpointId, Track> next;
  std::vector<double> filtered;
  filtered.reserve(endpoints.size());
  lasting_.clear();
  for (const spec::EndpointObservation& endpoint : endpoints) {
    if (!endpoint.telemetry.known) {
      filtered.push_back(sane(endpoint.log_prior));
      lasting_.push_back(filtered.back());
      continue;
    }
    const double target = sane(endpoint.log_prior);
    const double limit = endpoint.telemetry.cpu_limit_cores;
    Track track{.value = target, .mean = target};
    if (const auto known = tracks_.find(endpoint.telemetry.id); known != tracks_.end()) {
      track = known->second;
      track.value += common;
      const double rest = target - track.value;
      const int direction = std::abs(rest) > options.confirm_step ? (rest > 0 ? 1 : -1) : 0;
      track.beyond = direction == 0 || direction * track.beyond < 0 ? direction : track.beyond + direction;
      const bool limited_anew = limit > 0 && track.limit > 0 && limit != track.limit;
      track.mean += limited_anew ? rest : 0;
      if (limited_anew || std::abs(rest) > options.immediate_step || std::abs(track.beyond) >= 2) {
        track.value = target;
        track.beyond = 0;
      } else {
        track.value += alpha * rest;
      }
    }
    track.limit = limit > 0 ? limit : track.limit;
    track.mean += lasting_alpha * (target - track.mean);
    filtered.push_back(track.value);
    lasting_.push_back(track.mean);
    next[endpoint.telemetry.id] = track;
  }
  tracks_ = std::move(next);
  return filtered;
}

double PriorFilter::lasting_spread() const {
  if (tracks_.empty()) {
    return 0;
  }
  double sum = 0;
  double squares = 0;
  for (const auto& [id, track] : tracks_) {
    sum += track.mean;
    squares += track.mean * track.mean;
  }
  const double n = static_cast<double>(tracks_.size());
  return std::sqrt(std::max(0.0, squares / n - sum / n * (sum / n)));
}

std::vector<double> square_root_tilt(const std::vector<double>& log_capacities, double load) {
  std::vector<double> tilt(log_capacities.size(), 0);
  if (!(load > 0) || load >= 1) {
    return tilt;
  }
  load = std::max(load, kLeastLoad);
  double total = 0;
  double roots = 0;
  for (const double log_capacity : log_capacities) {
    total += std::exp(log_capacity);
    roots += std::exp(log_capacity / 2);
  }
  for (std::size_t i = 0; i < tilt.size(); ++i) {
    const double used = 1 - total * (1 - load) / (roots * std::exp(log_capacities[i] / 2));
    tilt[i] = std::log(std::max(used / load, kLeastTilt));
  }
  return tilt;
}

void tilt_if_equal(ServiceProposal& proposal) {
  if (proposal.neutral || proposal.endpoints.size() < 2) {
    return;
  }
  const auto log_weight = [](const Proposal& p) { return p.log_prior + p.offset; };
  const auto [low, high] = std::minmax_element(
      proposal.endpoints.begin(), proposal.endpoints.end(),
      [&](const Proposal& a, const Proposal& b) { return log_weight(a) < log_weight(b); });
  if (log_weight(*high) - log_weight(*low) >= kEpsilonTilt) {
    return;
  }
  const auto first = std::min_element(proposal.endpoints.begin(), proposal.endpoints.end(),
                                      [](const Proposal& a, const Proposal& b) { return a.id < b.id; });
  first->log_prior += log_weight(*high) - log_weight(*first) + kEpsilonTilt;
}

ServiceProposal NeutralPolicy::decide(const spec::ServiceObservation& observation, const LoopContext&) {
  ServiceProposal proposal = empty_proposal(observation);
  proposal.why = "the neutral policy";
  return proposal;
}

ServiceProposal PriorPolicy::propose(const spec::ServiceObservation& observation, const LoopContext& loop) {
  ServiceProposal proposal = empty_proposal(observation);
  ServiceState& state = services_.of(observation.aggregate.service, loop.now);
  // The filter runs while neutral too: leaving neutral must find it settled.
  const std::vector<double> priors =
      state.filter.update(observation.endpoints, elapsed_s(state.last, loop), options_.filter);
  state.last = loop.now;
  proposal.neutral = state.gate.neutral(observation.aggregate, state.filter.lasting_spread(),
                                        with_age(observation, loop), options_.gate);
  proposal.why = state.gate.why();
  proposal.level = state.gate.level();
  const spec::ServiceAggregate& a = observation.aggregate;
  const double load = a.mean_capacity_qps > 0 ? a.mean_qps / a.mean_capacity_qps : 0;
  // By the lasting capacities: a slow pod's tilt moves twice as far as its capacity, noise included.
  const std::vector<double> tilt = square_root_tilt(state.filter.lasting(), load);
  for (std::size_t i = 0; i < priors.size(); ++i) {
    proposal.endpoints[i].log_prior = proposal.level ? 0 : priors[i] + options_.square_root * tilt[i];
  }
  return proposal;
}

ServiceProposal PriorPolicy::decide(const spec::ServiceObservation& observation, const LoopContext& loop) {
  ServiceProposal proposal = propose(observation, loop);
  tilt_if_equal(proposal);
  return proposal;
}

}  // namespace ballast::decide
