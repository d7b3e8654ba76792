// SPDX-License-Identifier: Apache-2.0
//
// What the simulator gives, to the last bit: `ballast-bench sim` over these scenarios, cut.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include "golden.h"
#include "model/env/queue.h"
#include "model/sim/simulation.h"

namespace ballast::golden {
namespace {

constexpr std::uint64_t kRequests = 20'000;

struct Run {
  const char* scenario;
  std::uint64_t seed;
};
constexpr Run kRuns[] = {{"null", 1},       {"static", 1},        {"antagonist", 1},
                         {"antagonist", 2}, {"churn:rollout", 1}, {"bad_telemetry", 1},
                         {"faults", 1},     {"spike", 1},         {"bad_telemetry:dead", 1}};

std::string row(const std::string& name, const Run& run) {
  auto scenario = sim::load_scenario(run.scenario);
  const auto policy = sim::find_technique(name);
  if (!scenario || !policy) {
    ADD_FAILURE() << (scenario ? policy.error().message : scenario.error().message);
    return "";
  }
  if (scenario->requests > kRequests) {
    scenario->warmup_s = 5;
    scenario->requests = kRequests;
  }
  const sim::Metrics m = sim::Simulation(*scenario, **policy, run.seed, sim::LoopOptions{}).run();
  std::string rest;
  for (const double each : {m.duration_s, m.utilisation_mean, m.jain_clients, m.mean_ms, m.p90_ms}) {
    add_bits(rest, each);
  }
  for (const auto each : m.good_by_second) {
    add_bits(rest, each);
  }
  for (const auto each : m.requests_by_server) {
    add_bits(rest, each);
  }
  return fmt::format(
      "{} {} seed {} requests {} errors {} p50 {} p99 {} p999 {} goodput {} max/mean {} changes {} "
      "rest {:08x}\n",
      run.scenario, name, run.seed, m.requests, m.errors, m.p50_ms, m.p99_ms, m.p999_ms, m.goodput_rps,
      m.utilisation_max_over_mean, m.weight_changes_per_min, crc32(rest));
}

std::string rows(std::initializer_list<const char*> policies) {
  std::string out;
  for (const Run& run : kRuns) {
    for (const char* policy : policies) {
      out += row(policy, run);
    }
  }
  return out;
}

TEST(Golden, BalancersGiveTheSameBytes) {
  compare("balancers", rows({"round_robin",
                             "weighted_round_robin",
                             "random",
                             "ring_hash",
                             "maglev",
                             "least_request",
                             "least_request_full_scan",
                             "least_request_weighted",
                             "least_connections",
                             "slow_start",
                             "peak_ewma",
                             "cswrr",
                             "cswrr_app",
                             "c3",
                             "prequal",
                             "l3",
                             "lalb",
                             "oracle_static",
                             "oracle_weights",
                             "oracle_sed",
                             "oracle_pooled"}));
}

/// `learned` and `learned_slow_start` act with the shipped parameters.
TEST(Golden, TheAgentGivesTheSameBytes) {
  compare("agents", rows({"prior", "prior_square_root", "learned", "learned_slow_start"}));
}

/// The learner's world: what its agents see and what they are paid, for advice taken and now and then not.
TEST(Golden, TheLearnersWorldGivesTheSameBytes) {
  std::string made;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    env::QueueOptions options;
    options.prior = seed != 3;
    options.pooled_context = seed != 4;
    env::Queue queue(nullptr, options);
    queue.reset(seed);
    for (std::size_t step = 0; step < 40; ++step) {
      std::string seen;
      std::vector<std::size_t> actions;
      for (std::size_t agent = 0; agent < queue.agents(); ++agent) {
        for (const float each : queue.observation(agent)) {
          add_bits(seen, each);
        }
        actions.push_back((step + agent) % 7 == 0 ? (step + agent) % queue.spec().actions
                                                  : queue.advice(agent).value_or(spec::kKeep));
      }
      for (const float each : queue.context()) {
        add_bits(seen, each);
      }
      const env::Outcome outcome = queue.step(actions);
      made += fmt::format("world {} step {} agents {} seen {:08x} reward {}\n", seed, step, actions.size(),
                          crc32(seen), outcome.reward);
      if (outcome.done()) {
        break;
      }
    }
  }
  compare("learners_world", made);
}

}  // namespace
}  // namespace ballast::golden
