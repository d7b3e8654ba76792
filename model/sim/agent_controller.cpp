// SPDX-License-Identifier: Apache-2.0
#include "model/sim/agent_controller.h"

#include <algorithm>
#include <map>
#include <numeric>

#include "agent/decide/forecast_rule.h"
#include "agent/decide/learned.h"
#include "agent/decide/queue_rule.h"
#include "agent/fleet/local.h"
#include "agent/observe/observer.h"
#include "agent/turn/turn.h"

namespace ballast::sim {
namespace {

constexpr double kNs = 1e9;

std::uint64_t ns(double seconds) {
  return static_cast<std::uint64_t>(std::max(0.0, seconds) * kNs);
}

sample::CgroupSample kernel_sample(const ServerTelemetry& t) {
  sample::CgroupSample s;
  s.id = t.server + 1ULL;
  s.requests = t.requests;
  s.responses = t.responses;
  s.errors = t.errors;
  s.in_flight = static_cast<std::int64_t>(t.in_flight);
  s.on_cpu_ns = ns(t.on_cpu_s);
  s.wait_ns = ns(t.wait_s);
  s.self_wait_ns = ns(t.self_wait_s);
  s.quota_wait_ns = ns(t.ready_s - t.on_cpu_s - t.wait_s);
  s.cpu_limit_cores = t.limit_cores;
  s.first_byte.count = std::accumulate(t.latency.begin(), t.latency.end(), std::uint64_t{0});
  s.first_byte.sum_ns = ns(t.latency_sum_s);
  std::copy(t.latency.begin(), t.latency.end(), s.first_byte.buckets.begin());
  s.last_byte = s.first_byte;
  return s;
}

identity::Pod pod_of(std::uint32_t server) {
  // Zero-padded, so that the order of ids is the order of servers.
  std::string number = std::to_string(server);
  number.insert(0, 6 - std::min<std::size_t>(number.size(), 6), '0');
  identity::Pod pod;
  pod.cgroup_id = server + 1ULL;
  pod.cgroup = "/sim/" + number;
  pod.pod = number;
  pod.ns = kSimulated.ns;
  pod.container = "app";
  pod.service = kSimulated.name;
  pod.address = "127.0.0.1";
  pod.port = 8080;
  return pod;
}

observe::ObserverOptions observer_options() {
  observe::ObserverOptions options;
  options.machine_cores = 1e6;  // a pod's limit is the scenario's, not this machine's
  return options;
}

sample::Sample node_sample(MonotonicNs now, const std::vector<ServerTelemetry>& telemetry) {
  sample::Sample sample;
  sample.taken = now;
  for (const auto& each : telemetry) {
    if (!each.known) {
      continue;
    }
    sample.taken = ns(each.taken_s) + 1;
    sample.interval_ns = std::max(sample.interval_ns, ns(each.interval_s));
    sample.cgroups.push_back(kernel_sample(each));
  }
  return sample;
}

std::vector<double> by_server(const guard::GuardedWeights& weights,
                              const std::vector<std::uint32_t>& servers) {
  std::map<std::string, double> by_pod;
  for (const auto& endpoint : weights.endpoints()) {
    by_pod[endpoint.id.pod] = endpoint.weight / static_cast<double>(guard::GuardedWeights::kWeightScale);
  }
  std::vector<double> result;
  for (const auto server : servers) {
    const auto it = by_pod.find(pod_of(server).pod);
    result.push_back(it == by_pod.end() ? 1 : it->second);
  }
  return result;
}

class AgentController final : public Controller {
 public:
  AgentController(std::unique_ptr<decide::Policy> policy, const LoopOptions& loop, std::size_t subscribers,
                  const guard::GuardOptions& guard)
      : policy_(std::move(policy)), loop_(loop, subscribers, guard) {}

  std::optional<std::vector<double>> tick(double now_s, const std::vector<std::uint32_t>& servers,
                                          const std::vector<ServerTelemetry>& telemetry) override {
    const auto observation = loop_.observe(now_s, servers, telemetry);
    if (!observation) {
      return std::nullopt;
    }
    return loop_.act(policy_->decide(*observation, loop_.timing()), servers);
  }

 private:
  std::unique_ptr<decide::Policy> policy_;
  AgentLoop loop_;
};

}  // namespace

struct AgentLoop::Rooms {
  Rooms(const LoopOptions& options, std::size_t subscribers, const guard::GuardOptions& guard_options)
      : loop{0, options.tick_s, options.tick_s + options.apply_delay_s, subscribers},
        observer(observer_options()),
        turn(guard_options) {}

  spec::LoopTiming loop;
  observe::Observer observer;
  fleet::LocalFleet fleet;
  turn::Turn turn;
};

AgentLoop::AgentLoop(const LoopOptions& loop, std::size_t subscribers, const guard::GuardOptions& guard)
    : rooms_(std::make_unique<Rooms>(loop, subscribers, guard)) {}
AgentLoop::AgentLoop(AgentLoop&&) noexcept = default;
AgentLoop& AgentLoop::operator=(AgentLoop&&) noexcept = default;
AgentLoop::~AgentLoop() = default;

const spec::LoopTiming& AgentLoop::timing() const {
  return rooms_->loop;
}

std::optional<spec::ServiceObservation> AgentLoop::observe(double now_s,
                                                           const std::vector<std::uint32_t>& servers,
                                                           const std::vector<ServerTelemetry>& telemetry) {
  Rooms& r = *rooms_;
  r.loop.now = ns(now_s) + 1;
  std::vector<identity::Pod> pods;
  for (const auto server : servers) {
    pods.push_back(pod_of(server));
  }
  const auto& endpoints = r.observer.endpoints(node_sample(r.loop.now, telemetry), pods);
  const auto& seen = r.turn.observe(r.fleet.exchange(r.turn.report(endpoints, r.loop)), r.loop);
  return seen.empty() ? std::nullopt : std::optional(seen.front());
}

std::optional<std::vector<double>> AgentLoop::act(const decide::ServiceProposal& proposal,
                                                  const std::vector<std::uint32_t>& servers) {
  const auto decisions = rooms_->turn.act({proposal});
  const bool changed = !decisions.empty() && decisions.front().weights.changed();
  return changed ? std::optional(by_server(decisions.front().weights, servers)) : std::nullopt;
}

std::unique_ptr<Controller> make_agent_controller(std::unique_ptr<decide::Policy> policy,
                                                  const LoopOptions& loop, std::size_t subscribers,
                                                  const guard::GuardOptions& guard) {
  return std::make_unique<AgentController>(std::move(policy), loop, subscribers, guard);
}

Technique agent_technique(std::string name, std::string rule,
                          std::function<std::unique_ptr<decide::Policy>()> make) {
  Technique technique = steered_technique();
  technique.name = std::move(name);
  technique.rule = std::move(rule);
  technique.make_controller = [make = std::move(make)](const Scenario& scenario, const LoopOptions& loop) {
    return make_agent_controller(make(), loop, scenario.clients);
  };
  return technique;
}

Technique queue_rule_technique(GainsByService gains) {
  return agent_technique("queue_rule",
                         "capacity by what limits the pod, square-root tilt, feedback from the queues",
                         [gains = std::move(gains)] {
                           auto rule = std::make_unique<decide::QueueRule>();
                           rule->set_gains(gains);
                           return rule;
                         });
}

Technique forecast_technique(std::shared_ptr<const std::vector<float>> theta, bool trusting,
                             GainsByService gains) {
  return agent_technique(
      trusting ? "forecast_rule_trusting" : "forecast_rule",
      std::string("queue_rule over the capacities that a learned forecast expects when weights arrive") +
          (trusting ? ", whether forecasts came true or not" : ""),
      [theta = std::move(theta), trusting, gains = std::move(gains)] {
        auto rule = std::make_unique<decide::ForecastRule>(theta, decide::QueueRuleOptions{}, trusting);
        rule->rule().set_gains(gains);
        return rule;
      });
}

Technique learned_technique(std::shared_ptr<const spec::ActorNetwork> network) {
  return agent_technique("learned",
                         std::string("Ballast's learned policy over the prior, pushed to LEAST_REQUEST") +
                             (network ? "" : "; without parameters, so the prior"),
                         [network] { return std::make_unique<decide::LearnedPolicy>(network); });
}

}  // namespace ballast::sim
