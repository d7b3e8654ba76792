// SPDX-License-Identifier: Apache-2.0
// Slowness, churn, faults, telemetry and the controllers.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "model/sim/agent_controller.h"
#include "model/sim/simulation.h"

namespace ballast::sim {
namespace {

Scenario steady(std::size_t servers, double rho) {
  Scenario scenario;
  scenario.name = "steady";
  scenario.servers.assign(servers, ServerSpec{});
  scenario.clients = 5;
  scenario.service.mean_s = 0.010;
  scenario.arrivals.rho = rho;
  scenario.duration_s = 40;
  return scenario;
}

Slowness slowed(double factor, Slowness::Shows shows) {
  Slowness slow;
  slow.servers = {0};
  slow.factor = factor;
  slow.shows = shows;
  return slow;
}

double on(const ServerTelemetry& t) {
  return t.on_cpu_s / (t.on_cpu_s + t.wait_s - t.self_wait_s);
}

TEST(Telemetry, TenantsShowAsWaitAndTheOwnQueueDoesNot) {
  auto scenario = steady(2, 0.4);
  scenario.slowness = {slowed(0.4, Slowness::Shows::kWait)};
  Simulation simulation(scenario, steered_technique(), 1);
  simulation.run_until(30);
  const auto samples = simulation.take_telemetry();
  ASSERT_EQ(samples.size(), 2U);
  // The pod is nearly saturated: it gets all that the tenants leave, and its threads wait.
  EXPECT_LT(on(samples[0]), 0.4);
  EXPECT_DOUBLE_EQ(on(samples[1]), 1);
  EXPECT_GT(samples[1].self_wait_s, 0);
  EXPECT_NEAR(samples[0].on_cpu_s, 0.01 * static_cast<double>(samples[0].responses), 1.5);
  EXPECT_EQ(samples[0].interval_s, 30);
}

// A request that waits outside is in flight, and neither runs nor is ready to.
TEST(Telemetry, WaitingOutsideIsNeitherRunningNorReady) {
  auto scenario = steady(1, 0.5);
  scenario.clients = 1;
  scenario.discipline = Discipline::kFifo;
  scenario.servers[0].workers = 4;
  scenario.servers[0].limit = 9;
  scenario.service = {.kind = LawSpec::Kind::kConstant, .mean_s = 0.002};
  scenario.wait = {.mean_s = 0.018, .cv = 0.5};
  Simulation simulation(scenario, steered_technique(), 1);
  simulation.run_until(30);
  const ServerTelemetry t = simulation.take_telemetry()[0];
  const double rate = static_cast<double>(t.responses) / 30;
  EXPECT_NEAR(rate, 0.5 * 4 / 0.020, 5);
  EXPECT_NEAR(t.on_cpu_s / 30, rate * 0.002, 0.002);
  EXPECT_NEAR(t.ready_s, t.on_cpu_s, 1e-6) << "workers share nothing: nobody waits for a CPU";
  EXPECT_GT(t.latency_sum_s / 30, rate * 0.0195);
  EXPECT_EQ(t.limit_cores, 9);
}

std::vector<std::pair<double, double>> slow_times(const Slowness& slow, std::uint32_t server) {
  auto scenario = steady(3, 0.3);
  scenario.slowness = {slow};
  Simulation simulation(scenario, steered_technique(), 1);
  std::vector<std::pair<double, double>> times;
  bool was = false;
  for (double now = 0.005; now < 39; now += 0.01) {
    simulation.run_until(now);
    const bool is = simulation.capacity(server) < 1;
    if (is && !was) {
      times.emplace_back(now, now);
    } else if (is) {
      times.back().second = now;
    }
    was = is;
  }
  return times;
}

TEST(Slowness, ComesBackByPeriodPhaseAndStagger) {
  Slowness slow;
  slow.kind = Slowness::Kind::kPeriodic;
  slow.factor = 0.5;
  slow.servers = {0, 2};
  slow.every_s = 10.3;
  slow.duration_s = 2;
  slow.phase_s = 1;
  slow.stagger_s = 3;
  slow.until_s = 30;
  const auto first = slow_times(slow, 0);
  ASSERT_EQ(first.size(), 3U);
  EXPECT_NEAR(first[1].first, 11.3, 0.011);
  EXPECT_NEAR(first[1].second, 13.3, 0.011);
  const auto second = slow_times(slow, 2);
  ASSERT_EQ(second.size(), 3U);
  EXPECT_NEAR(second[0].first, 4, 0.011);
  EXPECT_TRUE(slow_times(slow, 1).empty());
}

TEST(Slowness, JitterIsLateByUpToItAndSharedByThoseThatAreSlowTogether) {
  Slowness slow;
  slow.kind = Slowness::Kind::kPeriodic;
  slow.factor = 0.5;
  slow.every_s = 8;
  slow.duration_s = 1;
  slow.jitter_s = 4;
  const auto first = slow_times(slow, 0);
  ASSERT_EQ(first.size(), 5U);
  bool moved = false;
  for (std::size_t i = 0; i < first.size(); ++i) {
    const double late = first[i].first - 8. * static_cast<double>(i);
    EXPECT_GE(late, -0.011);
    EXPECT_LE(late, 4.011);
    moved = moved || late > 0.1;
  }
  EXPECT_TRUE(moved);
  EXPECT_EQ(slow_times(slow, 1), first);
}

TEST(Telemetry, APodThatIsSlowByItselfShowsNoWait) {
  auto scenario = steady(2, 0.4);
  scenario.slowness = {slowed(0.5, Slowness::Shows::kWork)};
  Simulation simulation(scenario, steered_technique(), 1);
  simulation.run_until(30);
  const auto samples = simulation.take_telemetry();
  EXPECT_DOUBLE_EQ(on(samples[0]), 1);
  // But a request costs twice the CPU.
  const auto cost = [](const ServerTelemetry& t) { return t.on_cpu_s / static_cast<double>(t.responses); };
  EXPECT_NEAR(cost(samples[0]) / cost(samples[1]), 2, 0.15);
}

TEST(Telemetry, ItsFaultsAreTheScenarios) {
  auto scenario = steady(4, 0.5);
  scenario.telemetry.loss = 0.3;
  scenario.telemetry.zeros = 0.2;
  Simulation simulation(scenario, steered_technique(), 1);
  int lost = 0;
  int zero = 0;
  for (int i = 1; i <= 100; ++i) {
    simulation.run_until(0.3 * i);
    for (const auto& sample : simulation.take_telemetry()) {
      lost += sample.known ? 0 : 1;
      zero += sample.requests == 0 && sample.on_cpu_s == 0 ? 1 : 0;
    }
  }
  EXPECT_NEAR(lost / 400., 0.3, 0.07);
  EXPECT_NEAR(zero / 400., 0.2, 0.06);
}

TEST(Telemetry, IsLateAndFreezes) {
  auto scenario = steady(1, 0.5);
  scenario.telemetry.delay_s = 1;
  Simulation late(scenario, steered_technique(), 1);
  late.run_until(0.5);
  EXPECT_TRUE(late.take_telemetry().empty());
  late.run_until(1.5);
  ASSERT_EQ(late.take_telemetry().size(), 1U);
  late.run_until(2.5);
  EXPECT_EQ(late.take_telemetry()[0].taken_s, 1.5);
  scenario.telemetry = {};
  scenario.telemetry.frozen_from_s = 1;
  Simulation frozen(scenario, steered_technique(), 1);
  frozen.run_until(2);
  const auto first = frozen.take_telemetry();
  frozen.run_until(20);
  EXPECT_EQ(frozen.take_telemetry()[0].on_cpu_s, first[0].on_cpu_s);
}

TEST(Weights, ReachTheProxiesAfterTheDelay) {
  auto scenario = steady(2, 0.3);
  LoopOptions loop;
  loop.apply_delay_s = 5;
  Simulation simulation(scenario, steered_technique(), 1, loop);
  simulation.run_until(10);
  simulation.take_telemetry();
  simulation.push_weights({0, 1}, {1.9, 0.1});
  simulation.run_until(14.9);
  auto samples = simulation.take_telemetry();
  EXPECT_NEAR(static_cast<double>(samples[0].requests) / static_cast<double>(samples[1].requests), 1, 0.25);
  simulation.run_until(20);
  simulation.take_telemetry();
  simulation.run_until(40);
  samples = simulation.take_telemetry();
  EXPECT_GT(samples[0].requests, 6 * samples[1].requests);
  EXPECT_NEAR(simulation.metrics().weight_changes_per_min, 60. / 40, 0.01);
}

TEST(Churn, PodsComeColdAndGoForGood) {
  auto scenario = steady(2, 0.5);
  Churn churn;
  churn.at_s = 20;
  churn.add = {ServerSpec{}};
  churn.remove = {0};
  churn.cold_factor = 4;
  churn.cold_decay_s = 1000;
  scenario.churn = {churn};
  Simulation simulation(scenario, **find_technique("oracle_sed"), 1);
  simulation.run_until(19.9);
  EXPECT_EQ(simulation.members(), (std::vector<std::uint32_t>{0, 1}));
  simulation.run_until(20.05);
  EXPECT_EQ(simulation.members(), (std::vector<std::uint32_t>{1, 2}));
  EXPECT_NEAR(simulation.capacity(2), 0.25, 0.01);
  simulation.run_until(1e9);
  const Metrics m = simulation.metrics();
  EXPECT_EQ(m.errors, 0U);
  EXPECT_GT(m.requests_by_server[2], 0U);
  EXPECT_LT(m.requests_by_server[2], m.requests_by_server[1] / 2);
}

TEST(Slowness, RotatesOverTheGivenNumber) {
  auto scenario = steady(10, 0.5);
  Slowness slow;
  slow.kind = Slowness::Kind::kRotate;
  slow.count = 3;
  slow.factor = 0.4;
  slow.every_s = 2;
  scenario.slowness = {slow};
  Simulation simulation(scenario, **find_technique("random"), 1);
  std::vector<int> times(10, 0);
  for (int round = 0; round < 20; ++round) {
    simulation.run_until(2. * round + 1);
    int slow_now = 0;
    for (std::uint32_t server = 0; server < 10; ++server) {
      const bool is_slow = simulation.capacity(server) < 0.5;
      slow_now += is_slow ? 1 : 0;
      times[server] += is_slow ? 1 : 0;
    }
    EXPECT_EQ(slow_now, 3);
  }
  EXPECT_GT(*std::min_element(times.begin(), times.end()), 0);
}

TEST(Pooled, IsOneServerOfAllCapacity) {
  auto scenario = steady(10, 0.8);
  scenario.service.kind = LawSpec::Kind::kExponential;
  scenario.duration_s = 200;
  const Metrics m = Simulation(scenario, **find_technique("oracle_pooled"), 1).run();
  EXPECT_NEAR(m.mean_ms, 10 / 10. / (1 - 0.8), 0.4);
  EXPECT_EQ(m.utilisation_max_over_mean, 1);
}

double p99(const Scenario& scenario, const std::string& policy, const LoopOptions& loop = {}) {
  return Simulation(scenario, **find_technique(policy), 1, loop).run().p99_ms;
}

TEST(Agent, PriorFindsStaticCapacities) {
  auto scenario = *load_scenario("static");
  scenario.requests = 100'000;
  scenario.warmup_s = 20;
  EXPECT_NEAR(p99(scenario, "prior") / p99(scenario, "least_request_weighted"), 1, 0.1);
  EXPECT_LT(p99(scenario, "prior_square_root"), 0.95 * p99(scenario, "prior")) << "by the square-root rule";
  EXPECT_LT(p99(scenario, "prior"), 0.5 * p99(scenario, "least_request"));
}

TEST(Agent, EqualPodsStayWithTwoChoices) {
  auto scenario = *load_scenario("null");
  scenario.requests = 100'000;
  const Metrics m = Simulation(scenario, **find_technique("prior"), 1).run();
  EXPECT_EQ(m.weight_changes_per_min, 0);
  EXPECT_EQ(m.p99_ms, p99(scenario, "least_request"));
}

TEST(Agent, AFasterLoopFollowsMovingSlowness) {
  auto scenario = *load_scenario("antagonist");
  scenario.requests = 100'000;
  LoopOptions slow;
  slow.tick_s = 5;
  EXPECT_LT(p99(scenario, "prior"), 0.6 * p99(scenario, "least_request"));
  EXPECT_LT(p99(scenario, "prior"), p99(scenario, "prior", slow));
}

TEST(Agent, ADeadControllersWeightsAreTakenOffWhenItsLeaseEnds) {
  auto scenario = *load_scenario("static");
  scenario.requests = 0;
  scenario.duration_s = 120;
  scenario.telemetry.dead_from_s = 20;
  scenario.warmup_s = 60;  // long after: the run is P2C's
  const double neutral = p99(scenario, "prior");
  scenario.telemetry.lease_s = 0;
  EXPECT_LT(p99(scenario, "prior"), 0.6 * neutral) << "what it pushed last was right, and stays";
  EXPECT_NEAR(neutral / p99(scenario, "least_request"), 1, 0.5);
}

TEST(Agent, ADeadControllerLeavesItsLastWeights) {
  auto scenario = *load_scenario("bad_telemetry:dead_unended");
  scenario.requests = 0;
  scenario.duration_s = 200;
  const Metrics dead = Simulation(scenario, **find_technique("prior"), 1).run();
  scenario.telemetry.dead_from_s = -1;
  const Metrics alive = Simulation(scenario, **find_technique("prior"), 1).run();
  EXPECT_LT(dead.weight_changes_per_min, 0.6 * alive.weight_changes_per_min);
}

/// Weights that cannot matter, always: equal servers a twentieth apart. Counts the stays at equal weights
/// that the guard imposed, and how long they were.
class Harmless final : public Controller {
 public:
  struct Seen {
    std::size_t trips = 0;
    double neutral_s = 0;
  };
  Harmless(const LoopOptions& loop, std::size_t subscribers, Seen& seen)
      : loop_(loop, subscribers), seen_(&seen) {}

  std::optional<std::vector<double>> tick(double now_s, const std::vector<std::uint32_t>& servers,
                                          const std::vector<ServerTelemetry>& telemetry) override {
    const auto observation = loop_.observe(now_s, servers, telemetry);
    if (!observation) {
      return std::nullopt;
    }
    decide::ServiceProposal proposal{
        .service = observation->aggregate.service, .neutral = now_s < 2, .why = "", .endpoints = {}};
    for (std::size_t i = 0; i < observation->endpoints.size(); ++i) {
      proposal.endpoints.push_back(
          {.id = observation->endpoints[i].telemetry.id, .log_prior = i % 2 == 0 ? 0.05 : -0.05});
    }
    auto weights = loop_.act(proposal, servers);
    if (weights) {
      const bool equal = *std::min_element(weights->begin(), weights->end()) ==
                         *std::max_element(weights->begin(), weights->end());
      if (equal && !equal_) {
        since_ = now_s;
      } else if (!equal && equal_ && since_ > 2) {
        seen_->neutral_s += now_s - since_;
        seen_->trips +=
            now_s - since_ > 20 ? 1 : 0;  // a block of comparison ends after 15 s, a trip after 30
      }
      equal_ = equal;
    }
    return weights;
  }

 private:
  AgentLoop loop_;
  Seen* seen_;
  bool equal_ = true;
  double since_ = 0;
};

// False trips, and what watching costs: less than one in ten hours (five here, none).
TEST(Controller, TheTripLeavesHarmlessWeightsAlone) {
  auto scenario = steady(4, 0.6);
  scenario.clients = 2;
  scenario.service.mean_s = 0.05;
  scenario.duration_s = 5 * 3600;
  Harmless::Seen seen;
  Technique technique = steered_technique();
  technique.make_controller = [&](const Scenario& s, const LoopOptions& loop) {
    return std::make_unique<Harmless>(loop, s.clients, seen);
  };
  Simulation(scenario, technique, 1, LoopOptions{}).run();
  EXPECT_EQ(seen.trips, 0U);
  EXPECT_LT(seen.neutral_s, 0.02 * scenario.duration_s);
}

}  // namespace
}  // namespace ballast::sim
