// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "agent/decide/recorder.h"
#include "agent/fleet/local.h"
#include "agent/loop/membership.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "core/observe/observation.h"
#include "core/spec/service_name.h"

namespace ballast::loop {
namespace {

/// Sum of |delta log w| between what was in force and what is now; `before` becomes the latter.
double churn_of(std::map<spec::EndpointId, double>& before, const guard::GuardedWeights& weights) {
  std::map<spec::EndpointId, double> now;
  double churn = 0;
  for (const guard::WeightedEndpoint& endpoint : weights.endpoints()) {
    const double log_weight = std::log(static_cast<double>(endpoint.weight));
    const auto found = before.find(endpoint.id);
    churn += found == before.end() ? 0 : std::abs(log_weight - found->second);
    now[endpoint.id] = log_weight;
  }
  before = std::move(now);
  return churn;
}

Status trouble_of(const std::string& text) {
  return text.empty() ? ok() : Status(Error::failed(text));
}

}  // namespace

Loop::Loop(const LoopOptions& options, ActingPolicy policy, LoopDoors doors)
    : options_(options),
      policy_(std::move(policy)),
      doors_(std::move(doors)),
      handover_(*doors_.sink),
      observer_(options.observer),
      turn_(options.guard),
      recorder_(options.rollout_steps) {
  if (doors_.fleet == nullptr) {
    doors_.fleet = std::make_unique<fleet::LocalFleet>();
  }
}

void Loop::tick(const sample::Sample& sample) {
  complain("sampling", ok());
  turn(sample, true);
}

void Loop::miss(const Error& why, MonotonicNs now) {
  complain("sampling", why);
  sample::Sample nothing;
  nothing.taken = now;
  turn(nothing, false);
}

void Loop::turn(const sample::Sample& sample, bool measured) {
  const MonotonicNs begun = SystemClock().now();
  take_parameters();
  const std::vector<identity::Pod>& pods = doors_.identity->pods();
  const spec::LoopTiming now = timing(sample.taken);
  handover_.settle();
  auto decisions = turn_.decide(
      doors_.fleet->exchange(
          turn_.report(members(observer_.endpoints(sample, pods), pods), now, doors_.sink->in_charge())),
      now, policy_.policy(), [this](const spec::ServiceId& service) { return doors_.sink->word(service); });
  withdraw_again(decisions);
  std::erase_if(decisions, [this](const turn::Decision& decision) {
    const bool gone = decision.weights.endpoints().empty();
    if (gone) {
      withdraw(decision.weights.service());
    }
    return gone;
  });
  for (turn::Decision& decision : decisions) {
    Service& service = services_[decision.weights.service()];
    if (measured) {
      learn(service, decision, now);
    }
    service.churn = churn_of(service.log_weights, decision.weights);
    hand_over(decision);
  }
  doubt(sample.taken);
  complain("policy", trouble_of(policy_.trouble()));
  complain("identity", trouble_of(doors_.identity->trouble()));
  complain("sink " + doors_.sink->name(), trouble_of(doors_.sink->trouble()));
  write_state(pods, decisions, now, measured);
  if (!measured) {
    return;
  }
  if (doors_.learner != nullptr) {
    doors_.learner->offer(recorder_.take());
    if (decide::ForecastRule* const forecast = policy_.forecast(); forecast != nullptr) {
      doors_.learner->offer_samples(forecast->take_samples());
    }
    if (policy_.has_gains()) {
      std::vector<spec::RecordedTick> ticks;
      for (const turn::Decision& decision : decisions) {
        ticks.push_back(decide::Recorder::recorded(decision.observation, now));
      }
      doors_.learner->offer_recording(policy_.name(), ticks);
    }
  }
  if (doors_.metrics != nullptr) {
    doors_.metrics->observe(sample, pods,
                            {.tick_duration_s = static_cast<double>(SystemClock().now() - begun) * 1e-9,
                             .policy_epoch = policy_.epoch(),
                             .policy_version = policy_.version(),
                             .subscribers = now.subscribers,
                             .acknowledgement_delay_s = doors_.sink->acknowledgement_delay_s(),
                             .troubles = {{"policy", !policy_.trouble().empty()},
                                          {"identity", !doors_.identity->trouble().empty()},
                                          {"sink", !doors_.sink->trouble().empty() || handover_.refused()},
                                          {"fleet", !doors_.fleet->trouble().empty()},
                                          {"telemetry", !disbelieved_.empty()}},
                             .disbelieved = {{"cpu", observer_.disbelief().cpu},
                                             {"answers", observer_.disbelief().answers},
                                             {"in_flight", observer_.disbelief().in_flight}}});
  }
}

void Loop::observe_spans(const telemetry::OtlpCounts& counts, std::uint64_t lost,
                         const telemetry::RouteStats* routes) {
  if (doors_.metrics != nullptr) {
    doors_.metrics->set_spans(counts, lost);
    if (routes != nullptr) {
      doors_.metrics->set_users(routes->users());
    }
  }
}

void Loop::take_parameters() {
  if (doors_.learner == nullptr) {
    return;
  }
  if (const auto gains = policy_.has_gains() ? doors_.learner->take_gains() : std::nullopt) {
    const Status status = policy_.replace_gains(*gains);
    spdlog::log(status ? spdlog::level::info : spdlog::level::warn, "gains from=learner {}",
                status ? "in force" : "refused reason=\"" + status.error().message + "\"");
  }
  std::optional<Status> taken;
  if (policy_.forecast() != nullptr) {
    if (const auto file = doors_.learner->take_forecast()) {
      taken = policy_.replace_forecast(file->bytes, file->epoch, file->version);
    }
  } else if (policy_.takes_parameters()) {
    if (const auto bytes = doors_.learner->take_parameters()) {
      taken = policy_.replace_from_learner(*bytes);
    }
  }
  if (!taken) {
    return;
  }
  if (const Status& status = *taken; !status) {
    spdlog::warn("parameters refused from=learner in_force={}.{} refused={} reason=\"{}\"", policy_.epoch(),
                 policy_.version(), policy_.refused(), status.error().message);
  } else {
    spdlog::debug("parameters in force from=learner epoch={} version={} crc32={:08x}", policy_.epoch(),
                  policy_.version(), policy_.crc32());
  }
}

void Loop::reload(const std::string& origin, const Result<std::string>& bytes) {
  const Status status = bytes ? policy_.replace(*bytes) : Status(bytes.error());
  if (!status) {
    spdlog::error("parameters refused from={} in_force={}.{} refused={} reason=\"{}\"", origin,
                  policy_.epoch(), policy_.version(), policy_.refused(), status.error().message);
    return;
  }
  spdlog::info("parameters in force from={} epoch={} version={} crc32={:08x}", origin, policy_.epoch(),
               policy_.version(), policy_.crc32());
}

spec::LoopTiming Loop::timing(MonotonicNs now) const {
  const double tick_s = std::chrono::duration<double>(options_.tick).count();
  return {.now = now,
          .tick_s = tick_s,
          .loop_delay_s = tick_s + doors_.sink->acknowledgement_delay_s(),
          .subscribers = doors_.sink->subscribers()};
}

void Loop::learn(Service& service, const turn::Decision& decision, const spec::LoopTiming& now) {
  if (doors_.learner == nullptr || !policy_.learns()) {
    return;
  }
  const spec::ServiceAggregate& aggregate = decision.observation.aggregate;
  const observe::RewardReference reference = service.reference.next(aggregate, now.tick_s);
  const float reward = observe::reward(aggregate, service.churn, reference, options_.reward);
  recorder_.record(decision.observation, decision.proposal, policy_.epoch(), policy_.version(), reward,
                   now.now);
}

void Loop::hand_over(turn::Decision& decision) {
  complain("publishing weights of " + to_string(decision.weights.service()), handover_.take(decision));
  if (doors_.metrics != nullptr) {
    doors_.metrics->set_decision(decision);
  }
}

void Loop::take_from_sink(const spec::ServiceId& id) {
  const Status withdrawn = doors_.sink->withdraw(id);
  complain("withdrawing " + to_string(id), withdrawn);
  if (!withdrawn) {
    to_withdraw_.insert(id);
  }
}

/// What the sink refused to let go of is asked for again, unless the service has come back.
void Loop::withdraw_again(const std::vector<turn::Decision>& decisions) {
  for (const spec::ServiceId& id : std::exchange(to_withdraw_, {})) {
    if (std::ranges::none_of(decisions, [&](const auto& one) { return one.weights.service() == id; })) {
      take_from_sink(id);
    } else {
      complaints_.erase("withdrawing " + to_string(id));
    }
  }
}

void Loop::withdraw(const spec::ServiceId& id) {
  take_from_sink(id);
  complaints_.erase("publishing weights of " + to_string(id));
  recorder_.forget(id);
  services_.erase(id);
  handover_.forget(id);
  if (doors_.metrics != nullptr) {
    doors_.metrics->withdraw(id);
  }
  spdlog::info("service withdrawn service={}", to_string(id));
}

void Loop::write_state(const std::vector<identity::Pod>& pods, const std::vector<turn::Decision>& decisions,
                       const spec::LoopTiming& now, bool lives) {
  if (!doors_.state) {
    return;
  }
  const telemetry::TickState state{.now = now.now,
                                   .tick_ms = static_cast<std::uint32_t>(options_.tick.count()),
                                   .mode = options_.mode,
                                   .subscribers = now.subscribers,
                                   .policy = policy_.name(),
                                   .policy_epoch = policy_.epoch(),
                                   .policy_version = policy_.version(),
                                   .policy_crc32 = policy_.crc32(),
                                   .sink = doors_.sink->name(),
                                   .loop = doors_.sink->loop_profile(),
                                   .leader = doors_.sink->leader(),
                                   .trouble = trouble()};
  complain("writing identities to their map", doors_.state->write_identity(pods));
  complain("writing decisions to their map", doors_.state->write_decisions(decisions, state));
  if (lives) {
    complain("writing the heartbeat", doors_.state->heartbeat(state));
  }
}

void Loop::doubt(MonotonicNs now) {
  constexpr MonotonicNs kToldNs = 60'000'000'000;
  const observe::Disbelief& seen = observer_.disbelief();
  if (!seen.last.empty()) {
    disbelieved_ = fmt::format("telemetry not believed: {} ({} samples so far)", seen.last,
                               seen.cpu + seen.answers + seen.in_flight);
    disbelieved_at_ = now;
  } else if (now > disbelieved_at_ + kToldNs) {
    disbelieved_.clear();
  }
}

std::string Loop::trouble() const {
  for (const std::string& one :
       {doors_.sink->trouble(), doors_.identity->trouble(), doors_.fleet->trouble(), policy_.trouble()}) {
    if (!one.empty()) {
      return one;
    }
  }
  return complaints_.empty() ? disbelieved_ : complaints_.begin()->first + ": " + complaints_.begin()->second;
}

void Loop::release() {
  auto decisions = turn_.release();
  for (turn::Decision& decision : decisions) {
    hand_over(decision);
  }
  // Told before and after: flush() may take longer than we are given.
  write_state(doors_.identity->pods(), decisions, timing(SystemClock().now()));
  doors_.sink->flush();
  for (turn::Decision& decision : decisions) {
    handover_.complete(decision);
  }
  write_state(doors_.identity->pods(), decisions, timing(SystemClock().now()));
  spdlog::info("equal weights published services={}", decisions.size());
}

void Loop::complain(const std::string& what, const Status& status) {
  const auto known = complaints_.find(what);
  if (status) {
    if (known != complaints_.end()) {
      complaints_.erase(known);
      spdlog::info("works again what=\"{}\"", what);
    }
    return;
  }
  if (known == complaints_.end() || known->second != status.error().message) {
    complaints_[what] = status.error().message;
    spdlog::error("failed what=\"{}\" reason=\"{}\"", what, status.error().message);
  }
}

}  // namespace ballast::loop
