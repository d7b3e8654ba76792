// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/loop.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "agent/fleet/local.h"
#include "agent/loop/membership.h"
#include "agent/observe/observation.h"
#include "core/base/clock.h"
#include "core/base/log.h"

namespace ballast::loop {
namespace {

std::string text(const spec::ServiceId& id) {
  return id.ns + "/" + id.name;
}

double tick_seconds(const LoopOptions& options) {
  return std::chrono::duration<double>(options.tick).count();
}

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
      observer_(options.observer),
      guard_(options.guard),
      recorder_(options.rollout_steps) {
  if (doors_.fleet == nullptr) {
    doors_.fleet = std::make_unique<fleet::LocalFleet>();
  }
}

void Loop::tick(const sample::Sample& sample) {
  const MonotonicNs begun = SystemClock().now();
  take_parameters();
  const std::vector<identity::Pod>& pods = doors_.identity->pods();
  const decide::LoopContext now = context(sample.taken);
  doors_.fleet->set_loop(now.tick_s, now.loop_delay_s, doors_.sink->in_charge());
  const auto endpoints = doors_.fleet->complete(members(observer_.endpoints(sample, pods), pods), now.now);
  const auto observations = observe_all(endpoints, now);

  std::vector<decide::ServiceProposal> proposals;
  proposals.reserve(observations.size());
  for (const auto& observation : observations) {
    proposals.push_back(decide_one(observation, now));
  }

  std::vector<guard::GuardedWeights> weights;
  for (const fleet::ServiceView& view : doors_.fleet->join(proposals, now.now)) {
    const guard::GuardedWeights guarded = guard_.apply(view, now.now);
    if (view.endpoints.empty()) {
      withdraw(view.service);
      continue;
    }
    publish(services_[view.service], guarded);
    weights.push_back(guarded);
  }

  std::vector<telemetry::ServiceTick> ticks;
  for (const guard::GuardedWeights& w : weights) {
    telemetry::ServiceTick tick{.weights = &w, .published = services_[w.service()].published};
    for (std::size_t i = 0; i < observations.size(); ++i) {
      if (observations[i].aggregate.service == w.service()) {
        tick.observation = &observations[i];
        tick.proposal = &proposals[i];
      }
    }
    ticks.push_back(tick);
  }
  complain("identity", trouble_of(doors_.identity->trouble()));
  complain("sink " + doors_.sink->name(), trouble_of(doors_.sink->trouble()));
  write_state(pods, ticks, now);
  if (doors_.learner != nullptr) {
    doors_.learner->offer(recorder_.take());
  }
  if (doors_.metrics != nullptr) {
    doors_.metrics->observe(sample, pods,
                            {.tick_duration_s = static_cast<double>(SystemClock().now() - begun) * 1e-9,
                             .policy_epoch = policy_.epoch(),
                             .policy_version = policy_.version(),
                             .subscribers = now.subscribers,
                             .acknowledgement_delay_s = doors_.sink->acknowledgement_delay_s(),
                             .troubles = {{"identity", !doors_.identity->trouble().empty()},
                                          {"sink", !doors_.sink->trouble().empty()}}});
  }
}

void Loop::observe_spans(const telemetry::OtlpCounts& counts, std::uint64_t lost) {
  if (doors_.metrics != nullptr) {
    doors_.metrics->set_spans(counts, lost);
  }
}

void Loop::take_parameters() {
  if (doors_.learner == nullptr) {
    return;
  }
  const auto bytes = doors_.learner->take_parameters();
  if (!bytes) {
    return;
  }
  if (const Status status = policy_.replace_from_learner(*bytes); !status) {
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

decide::LoopContext Loop::context(MonotonicNs now) const {
  const double tick_s = tick_seconds(options_);
  return {.now = now,
          .tick_s = tick_s,
          .loop_delay_s = tick_s + doors_.sink->acknowledgement_delay_s(),
          .subscribers = doors_.sink->subscribers()};
}

std::vector<spec::ServiceObservation> Loop::observe_all(const std::vector<spec::EndpointTelemetry>& endpoints,
                                                        const decide::LoopContext& context) {
  const observe::LoopNumbers numbers{context.now, context.tick_s, context.loop_delay_s};
  std::vector<spec::ServiceObservation> observations;
  for (const spec::ServiceAggregate& aggregate : doors_.fleet->report(endpoints, context.now)) {
    const auto own = std::ranges::equal_range(
        endpoints, aggregate.service, {},
        [](const auto& endpoint) -> const spec::ServiceId& { return endpoint.id.service; });
    std::vector<double> offsets;
    for (const auto& endpoint : own) {
      const auto& in_force = services_[aggregate.service].offsets;
      const auto found = in_force.find(endpoint.id);
      offsets.push_back(found == in_force.end() ? 0 : found->second);
    }
    observations.push_back(observe::observe(aggregate, {own.begin(), own.end()}, offsets, numbers));
  }
  return observations;
}

decide::ServiceProposal Loop::decide_one(const spec::ServiceObservation& observation,
                                         const decide::LoopContext& context) {
  Service& service = services_[observation.aggregate.service];
  decide::ServiceProposal proposal = policy_.policy().decide(observation, context);
  doors_.fleet->honour(proposal);
  record(service, observation, proposal, context);
  service.offsets.clear();
  for (const decide::Proposal& endpoint : proposal.endpoints) {
    service.offsets[endpoint.id] = endpoint.offset;
  }
  return proposal;
}

void Loop::record(Service& service, const spec::ServiceObservation& observation,
                  const decide::ServiceProposal& proposal, const decide::LoopContext& context) {
  if (doors_.learner == nullptr || !policy_.learns()) {
    return;
  }
  const observe::RewardReference reference = service.reference.next(observation.aggregate, context.tick_s);
  const float reward = observe::reward(observation.aggregate, service.churn, reference, options_.reward);
  // Each node learns from what it decided itself.
  spec::ServiceObservation seen{observation.aggregate, {}};
  decide::ServiceProposal decided = proposal;
  decided.endpoints.clear();
  for (std::size_t i = 0; i < std::min(observation.endpoints.size(), proposal.endpoints.size()); ++i) {
    if (doors_.fleet->owns(proposal.endpoints[i].id)) {
      seen.endpoints.push_back(observation.endpoints[i]);
      decided.endpoints.push_back(proposal.endpoints[i]);
    }
  }
  recorder_.record(seen, decided, policy_.epoch(), policy_.version(), reward, context.now);
}

void Loop::publish(Service& service, const guard::GuardedWeights& weights) {
  service.churn = churn_of(service.log_weights, weights);
  if (!weights.changed() && !service.waiting) {
    return;
  }
  const Status status = doors_.sink->publish(weights);
  service.waiting = !status;
  complain("publishing weights of " + text(weights.service()), status);
  if (!status) {
    return;
  }
  service.published = true;
  if (doors_.metrics != nullptr) {
    doors_.metrics->set_weights(weights);
  }
  spdlog::debug("weights published service={} endpoints={} neutral={} why=\"{}\"", text(weights.service()),
                weights.endpoints().size(), weights.neutral(), weights.why());
}

void Loop::withdraw(const spec::ServiceId& id) {
  complain("withdrawing " + text(id), doors_.sink->withdraw(id));
  recorder_.forget(id);
  services_.erase(id);
  if (doors_.metrics != nullptr) {
    doors_.metrics->withdraw(id);
  }
  spdlog::info("service withdrawn service={}", text(id));
}

void Loop::write_state(const std::vector<identity::Pod>& pods,
                       const std::vector<telemetry::ServiceTick>& services,
                       const decide::LoopContext& context) {
  if (!doors_.state) {
    return;
  }
  const telemetry::TickState state{.now = context.now,
                                   .tick_ms = static_cast<std::uint32_t>(options_.tick.count()),
                                   .mode = options_.mode,
                                   .subscribers = context.subscribers,
                                   .policy = policy_.name(),
                                   .policy_epoch = policy_.epoch(),
                                   .policy_version = policy_.version(),
                                   .policy_crc32 = policy_.crc32(),
                                   .sink = doors_.sink->name(),
                                   .trouble = trouble()};
  complain("writing identities to their map", doors_.state->write_identity(pods));
  complain("writing decisions to their map", doors_.state->write_decisions(services, state));
  complain("writing the heartbeat", doors_.state->heartbeat(state));
}

std::string Loop::trouble() const {
  const std::string of_sink = doors_.sink->trouble();
  return of_sink.empty() ? doors_.identity->trouble() : of_sink;
}

void Loop::release() {
  std::vector<guard::GuardedWeights> equal;
  for (const spec::ServiceId& id : guard_.services()) {
    equal.push_back(guard_.release(id));
    complain("publishing equal weights of " + text(id), doors_.sink->publish(equal.back()));
  }
  std::vector<telemetry::ServiceTick> ticks;
  for (const guard::GuardedWeights& weights : equal) {
    ticks.push_back({.weights = &weights, .published = true});
  }
  write_state(doors_.identity->pods(), ticks, context(SystemClock().now()));
  doors_.sink->flush();
  spdlog::info("equal weights published services={}", equal.size());
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
