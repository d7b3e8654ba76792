// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/queue_rule.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <limits>
#include <random>

#include "observations.h"

namespace ballast::decide {
namespace {

using testing::Loop;

/// Pods with these capacities by CPU, believed as far as `evidence`, and these requests in flight.
spec::ServiceObservation service(const std::vector<double>& capacities, const std::vector<double>& queues,
                                 double evidence) {
  std::vector<double> logs;
  for (const double c : capacities) {
    logs.push_back(std::log(c / 100));
  }
  auto o = testing::observation(logs);
  for (std::size_t i = 0; i < queues.size(); ++i) {
    auto& t = o.endpoints[i].telemetry;
    t.in_flight = queues[i];
    t.qps = 50;
    t.tick_requests = 12.5;
    t.cpu_limit_cores = t.usable_cores = 1;
    t.cpu_evidence = evidence;
  }
  return o;
}

std::vector<double> log_weights(const ServiceProposal& proposal) {
  std::vector<double> out;
  double mean = 0;
  for (const auto& e : proposal.endpoints) {
    out.push_back(e.log_prior + e.offset);
    mean += out.back() / static_cast<double>(proposal.endpoints.size());
  }
  for (double& each : out) {
    each -= mean;
  }
  return out;
}

TEST(QueueRule, ACpuLimitThatLimitsNothingSaysNothing) {
  QueueRule rule;
  Loop loop;
  ServiceProposal proposal;
  for (int i = 0; i < 400; ++i) {
    proposal = rule.decide(service({400, 200, 100, 100}, {3, 3, 3, 3}, 0), loop.next());
  }
  EXPECT_TRUE(proposal.neutral) << proposal.why;
  for (const double w : log_weights(proposal)) {
    EXPECT_NEAR(w, 0, 0.01);
  }
}

TEST(QueueRule, ACpuLimitThatLimitsSplitsByCapacityAndTilt) {
  QueueRule rule;
  Loop loop;
  ServiceProposal proposal;
  // Queues as rho / (1 - rho) of the rule's own split would have them: nothing for the feedback to do.
  const std::vector<double> capacities = {400, 200, 100, 100};
  const auto tilt = square_root_tilt({std::log(4), std::log(2), 0, 0}, 0.5);
  std::vector<double> queues;
  for (std::size_t i = 0; i < 4; ++i) {
    const double used = 0.5 * std::exp(tilt[i]);
    queues.push_back(100 * used / (1 - used));
  }
  for (int i = 0; i < 400; ++i) {
    auto o = service(capacities, queues, 1);
    for (auto& e : o.endpoints) {
      e.telemetry.qps = 100;
    }
    proposal = rule.decide(o, loop.next());
  }
  EXPECT_FALSE(proposal.neutral);
  const auto w = log_weights(proposal);
  EXPECT_NEAR(w[0] - w[2], std::log(4) + tilt[0] - tilt[2], 0.1);
  EXPECT_NEAR(w[1] - w[2], std::log(2) + tilt[1] - tilt[2], 0.1);
}

/// Queues as the split wants them, before and after: what moves is the capacity alone, tilt included.
TEST(QueueRule, AHalvedCpuLimitIsAnsweredInFullByTheFirstDecision) {
  QueueRule rule;
  Loop loop;
  const auto decide = [&](double first) {
    auto o = service({first, 200, 100, 100}, {0, 0, 0, 0}, 1);
    o.endpoints[0].telemetry.cpu_limit_cores = o.endpoints[0].telemetry.usable_cores = first / 400;
    return log_weights(rule.decide(o, loop.next()));
  };
  for (int i = 0; i < 400; ++i) {
    decide(400);
  }
  const auto now = decide(200);
  auto end = now;
  for (int i = 0; i < 400; ++i) {
    end = decide(200);
  }
  for (std::size_t i = 0; i < now.size(); ++i) {
    EXPECT_NEAR(now[i], end[i], 0.02);
  }
}

TEST(QueueRule, NoMoreCpusAreCountedThanAPodCanUse) {
  QueueRule rule;
  Loop loop;
  ServiceProposal proposal;
  for (int i = 0; i < 100; ++i) {
    auto o = service({400, 200, 100, 100}, {3, 3, 3, 3}, 1);
    const std::array<double, 4> limits = {4, 2, 1, 1};
    for (std::size_t p = 0; p < 4; ++p) {
      o.endpoints[p].telemetry.cpu_limit_cores = limits[p];  // one thread each
    }
    proposal = rule.decide(o, loop.next());
  }
  for (const double w : log_weights(proposal)) {
    EXPECT_NEAR(w, 0, 0.01);
  }
}

TEST(QueueRule, WhereNoCpuLimitIsKnownTheQueuesDecide) {
  for (const bool all : {true, false}) {
    QueueRule rule;
    Loop loop;
    loop.context.subscribers = 1;
    ServiceProposal proposal;
    for (int i = 0; i < 40; ++i) {
      auto o = service({100, 100, 100, 100}, {20, 4, 4, 4}, 1);
      for (auto& e : o.endpoints) {
        if (all || e.telemetry.id == o.endpoints[0].telemetry.id) {
          e.telemetry.cpu_limit_cores = e.telemetry.capacity_qps = 0;
        }
      }
      proposal = rule.decide(o, loop.next());
    }
    EXPECT_FALSE(proposal.neutral) << proposal.why;
    const auto w = log_weights(proposal);
    EXPECT_LT(w[0], w[1] - 0.4);
    EXPECT_NEAR(w[1], w[3], 1e-9);
    EXPECT_NE(proposal.endpoints[0].why.find("limit CPU, how much is not known"), std::string::npos);
  }
}

TEST(QueueRule, SaysWhatLimitsAPodAndWhy) {
  QueueRule rule;
  Loop loop;
  auto o = service({100, 100, 100}, {3, 3, 3}, 1);
  for (auto& e : o.endpoints) {
    e.telemetry.running_share = 0.85;
  }
  o.endpoints[1].telemetry.cpu_limit_cores = 4;
  o.endpoints[2].telemetry.known = false;
  auto proposal = rule.decide(o, loop.next());
  EXPECT_EQ(proposal.endpoints[0].why, "limit CPU: ran or ready in 85 % of its requests' time");
  EXPECT_EQ(proposal.endpoints[1].why, "limit its threads: want 1.0 of 4.0 CPUs at most");
  EXPECT_EQ(proposal.endpoints[2].why, "limit not known");
  o.endpoints[0].telemetry.cpu_evidence = 0.1;
  o.endpoints[0].telemetry.running_share = 0.05;
  proposal = rule.decide(o, loop.next());
  EXPECT_EQ(proposal.endpoints[0].why, "limit not CPU: ran or ready in 5 % of its requests' time");
}

TEST(QueueRule, TellsWhatAnsweredWhenAWeightMoved) {
  QueueRule rule;
  Loop loop;
  loop.context.subscribers = 1;
  std::string why;
  for (int i = 0; i < 600; ++i) {  // from the 200th tick on the first pod's queue is long, and it gets less
    auto o = service({100, 100, 100, 100}, {i < 200 ? 4.0 : i < 260 ? 20.0 : 9.0, 4, 4, 4}, 1);
    o.endpoints[0].telemetry.qps = i < 220 ? 50 : 30;
    why = rule.decide(o, loop.next()).endpoints[0].answered;
    if (i == 199) {
      EXPECT_EQ(why, "") << "nothing moved";
    }
    if (i == 260) {
      EXPECT_TRUE(why.starts_with("weight -")) << why;
      EXPECT_NE(why.find("%: rate 50.0 to 3"), std::string::npos) << why;
      EXPECT_NE(why.find("in flight 4.0 to 1"), std::string::npos) << why;
      EXPECT_NE(why.find(" s ago"), std::string::npos) << why;
    }
  }
}

TEST(QueueRule, ALongQueueThatStaysLosesWeight) {
  QueueRule rule;
  Loop loop;
  loop.context.subscribers = 1;
  ServiceProposal proposal;
  for (int i = 0; i < 40; ++i) {
    proposal = rule.decide(service({100, 100, 100, 100}, {20, 4, 4, 4}, 1), loop.next());
  }
  EXPECT_FALSE(proposal.neutral);
  const auto w = log_weights(proposal);
  EXPECT_LT(w[0], w[1] - 0.4);
  EXPECT_NEAR(w[1], w[3], 1e-9);
}

TEST(QueueRule, WhatIsForeseenIsNotAnsweredOnceMoreByQueuesThatComeWithIt) {
  const std::vector<double> foreseen = {0.3, -0.3, 0, 0};
  // The slow part alone: offsets while both pods have the same queue, after one of them had more.
  const auto slow_after = [](const std::vector<double>& acts, double first, double second, int halves,
                             double evidence = 1) {
    QueueRule rule;
    Loop loop;
    loop.context.subscribers = 1;
    double after = 0;
    for (int half = 0; half < halves; ++half) {
      for (int i = 0; i < 40; ++i) {
        rule.decide(service({100, 100, 100, 100}, {8, 8, half % 2 == 0 ? first : second, 8}, evidence),
                    loop.next(), acts);
      }
      const auto proposal =
          rule.decide(service({100, 100, 100, 100}, {8, 8, 8, 8}, evidence), loop.next(), acts).endpoints;
      after = proposal[2].offset - proposal[3].offset;
    }
    return after;
  };
  EXPECT_LT(slow_after({}, 3, 20, 8), -0.15);
  EXPECT_GT(slow_after(foreseen, 3, 20, 8), slow_after({}, 3, 20, 8) / 3);
  EXPECT_LT(slow_after(foreseen, 20, 20, 20), -0.3) << "what stays is still answered";
  const double without = slow_after({}, 20, 20, 2, 0.25);
  EXPECT_LT(without, -0.15);
  EXPECT_LT(slow_after(foreseen, 20, 20, 2, 0.25), 0.75 * without) << "where CPU limits little, as fast";
}

TEST(QueueRule, TheOlderTheSampleTheLessItMoves) {
  std::vector<double> moved;
  for (const std::uint64_t age_ms : {0, 400, 4000}) {
    QueueRuleOptions options;
    options.integral_bound = 0;
    QueueRule rule(options);
    Loop loop;
    loop.context.subscribers = 1;
    ServiceProposal proposal;
    for (int i = 0; i < 100; ++i) {
      const auto& context = loop.next();
      auto o = service({100, 100, 100, 100}, {20, 4, 4, 4}, 1);
      o.endpoints[0].telemetry.taken = context.now - std::min(context.now - 1, age_ms * 1'000'000);
      proposal = rule.decide(o, context);
    }
    moved.push_back(log_weights(proposal)[1] - log_weights(proposal)[0]);
  }
  EXPECT_GT(moved[0], 1.15 * moved[1]);
  EXPECT_GT(moved[1], 2 * moved[2]);
}

TEST(QueueRule, APodThatComesBeginsWithLessAndIsBelievedWhenMeasured) {
  QueueRuleOptions options;
  options.integral_bound = 0;  // its queue here is told, whatever it gets
  QueueRule rule(options);
  Loop loop;
  loop.context.subscribers = 1;
  for (int i = 0; i < 100; ++i) {
    rule.decide(service({100, 100}, {4, 4}, 1), loop.next());
  }
  auto w = log_weights(rule.decide(service({100, 100, 100}, {4, 4, 4}, 1), loop.next()));
  EXPECT_LT(w[2], w[0] - 0.3);
  for (int i = 0; i < 60; ++i) {
    w = log_weights(rule.decide(service({100, 100, 100}, {4, 4, 4}, 1), loop.next()));
  }
  EXPECT_NEAR(w[2], w[0], 0.05);
}

/// A service of equal pods that has run for a while, neutral since nothing in it lasts; then one joins that
/// is measured to carry this part of what the others do.
ServiceProposal after_a_pod_joined(double carries, int ticks) {
  QueueRule rule;
  Loop loop;
  const auto of = [](const std::vector<double>& capacities) {
    auto o = service(capacities, std::vector<double>(capacities.size(), 0), 1);
    o.aggregate.persistence_s = 0.1;
    for (auto& e : o.endpoints) {
      e.telemetry.tick_requests = 10;
    }
    return o;
  };
  ServiceProposal proposal;
  for (int i = 0; i < 80; ++i) {
    proposal = rule.decide(of({100, 100, 100, 100}), loop.next());
  }
  EXPECT_TRUE(proposal.neutral) << proposal.why;
  for (int i = 0; i < ticks; ++i) {
    proposal = rule.decide(of({100, 100, 100, 100, 100 * carries}), loop.next());
  }
  return proposal;
}

TEST(QueueRule, AColdPodIsReasonEnoughForWeightsUntilItIsWarm) {
  EXPECT_FALSE(after_a_pod_joined(0.4, 8).neutral);
  EXPECT_TRUE(after_a_pod_joined(0.4, 2).neutral) << "twenty requests prove nothing yet";
  EXPECT_TRUE(after_a_pod_joined(1.0, 8).neutral);
  EXPECT_TRUE(after_a_pod_joined(0.4, 500).neutral)
      << "after two minutes it is a small pod, as the gate sees it";
}

TEST(QueueRule, APodThatNobodyMeasuresDoesNotStayCold) {
  QueueRule rule;
  Loop loop;
  ServiceProposal proposal;
  for (int i = 0; i < 400; ++i) {
    auto o = service(i < 80 ? std::vector<double>(4, 100.0) : std::vector<double>(5, 100.0),
                     std::vector<double>(4, 1.0), 1);
    if (i >= 80) {
      o.endpoints[4].telemetry.known = false;
      --o.aggregate.known;
    }
    proposal = rule.decide(o, loop.next());
  }
  EXPECT_NEAR(log_weights(proposal)[4], 0, 0.15);
}

TEST(QueueRule, QueuesThatLastAreNoReasonWhereCapacityMovesMore) {
  const auto neutral = [](double swing) {
    QueueRule rule;
    Loop loop;
    ServiceProposal proposal;
    for (int i = 0; i < 1000; ++i) {
      std::vector<double> capacities(4, 100.0);
      capacities[static_cast<std::size_t>(i / 8 % 4)] *= std::exp(-swing);
      auto o = service(capacities, {i % 3 == 0 ? 1.0 : 5.0, 1, 1, 1}, 1);
      o.aggregate.persistence_s = 0.1;
      proposal = rule.decide(o, loop.next());
    }
    return proposal.neutral;
  };
  EXPECT_FALSE(neutral(0)) << "three times the queue for minutes asks for a weight";
  EXPECT_TRUE(neutral(2)) << "each is at an eighth of itself for two seconds of eight";
}

TEST(QueueRule, QueuesThatMoveAreNoReasonInALoopThatIsTooSlowForThem) {
  const auto weighted_ticks = [](bool move) {
    constexpr double kTickS = 1.1;
    QueueRule rule;
    Loop loop;
    loop.context.tick_s = kTickS;
    loop.context.loop_delay_s = kTickS + 0.12;
    std::mt19937 random(1);
    int weighted = 0;
    for (int i = 0; i < 400; ++i) {
      const auto slow = move ? static_cast<std::size_t>(i * kTickS / 11.3) % 5 : 0;
      std::vector<double> queues;
      for (std::size_t pod = 0; pod < 10; ++pod) {
        queues.push_back(std::poisson_distribution<>(pod / 2 == slow ? 12 : 3)(random));
      }
      loop.context.now += static_cast<MonotonicNs>((kTickS - 0.25) * 1e9);
      weighted +=
          rule.decide(service(std::vector<double>(10, 100.0), queues, 0), loop.next()).neutral ? 0 : 1;
    }
    return weighted;
  };
  EXPECT_GT(weighted_ticks(false), 300) << "two of ten are slow for ever";
  EXPECT_EQ(weighted_ticks(true), 0) << "two others are every 11.3 s";
}

/// Log weight of pod 0 over pod 1 after three minutes of four equal queues, where pod 0's requests take
/// `longer` times as long; or, moving, each pod's in turn for 11 s. Its answers' last bytes come `stretch`
/// times as late as its first, and those of the others `others` times; 0: not known.
double beside_a_slow_pod(double longer, double evidence, bool moving, double stretch = 0, double others = 0) {
  QueueRule rule;
  Loop loop;
  ServiceProposal proposal;
  for (int i = 0; i < 720; ++i) {
    auto o = service({100, 100, 100, 100}, {3, 3, 3, 3}, evidence);
    const std::size_t slow = moving ? static_cast<std::size_t>(i / 44 % 4) : 0;
    for (std::size_t p = 0; p < 4; ++p) {
      spec::EndpointTelemetry& t = o.endpoints[p].telemetry;
      t.p50_ns = 2e7 * (p == slow ? longer : 1);
      t.p50_stretch = t.mean_stretch = p == slow ? stretch : others;
    }
    proposal = rule.decide(o, loop.next());
  }
  return proposal.neutral ? 0 : log_weights(proposal)[0] - log_weights(proposal)[1];
}

// P2C makes queues equal, and then a pod whose backend is slower still gets what makes the tail.
TEST(QueueRule, WhoseRequestsWaitLongerGetsFewerWhereThatLastsAndIsNotTheCpu) {
  EXPECT_LT(beside_a_slow_pod(3, 0, false), -std::log(3));
  EXPECT_EQ(beside_a_slow_pod(3, 1, false), 0);
  EXPECT_GT(beside_a_slow_pod(3, 0, true), -0.1) << "it goes from pod to pod";
}

TEST(QueueRule, WhoseAnswersEndLateIsSlowWhateverItsFirstBytesSay) {
  const double slow = beside_a_slow_pod(3, 0, false);
  EXPECT_NEAR(beside_a_slow_pod(3.0 / 500, 0, false, 500, 1), slow, 0.05) << "heads at once";
  EXPECT_EQ(beside_a_slow_pod(3, 0, false, 500, 500), slow) << "the bodies of all are long";
  EXPECT_EQ(beside_a_slow_pod(3, 0, false, 500, 0), slow) << "beside agents that do not tell";
  EXPECT_EQ(beside_a_slow_pod(3, 0, false, 1.04, 1), slow) << "hardly longer";
}

TEST(QueueRule, IsTotal) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinity = std::numeric_limits<double>::infinity();
  QueueRule rule;
  Loop loop;
  for (const double bad : {nan, infinity, -infinity, -5.0, 1e300, 0.0}) {
    auto o = service({bad, 200, 100}, {bad, 3, 3}, bad);
    o.endpoints[1].telemetry.qps = bad;
    o.endpoints[1].telemetry.usable_cores = bad;
    o.endpoints[1].telemetry.p50_ns = bad;
    o.endpoints[0].telemetry.p50_stretch = o.endpoints[1].telemetry.mean_stretch = bad;
    o.endpoints[2].telemetry.known = false;
    o.endpoints[0].log_prior = bad;
    loop.context.tick_s = bad;
    loop.context.loop_delay_s = bad;
    const auto proposal = rule.decide(o, loop.next());
    ASSERT_EQ(proposal.endpoints.size(), 3U);
    for (const auto& e : proposal.endpoints) {
      EXPECT_TRUE(std::isfinite(e.log_prior) && std::isfinite(e.offset)) << bad;
      EXPECT_LE(std::abs(e.offset), static_cast<double>(spec::kMaxOffset) + 1e-9);
    }
  }
  EXPECT_TRUE(rule.decide({}, loop.next()).endpoints.empty());
}

std::map<spec::EndpointId, double> one(double value) {
  return {{{{"shop", "web"}, "web-0"}, value}};
}

TEST(QueueMemory, KnowsNoiseFromWhatStays) {
  QueueMemory noise;
  QueueMemory stays;
  std::mt19937 random(1);
  std::normal_distribution<double> normal;
  for (int i = 0; i < 5000; ++i) {
    noise.update(one(normal(random)), 1, 0.25);
    stays.update(one(5 + normal(random)), 1, 0.25);
  }
  EXPECT_LT(noise.left(), 0.4);
  EXPECT_GT(stays.left(), 0.9);
}

// What a loop makes that answers too strongly: a period of four delays. It is not answered any more.
TEST(QueueMemory, OfAnOscillationOfFourDelaysNothingIsLeft) {
  for (const std::size_t lag : {1U, 2U, 5U, 16U}) {
    QueueMemory memory;
    for (int i = 0; i < 4000; ++i) {
      memory.update(one(std::sin(2 * M_PI * i / (4. * static_cast<double>(lag)))), lag, 0.25);
    }
    EXPECT_LT(memory.left(), 0.05) << lag;
  }
}

/// Pods as integrators (a pod that is always busy: the worst plant for a delayed loop) under the rule, with
/// telemetry that is late, noisy and lost, and weights that arrive late.
struct Plant {
  std::uint64_t seed;
  double delay_s, jitter_s, noise, loss;
  bool base_wrong;

  /// Root mean square of the log weights, by quarter of ten minutes.
  std::array<double, 4> run() const {
    constexpr std::size_t kPods = 4;
    constexpr double kStep = 0.01;
    std::mt19937_64 random(seed);
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform;
    QueueRule rule;
    Loop loop;
    loop.context.subscribers = 1;
    loop.context.tick_s = 0.25;
    loop.context.loop_delay_s = 0.25 + delay_s;
    std::array<double, kPods> queue{5, 5, 5, 5};
    std::array<double, kPods> weight{1, 1, 1, 1};
    std::deque<std::pair<double, std::array<double, kPods>>> pushes;
    std::array<double, 4> squares{};
    std::array<double, 4> counts{};
    auto seen = service({base_wrong ? 400. : 100., 100, 100, 100}, {5, 5, 5, 5}, 1);
    double next_tick = 0.25;
    for (double now = 0; now < 600; now += kStep) {
      while (!pushes.empty() && pushes.front().first <= now) {
        weight = pushes.front().second;
        pushes.pop_front();
      }
      double sum = 0;
      for (const double w : weight) {
        sum += w;
      }
      for (std::size_t i = 0; i < kPods; ++i) {
        const double arrivals = 0.9 * 400 * weight[i] / sum + 10 * normal(random);
        queue[i] = std::max(0.0, queue[i] + (arrivals - (queue[i] > 0.5 ? 100 : 90)) * kStep);
      }
      if (now < next_tick) {
        continue;
      }
      next_tick += 0.25;
      loop.next();
      for (std::size_t i = 0; i < kPods; ++i) {
        auto& t = seen.endpoints[i].telemetry;
        if (uniform(random) >= loss) {
          t.in_flight = std::max(0.0, queue[i] * std::exp(noise * normal(random)));
          t.qps = 90;
          t.taken = loop.context.now;
        }
      }
      const auto logs = log_weights(rule.decide(seen, loop.context));
      std::array<double, kPods> push{};
      const auto quarter = static_cast<std::size_t>(now / 150);
      for (std::size_t i = 0; i < kPods; ++i) {
        push[i] = std::exp(std::clamp(logs[i], -2.3, 1.4));
        squares[quarter] += logs[i] * logs[i];
        counts[quarter] += 1;
      }
      const double at = now + delay_s + jitter_s * uniform(random);
      pushes.emplace_back(std::max(at, pushes.empty() ? 0 : pushes.back().first), push);
    }
    for (std::size_t q = 0; q < 4; ++q) {
      squares[q] = std::sqrt(squares[q] / counts[q]);
    }
    return squares;
  }
};

// No telemetry makes the weights swing with growing amplitude, however late, noisy or lost it is, within
// the delay that the rule was told or up to three times as late.
TEST(QueueRuleProperty, NothingMakesItSwingMoreAndMore) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    std::mt19937_64 random(seed);
    std::uniform_real_distribution<double> uniform;
    Plant plant{.seed = seed,
                .delay_s = 0.02 + 0.6 * uniform(random),
                .jitter_s = uniform(random),
                .noise = 0.8 * uniform(random),
                .loss = 0.6 * uniform(random),
                .base_wrong = seed % 3 == 0};
    const auto quarters = plant.run();
    EXPECT_LE(quarters[3], 1.15 * std::max({quarters[0], quarters[1], quarters[2]}) + 0.05)
        << "seed " << seed << " delay " << plant.delay_s << " jitter " << plant.jitter_s << ": "
        << quarters[0] << " " << quarters[1] << " " << quarters[2] << " " << quarters[3];
    if (!plant.base_wrong) {
      EXPECT_LT(quarters[3], 0.6) << "seed " << seed;
    }
  }
}

}  // namespace
}  // namespace ballast::decide
