// SPDX-License-Identifier: Apache-2.0
#include "model/sim/arrivals.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numbers>

namespace ballast::sim {
namespace {

double step_at(const std::vector<Point>& steps, double t) {
  double factor = 1;
  for (const auto& step : steps) {
    if (step.at_s > t) {
      break;
    }
    factor = step.factor;
  }
  return factor;
}

double ramp_at(const std::vector<Point>& ramp, double t) {
  if (ramp.empty()) {
    return 1;
  }
  if (t <= ramp.front().at_s) {
    return ramp.front().factor;
  }
  for (std::size_t i = 1; i < ramp.size(); ++i) {
    if (t < ramp[i].at_s) {
      const double share = (t - ramp[i - 1].at_s) / (ramp[i].at_s - ramp[i - 1].at_s);
      return ramp[i - 1].factor + share * (ramp[i].factor - ramp[i - 1].factor);
    }
  }
  return ramp.back().factor;
}

double spike_at(const Spike& spike, double t) {
  double since = t - spike.at_s;
  if (since >= 0 && spike.every_s > 0) {
    since = std::fmod(since, spike.every_s);
  }
  return since >= 0 && since < spike.duration_s ? spike.factor : 1;
}

double largest(const std::vector<Point>& points) {
  double most = points.empty() ? 1 : 0;
  for (const auto& point : points) {
    most = std::max(most, point.factor);
  }
  return most;
}

double bound(const ArrivalSpec& spec) {
  // Before the first step the factor is 1.
  double most = std::max(largest(spec.steps), spec.steps.empty() || spec.steps.front().at_s > 0 ? 1.0 : 0.0);
  most *= largest(spec.ramp) * (1 + spec.diurnal_amplitude);
  for (const auto& spike : spec.spikes) {
    most *= std::max(1.0, spike.factor);
  }
  return most;
}

std::vector<MmppState> normalised(std::vector<MmppState> states) {
  double time = 0;
  double sum = 0;
  for (const auto& state : states) {
    time += state.mean_s;
    sum += state.mean_s * state.factor;
  }
  for (auto& state : states) {
    state.factor *= time / sum;
  }
  return states;
}

}  // namespace

double envelope(const ArrivalSpec& spec, double t) {
  double factor = step_at(spec.steps, t) * ramp_at(spec.ramp, t);
  for (const auto& spike : spec.spikes) {
    factor *= spike_at(spike, t);
  }
  if (spec.diurnal_period_s > 0) {
    factor *= 1 + spec.diurnal_amplitude * std::sin(2 * std::numbers::pi * t / spec.diurnal_period_s);
  }
  return factor;
}

Arrivals::Arrivals(const Scenario& scenario, std::uint64_t seed)
    : spec_(scenario.arrivals),
      rng_(seed, Cause::kArrivals),
      rate_(base_rate(scenario)),
      bound_(bound(spec_)) {
  thinned_ =
      !spec_.steps.empty() || !spec_.ramp.empty() || !spec_.spikes.empty() || spec_.diurnal_period_s > 0;
  spec_.mmpp = normalised(spec_.mmpp);
  if (!spec_.mmpp.empty()) {
    enter_state(0);
  }
}

void Arrivals::enter_state(std::size_t state) {
  state_ = state;
  state_ends_ = now_ + spec_.mmpp[state].mean_s * rng_.exponential();
}

double Arrivals::candidate() {
  if (spec_.mmpp.empty()) {
    now_ += rng_.exponential() / (rate_ * bound_);
    return now_;
  }
  while (true) {
    const double rate = rate_ * bound_ * spec_.mmpp[state_].factor;
    const double at = rate > 0 ? now_ + rng_.exponential() / rate : std::numeric_limits<double>::infinity();
    if (at < state_ends_) {
      now_ = at;
      return now_;
    }
    // Memoryless: what is left of the gap is drawn anew in the next state.
    now_ = state_ends_;
    enter_state((state_ + 1) % spec_.mmpp.size());
  }
}

double Arrivals::next() {
  if (!spec_.trace_s.empty()) {
    return next_ < spec_.trace_s.size() ? spec_.trace_s[next_++] : std::numeric_limits<double>::infinity();
  }
  double at = candidate();
  while (thinned_ && rng_.uniform() * bound_ >= envelope(spec_, at)) {
    at = candidate();
  }
  return at;
}

}  // namespace ballast::sim
