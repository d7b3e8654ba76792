// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/forecast_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace ballast::decide {

std::vector<spec::ForecastSample> ForecastRule::take_samples() {
  keep_samples_ = true;
  return std::exchange(samples_, {});
}

void ForecastRule::learn_capacities(ServiceState& state, const spec::ServiceObservation& observation) {
  std::map<spec::EndpointId, ServiceState::Full> now;
  double sum = 0;
  double squares = 0;
  for (std::size_t i = 0; i < observation.endpoints.size(); ++i) {
    const auto& endpoint = observation.endpoints[i];
    ServiceState::Full full = state.full[endpoint.telemetry.id];
    const double log_capacity = endpoint.log_prior - static_cast<double>(state.memory.inputs()[i].now);
    if (endpoint.telemetry.known && std::isfinite(log_capacity)) {
      full.log_capacity += std::max(1 / ++full.bins, 1 - kDecay) * (log_capacity - full.log_capacity);
    }
    sum += full.log_capacity;
    squares += full.log_capacity * full.log_capacity;
    now[endpoint.telemetry.id] = full;
  }
  const double n = std::max(static_cast<double>(observation.endpoints.size()), 1.0);
  state.differ = std::max(0.0, squares / n - sum / n * (sum / n));
  state.full = std::move(now);
}

void ForecastRule::judge(ServiceState& state) {
  ForecastRecord& record = state.record;
  const auto last = static_cast<double>(state.memory.bins()) - 1;
  while (!state.pending.empty() && std::ceil(state.pending.front().at) <= last) {
    const Pending due = std::move(state.pending.front());
    state.pending.pop_front();
    double error = 0;
    double as_now = 0;
    double as_mean = 0;
    record.pairs += due.pods.size();
    for (const Pending::One& pod : due.pods) {
      const double came = state.memory.value(pod.id, due.at);
      error += (pod.forecast - came) * (pod.forecast - came);
      as_now += (static_cast<double>(pod.input.now) - came) * (static_cast<double>(pod.input.now) - came);
      const double mean = static_cast<double>(pod.input.now + pod.input.guesses[spec::kMean]);
      as_mean += (mean - came) * (mean - came);
      if (keep_samples_ && samples_.size() < kSamples) {
        samples_.push_back({pod.input, static_cast<float>(came)});
      }
    }
    if (due.pods.empty()) {
      continue;
    }
    const double n = static_cast<double>(due.pods.size());
    const double before = record.judged * kDecay;
    record.judged = before + 1;
    record.error = (record.error * before + error / n) / record.judged;
    record.as_now = (record.as_now * before + as_now / n) / record.judged;
    record.as_mean = (record.as_mean * before + as_mean / n) / record.judged;
  }
  const double bound =
      std::min({(record.in_use ? kLeave : kUse) * record.as_now,
                (record.in_use ? kLeaveOfMean : kUseOfMean) * record.as_mean,
                (record.in_use ? kLeaveOfEqual : kUseOfEqual) * (record.as_mean + state.differ)});
  record.in_use =
      record.finite && (trusting_ || (record.judged >= kLeastJudged && record.as_now >= kLeastGain &&
                                      std::isfinite(record.error) && record.error < bound));
}

std::string ForecastRule::sentence() const {
  if (theta_ == nullptr) {
    return absent_.empty() ? "" : "no forecast: " + absent_;
  }
  std::string says;
  if (!record_.finite) {
    says = "forecast not used: it is not finite";
  } else if (record_.judged < kLeastJudged) {
    says = "forecast not judged yet";
  } else {
    const bool mean = record_.as_mean < record_.as_now;
    const double beaten = std::min(record_.as_now, record_.as_mean);
    const bool too_little = !record_.in_use && record_.error < kUse * record_.as_now &&
                            record_.error < kUseOfMean * record_.as_mean;
    const double than = too_little ? as_equal_ : beaten;
    says = fmt::format("forecast {}: error {:.2f} of {}", record_.in_use ? "in use" : "not used",
                       than > 0 ? record_.error / than : 1,
                       too_little ? "equal weights'"
                       : mean     ? "the mean's"
                                  : "\"as now\"");
  }
  const std::string period =
      record_.period_s > 0 ? fmt::format(", period {:.1f} s", record_.period_s) : std::string();
  return fmt::format("{}, from {} pairs in {:.0f} s{}", says, record_.pairs, record_.span_s, period);
}

ServiceProposal ForecastRule::decide(const spec::ServiceObservation& observation, const LoopContext& loop) {
  // A loop that is faster than the memory's bins sees what is now better than they can foresee it.
  const bool too_fast = loop.tick_s < SlownessMemory::kLeastBinS / 2;
  if ((theta_ == nullptr && !keep_samples_) || too_fast) {
    record_ = {};
    as_equal_ = 0;
    ServiceProposal proposal = rule_.decide(observation, loop);
    proposal.forecast_says = too_fast && theta_ != nullptr ? "no forecast: ticks are too short" : sentence();
    return proposal;
  }
  ServiceState& state = services_.of(observation.aggregate.service, loop.now);
  const bool completed = state.memory.update(observation, loop);
  state.began = state.began == 0 ? loop.now : state.began;
  const auto& inputs = state.memory.inputs();
  std::vector<double> foreseen;
  Pending pending{.at = static_cast<double>(state.memory.bins()) - 1 + state.memory.ahead(), .pods = {}};
  double mean = 0;
  state.record.finite = true;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto now = static_cast<double>(inputs[i].now);
    const double expected = theta_ == nullptr ? now : spec::forecast(*theta_, inputs[i]);
    state.record.finite = state.record.finite && std::isfinite(expected);
    foreseen.push_back(expected - now);
    mean += (expected - now) / static_cast<double>(inputs.size());
    if (observation.endpoints[i].telemetry.known) {
      pending.pods.push_back({observation.endpoints[i].telemetry.id, inputs[i], expected});
    }
  }
  if (completed) {
    if (state.record.finite) {
      state.pending.push_back(std::move(pending));
    }
    learn_capacities(state, observation);
    judge(state);
  }
  state.record.in_use = state.record.in_use && state.record.finite;
  state.record.span_s = static_cast<double>(loop.now - std::min(state.began, loop.now)) * 1e-9;
  state.record.period_s = state.memory.shared_period() * state.memory.bin_s();
  record_ = state.record;
  as_equal_ = state.record.as_mean + state.differ;
  for (double& each : foreseen) {
    each -= mean;
  }
  ServiceProposal proposal =
      rule_.decide(observation, loop, record_.in_use ? foreseen : std::vector<double>{});
  proposal.forecast_says = sentence();
  proposal.forecast = record_;
  return proposal;
}

}  // namespace ballast::decide
