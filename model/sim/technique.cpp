// SPDX-License-Identifier: Apache-2.0
#include "model/sim/technique.h"

#include <fmt/format.h>

#include "agent/decide/prior.h"
#include "agent/decide/queue_rule.h"
#include "model/policy/forecast_file.h"
#include "model/policy/forward.h"
#include "model/policy/shipped.h"
#include "model/sim/agent_controller.h"
#include "model/sim/balancers/controllers.h"
#include "model/sim/balancers/envoy.h"
#include "model/sim/balancers/hashing.h"
#include "model/sim/balancers/latency.h"
#include "model/sim/balancers/reported.h"

namespace ballast::sim {
namespace {

/// One balancer a client, made from its view and what else it takes.
template <typename One, typename... Args>
auto balancers_of(Args... args) {
  return [args...](const Scenario&, std::span<const ClientView> clients) {
    Balancers balancers;
    for (const auto& view : clients) {
      balancers.push_back(std::make_unique<One>(view, args...));
    }
    return balancers;
  };
}

LeastRequestOptions with_slow_start() {
  LeastRequestOptions options;
  options.slow_start_window_s = 60;
  return options;
}

decide::PriorOptions by_square_root() {
  decide::PriorOptions options;
  options.square_root = 1;
  return options;
}

/// The same for a balancer whose last argument is the offered work a second.
template <typename One, typename... Args>
auto loaded_fleet_of(Args... args) {
  return [args...](const Scenario& scenario, std::span<const ClientView> clients) {
    const double load = base_rate(scenario) * mean_envelope(scenario) * mean_work(scenario.service);
    return balancers_of<One>(args..., load)(scenario, clients);
  };
}

Technique plain(std::string name, std::string rule,
                std::function<Balancers(const Scenario&, std::span<const ClientView>)> make_balancers) {
  Technique technique;
  technique.name = std::move(name);
  technique.rule = std::move(rule);
  technique.make_balancers = std::move(make_balancers);
  return technique;
}

template <typename C>
Technique controlled(std::string name, std::string rule, Weights weights) {
  Technique technique = plain(std::move(name), std::move(rule), balancers_of<RoundRobin>(weights));
  technique.measured = true;
  technique.make_controller = [](const Scenario&, const LoopOptions&) { return std::make_unique<C>(); };
  return technique;
}

void add_envoys(std::vector<Technique>& all) {
  LeastRequestOptions full_scan;
  full_scan.full_scan = true;
  all.push_back(
      plain("round_robin", "Envoy ROUND_ROBIN, equal weights", balancers_of<RoundRobin>(Weights::kNone)));
  all.push_back(plain("weighted_round_robin", "Envoy ROUND_ROBIN over true capacities (EDF)",
                      balancers_of<RoundRobin>(Weights::kOperator)));
  all.push_back(plain("random", "Envoy RANDOM", balancers_of<Random>()));
  all.push_back(
      plain("ring_hash", "Envoy RING_HASH by the request's source",
            [](const Scenario&, std::span<const ClientView> clients) { return make_ring_hash(clients); }));
  all.back().keyed = true;
  all.push_back(
      plain("maglev", "Envoy MAGLEV by the request's destination",
            [](const Scenario&, std::span<const ClientView> clients) { return make_maglev(clients); }));
  all.back().keyed = true;
  all.push_back(plain("least_request", "Envoy LEAST_REQUEST, equal weights (P2C; Istio's default)",
                      balancers_of<LeastRequest>(Weights::kNone, LeastRequestOptions{})));
  all.push_back(plain("least_request_full_scan", "Envoy LEAST_REQUEST with FULL_SCAN",
                      balancers_of<LeastRequest>(Weights::kNone, full_scan)));
  all.push_back(plain("least_request_weighted", "Envoy LEAST_REQUEST over true capacities (EDF)",
                      balancers_of<LeastRequest>(Weights::kOperator, LeastRequestOptions{})));
  all.push_back(
      plain("least_connections", "HAProxy leastconn over true capacities", balancers_of<LeastConnections>()));
  all.push_back(plain("slow_start", "Envoy LEAST_REQUEST with a slow start window of 60 s",
                      balancers_of<LeastRequest>(Weights::kNone, with_slow_start())));
}

void add_researched(std::vector<Technique>& all) {
  all.push_back(
      plain("peak_ewma", "Finagle and Linkerd Peak-EWMA (least response time)", balancers_of<PeakEwma>()));
  all.push_back(plain("cswrr", "gRFC A58 client-side weighted round robin, by reported CPU",
                      balancers_of<ClientSideWeightedRoundRobin>(false)));
  all.back().measured = true;
  all.push_back(plain("cswrr_app", "the same by application_utilization: workers busy / workers",
                      balancers_of<ClientSideWeightedRoundRobin>(true)));
  all.back().measured = true;
  all.push_back(plain("c3", "C3 replica ranking (NSDI 2015)", balancers_of<C3>()));
  all.push_back(plain("prequal", "Prequal, hot-cold lexicographic (NSDI 2024)", balancers_of<Prequal>()));
  all.push_back(plain("l3", "L3 TrafficSplit controller (Middleware 2024)",
                      [](const Scenario&, std::span<const ClientView> clients) { return make_l3(clients); }));
  all.push_back(controlled<KnapsackController>(
      "knapsack", "KnapsackLB: latency over weight learned by trying, then a knapsack (2024)",
      Weights::kEds));
  all.push_back(controlled<RobinhoodController>(
      "robinhood", "Dropbox's Robinhood: a PID controller of each server's CPU utilisation", Weights::kEds));
  all.push_back(plain("lalb", "brpc locality-aware, qps / latency^2", balancers_of<LocalityAware>()));
}

/// Null, which acts as the prior, only if what was built in were damaged; a test sees to that.
std::shared_ptr<const spec::ActorNetwork> shipped_network() {
  const auto parameters = policy::parse(policy::shipped());
  const auto network = parameters ? policy::ForwardNetwork::create(*parameters) : parameters.error();
  return network ? *network : nullptr;
}

std::shared_ptr<const std::vector<float>> shipped_forecast() {
  auto theta = policy::parse_forecast(policy::shipped_forecast());
  return theta ? std::make_shared<const std::vector<float>>(std::move(*theta)) : nullptr;
}

void add_agents(std::vector<Technique>& all) {
  all.push_back(agent_technique("prior", "Ballast's capacity prior, pushed to LEAST_REQUEST",
                                [] { return std::make_unique<decide::PriorPolicy>(); }));
  all.push_back(agent_technique("prior_square_root",
                                "the same, tilted by the square-root rule of the service's load",
                                [] { return std::make_unique<decide::PriorPolicy>(by_square_root()); }));
  for (const auto& [name, prefix] :
       {std::pair{"queue_rule", ""}, {"ballast", "what ballastd acts by as it comes: "}}) {
    all.push_back(agent_technique(
        name,
        prefix + std::string("capacity by what limits the pod, square-root tilt, feedback from the queues"),
        [] { return std::make_unique<decide::QueueRule>(); }));
  }
  all.push_back(forecast_technique(shipped_forecast()));
  all.push_back(forecast_technique(shipped_forecast(), true));
  all.push_back(learned_technique(shipped_network()));
  Technique warmed = learned_technique(shipped_network());
  warmed.name = "learned_slow_start";
  warmed.rule =
      "the learned policy, pushed to LEAST_REQUEST with a slow start window of 60 s (Istio's warmup)";
  warmed.make_balancers = balancers_of<LeastRequest>(Weights::kEds, with_slow_start());
  all.push_back(std::move(warmed));
}

/// True capacities, by the square-root rule, through the loop that a weight controller has.
Technique true_capacity(std::string name, std::string rule, bool foresight) {
  Technique technique = steered_technique();
  technique.name = std::move(name);
  technique.rule = std::move(rule);
  technique.oracle = true;
  technique.foresight = foresight;
  technique.make_controller = [](const Scenario& scenario, const LoopOptions&) {
    return std::make_unique<TrueCapacityController>(base_rate(scenario) * mean_envelope(scenario) *
                                                    mean_work(scenario.service));
  };
  return technique;
}

void add_oracles(std::vector<Technique>& all) {
  all.push_back(
      true_capacity("oracle_loop", "true capacities by the square-root rule through the same loop", false));
  all.push_back(
      true_capacity("oracle_foresight", "the same, of the moment at which the weights arrive", true));
  all.push_back(plain("oracle_static", "optimal static split (square-root rule), weighted round robin",
                      loaded_fleet_of<RoundRobin>(Weights::kStatic)));
  all.back().oracle = true;
  all.push_back(plain("oracle_weights",
                      "the same split over the true capacities of every 50 ms, at once, under LEAST_REQUEST",
                      loaded_fleet_of<LeastRequest>(Weights::kNow, LeastRequestOptions{})));
  all.back().oracle = true;
  all.push_back(plain("oracle_sed", "global shortest expected delay", balancers_of<ShortestExpectedDelay>()));
  all.back().oracle = true;
  all.push_back(
      plain("oracle_pooled", "one processor-sharing server of the whole capacity", balancers_of<Random>()));
  all.back().oracle = true;
  all.back().pooled = true;
}

}  // namespace

Technique steered_technique() {
  Technique technique = plain("steered", "Envoy LEAST_REQUEST over pushed weights",
                              balancers_of<LeastRequest>(Weights::kEds, LeastRequestOptions{}));
  technique.measured = true;
  return technique;
}

const std::vector<Technique>& techniques() {
  static const std::vector<Technique> all = [] {
    std::vector<Technique> list;
    add_envoys(list);
    add_researched(list);
    add_agents(list);
    add_oracles(list);
    return list;
  }();
  return all;
}

const std::vector<std::string>& loop_names() {
  static const std::vector<std::string> names = {"eds", "istio_fast", "istio"};
  return names;
}

Result<LoopOptions> find_loop(const std::string& name) {
  static const std::vector<LoopOptions> loops = {{0.047, 0.016}, {0.25, 0.115}, {1.1, 0.12}};
  for (std::size_t i = 0; i < loops.size(); ++i) {
    if (loop_names()[i] == name) {
      return loops[i];
    }
  }
  return Error::usage(fmt::format("there is no loop '{}'; known: {}", name, fmt::join(loop_names(), ", ")));
}

Result<const Technique*> find_technique(const std::string& name) {
  std::string known;
  for (const auto& technique : techniques()) {
    if (technique.name == name) {
      return &technique;
    }
    known += (known.empty() ? "" : ", ") + technique.name;
  }
  return Error::usage("there is no policy '" + name + "'; known: " + known);
}

}  // namespace ballast::sim
