// SPDX-License-Identifier: Apache-2.0
#include "agent/export/decision_row.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "agent/export/text_field.h"

namespace ballast::telemetry {

namespace {

std::int64_t e6(double value) {
  constexpr double kBound = 1e12;  // far beyond every quantity, well inside 64 bits when times 1e6
  return std::isfinite(value) ? std::llround(std::clamp(value, -kBound, kBound) * 1e6) : 0;
}

const std::string& pod_of(const spec::EndpointObservation& endpoint) {
  return endpoint.telemetry.id.pod;
}
const std::string& pod_of(const decide::Proposal& endpoint) {
  return endpoint.id.pod;
}

// Everybody lists endpoints in one order as a rule; the index is built only when they do not.
template <typename Endpoint>
std::unordered_map<std::string_view, std::size_t> index_if_needed(
    const std::vector<Endpoint>& endpoints, const std::vector<guard::WeightedEndpoint>& order) {
  std::unordered_map<std::string_view, std::size_t> index;
  const bool same =
      endpoints.size() == order.size() &&
      std::equal(endpoints.begin(), endpoints.end(), order.begin(),
                 [](const Endpoint& one, const auto& other) { return pod_of(one) == other.id.pod; });
  if (!same) {
    for (std::size_t i = 0; i < endpoints.size(); ++i) {
      index[pod_of(endpoints[i])] = i;
    }
  }
  return index;
}

template <typename Endpoint>
const Endpoint* look_up(const std::vector<Endpoint>& endpoints,
                        const std::unordered_map<std::string_view, std::size_t>& index, std::size_t place,
                        const std::string& pod) {
  if (index.empty()) {
    return place < endpoints.size() ? &endpoints[place] : nullptr;
  }
  const auto found = index.find(pod);
  return found == index.end() ? nullptr : &endpoints[found->second];
}

void fill_measured(ballast_decision_value& value, const spec::EndpointObservation& observation,
                   MonotonicNs now) {
  const spec::EndpointTelemetry& telemetry = observation.telemetry;
  value.log_prior_e6 = e6(observation.log_prior);
  static_assert(BALLAST_DECISION_FEATURES >= 3 * spec::kFeatures,
                "a feature would have no maximum in the record");
  value.feature_count = std::min<std::uint32_t>(BALLAST_DECISION_FEATURES, spec::kObservation);
  for (std::size_t i = 0; i < value.feature_count; ++i) {
    value.features_e6[i] = e6(observation.features[i]);
  }
  value.raw[BALLAST_RAW_QPS] = telemetry.qps;
  value.raw[BALLAST_RAW_P50_NS] = telemetry.p50_ns;
  value.raw[BALLAST_RAW_P99_NS] = telemetry.p99_ns;
  value.raw[BALLAST_RAW_IN_FLIGHT] = telemetry.in_flight;
  value.raw[BALLAST_RAW_CPU_CORES] = telemetry.cpu_cores;
  value.raw[BALLAST_RAW_CPU_LIMIT_CORES] = telemetry.cpu_limit_cores;
  value.raw[BALLAST_RAW_SPEED] = telemetry.speed;
  value.raw[BALLAST_RAW_CAPACITY_QPS] = telemetry.capacity_qps;
  value.raw[BALLAST_RAW_MEMORY_BYTES] = telemetry.memory_bytes;
  value.raw[BALLAST_RAW_ERROR_RATE] = telemetry.error_rate;
  value.raw[BALLAST_RAW_AGE_S] =
      telemetry.taken <= now ? static_cast<double>(now - telemetry.taken) * 1e-9 : 0;
  value.raw[BALLAST_RAW_UTILISATION] = telemetry.utilisation;
}

}  // namespace

ballast_decision_key decision_key(const spec::ServiceId& service, const std::string& pod) {
  ballast_decision_key key{};
  copy_text(key.ns, service.ns);
  copy_text(key.service, service.name);
  copy_text(key.pod, pod);
  return key;
}

DecisionRows::DecisionRows(const turn::Decision& service, const TickState& tick)
    : service_(service), tick_(tick) {
  const auto& endpoints = service.weights.endpoints();
  for (const guard::WeightedEndpoint& endpoint : endpoints) {
    weight_sum_ += endpoint.weight;
  }
  observed_ = index_if_needed(service.observation.endpoints, endpoints);
  proposed_ = index_if_needed(service.proposal.endpoints, endpoints);
}

const decide::Proposal* DecisionRows::proposal(std::size_t index) const {
  return look_up(service_.proposal.endpoints, proposed_, index, service_.weights.endpoints()[index].id.pod);
}

const spec::EndpointObservation* DecisionRows::observation(std::size_t index) const {
  return look_up(service_.observation.endpoints, observed_, index,
                 service_.weights.endpoints()[index].id.pod);
}

sample::DecisionRow DecisionRows::row(std::size_t index) const {
  const guard::GuardedWeights& weights = service_.weights;
  const guard::WeightedEndpoint& endpoint = weights.endpoints()[index];
  sample::DecisionRow row;
  row.key = decision_key(weights.service(), endpoint.id.pod);
  ballast_decision_value& value = row.value;
  value.decided_ns = tick_.now;
  value.weight = endpoint.weight;
  value.in_force = index < service_.in_force.size() ? service_.in_force[index] : 0;
  value.outcome = static_cast<std::uint32_t>(service_.answer.outcome);
  value.mode = static_cast<std::uint32_t>(weights.mode());
  value.neutral = weights.neutral() ? 1 : 0;
  value.asked_neutral = weights.asked_neutral() ? 1 : 0;
  value.guard_reasons = endpoint.reasons;
  value.proposed_e6 = e6(endpoint.proposed_share);
  value.guarded_e6 = e6(weight_sum_ > 0 ? endpoint.weight / weight_sum_ : 0);
  value.shadow_e6 = e6(endpoint.guarded_share);
  value.blend_e6 = e6(weights.blend());
  value.action = static_cast<std::uint32_t>(spec::kKeep);
  if (const spec::EndpointObservation* seen = observation(index)) {
    fill_measured(value, *seen, tick_.now);
  }
  std::string why = weights.why();
  if (const decide::Proposal* proposed = proposal(index)) {
    why = proposed->why.empty() ? why : proposed->why + "; " + why;
    if (!proposed->answered.empty() && why.size() + 2 + proposed->answered.size() < sizeof value.why) {
      why += "; " + proposed->answered;
    }
    value.log_prior_e6 = e6(proposed->log_prior);
    value.offset_e6 = e6(proposed->offset);
    value.action = static_cast<std::uint32_t>(proposed->action);
  }
  value.policy_epoch = tick_.policy_epoch;
  value.policy_version = tick_.policy_version;
  copy_text(value.policy, tick_.policy);
  copy_sentence(value.why, why);
  copy_sentence(value.forecast, service_.proposal.forecast_says);
  copy_sentence(value.twin, service_.proposal.twin_says);
  copy_sentence(value.outcome_detail, service_.answer.detail);
  const bool ipv6 = endpoint.address.find(':') != std::string::npos;
  copy_text(value.address,
            (ipv6 ? "[" + endpoint.address + "]" : endpoint.address) + ":" + std::to_string(endpoint.port));
  return row;
}

}  // namespace ballast::telemetry
