// SPDX-License-Identifier: Apache-2.0
#include "model/sync/wire/wire.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

namespace ballast::sync {

namespace {

static_assert(std::endian::native == std::endian::little, "float32 bytes are copied, not converted");

constexpr double kNotTold = std::numeric_limits<double>::quiet_NaN();

void put(google::protobuf::RepeatedField<float>* out, const spec::Observation& observation) {
  out->Add(observation.begin(), observation.end());
}

bool get(const google::protobuf::RepeatedField<float>& values, spec::Observation& out) {
  if (values.size() != static_cast<int>(out.size())) {
    return false;
  }
  std::copy(values.begin(), values.end(), out.begin());
  return true;
}

}  // namespace

v1::Version to_wire(const Version& version) {
  v1::Version out;
  out.set_epoch(version.epoch);
  out.set_version(version.version);
  return out;
}

Version from_wire(const v1::Version& version) {
  return {version.epoch(), version.version()};
}

v1::Gradient to_wire(const Gradient& gradient) {
  v1::Gradient out;
  *out.mutable_acted() = to_wire(gradient.acted);
  out.set_steps(gradient.steps);
  out.set_norm(gradient.norm);
  out.set_values(gradient.values.data(), gradient.values.size() * sizeof(float));
  if (!std::isnan(gradient.objective)) {
    out.set_objective(gradient.objective);
  }
  if (const LearnedFrom& from = gradient.learned_from; from.samples > 0) {
    auto* to = out.mutable_learned_from();
    to->set_samples(from.samples);
    to->set_span_s(from.span_s);
    to->set_error(from.error);
    to->set_as_now(from.as_now);
    to->set_twin_s(from.twin_s);
    to->set_foreseen_p99_ms(from.foreseen_p99_ms);
    to->set_came_p99_ms(from.came_p99_ms);
    to->set_gains(from.gains);
  }
  return out;
}

Gradient from_wire(const v1::Gradient& gradient) {
  Gradient out{from_wire(gradient.acted()), gradient.steps(), gradient.norm(), {}, kNotTold, {}};
  const std::string& bytes = gradient.values();
  if (bytes.size() % sizeof(float) == 0 && !bytes.empty()) {
    out.values.resize(bytes.size() / sizeof(float));
    std::memcpy(out.values.data(), bytes.data(), bytes.size());
  }
  if (gradient.has_objective()) {
    out.objective = gradient.objective();
  }
  if (gradient.has_learned_from()) {
    const auto& from = gradient.learned_from();
    out.learned_from = {from.samples(), from.span_s(),          from.error(),       from.as_now(),
                        from.twin_s(),  from.foreseen_p99_ms(), from.came_p99_ms(), from.gains()};
  }
  return out;
}

v1::WorkerMessage::Network to_wire(Network network) {
  static_assert(static_cast<int>(Network::kForecast) == v1::WorkerMessage::FORECAST);
  static_assert(static_cast<int>(Network::kGains) == v1::WorkerMessage::GAINS);
  return static_cast<v1::WorkerMessage::Network>(network);
}

v1::ServerMessage::Verdict to_wire(Verdict verdict) {
  static_assert(static_cast<int>(Verdict::kAccepted) + 1 == v1::ServerMessage::ACCEPTED);
  static_assert(static_cast<int>(Verdict::kStale) + 1 == v1::ServerMessage::REJECTED_STALE);
  static_assert(static_cast<int>(Verdict::kType) + 1 == v1::ServerMessage::REJECTED_TYPE);
  return static_cast<v1::ServerMessage::Verdict>(static_cast<int>(verdict) + 1);
}

v1::Rollout to_wire(const spec::Rollout& rollout) {
  v1::Rollout out;
  out.set_spec_version(spec::kVersion);
  out.set_endpoint(rollout.endpoint);
  *out.mutable_acted() = to_wire(Version{rollout.epoch, rollout.version});
  for (const auto& step : rollout.steps) {
    auto* to = out.add_steps();
    put(to->mutable_observation(), step.observation);
    put(to->mutable_context(), step.context);
    to->set_action(step.action);
    to->set_behaviour_probability(step.behaviour_probability);
    to->set_reward(step.reward);
  }
  put(out.mutable_bootstrap_observation(), rollout.bootstrap_observation);
  put(out.mutable_bootstrap_context(), rollout.bootstrap_context);
  out.set_terminal(rollout.terminal);
  return out;
}

Result<spec::Rollout> from_wire(const v1::Rollout& rollout) {
  const auto refuse = [&](const std::string& why) {
    return Error::failed("rollout of " + rollout.endpoint() + " refused: " + why);
  };
  if (rollout.spec_version() != spec::kVersion) {
    return refuse("spec version " + std::to_string(rollout.spec_version()) + ", this build has " +
                  std::to_string(spec::kVersion));
  }
  spec::Rollout out;
  out.endpoint = rollout.endpoint();
  out.epoch = rollout.acted().epoch();
  out.version = rollout.acted().version();
  out.terminal = rollout.terminal();
  bool fits = get(rollout.bootstrap_observation(), out.bootstrap_observation) &&
              get(rollout.bootstrap_context(), out.bootstrap_context);
  for (const auto& from : rollout.steps()) {
    spec::Step step;
    fits = fits && get(from.observation(), step.observation) && get(from.context(), step.context) &&
           from.action() < spec::kActions;
    step.action = static_cast<decltype(step.action)>(from.action());
    step.behaviour_probability = from.behaviour_probability();
    step.reward = from.reward();
    out.steps.push_back(step);
  }
  if (!fits) {
    return refuse("an observation has another length than " + std::to_string(spec::kObservation) +
                  " or an action is out of range");
  }
  return out;
}

}  // namespace ballast::sync
