// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/prior.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "agent/decide/service_memory.h"
#include "observations.h"

namespace ballast::decide {
namespace {

using testing::Loop;
using testing::observation;

constexpr double kTick = 0.25;

/// Shares as the fleet makes them from log weights.
std::vector<double> shares(const std::vector<double>& log_weights) {
  std::vector<double> out;
  double sum = 0;
  for (const double v : log_weights) {
    out.push_back(std::exp(v));
    sum += out.back();
  }
  for (double& v : out) {
    v /= sum;
  }
  return out;
}

/// log priors of these capacities.
std::vector<double> logs(const std::vector<double>& capacities) {
  double mean = 0;
  for (const double c : capacities) {
    mean += c / static_cast<double>(capacities.size());
  }
  std::vector<double> out;
  for (const double c : capacities) {
    out.push_back(std::log(c / mean));
  }
  return out;
}

TEST(PriorFilter, BeginsAtTheMeasuredValue) {
  PriorFilter filter;
  EXPECT_EQ(filter.update(observation({0.5, -0.3}).endpoints, kTick, {}), (std::vector<double>{0.5, -0.3}));
}

TEST(PriorFilter, SmallChangesTakeTheTimeConstant) {
  PriorFilter filter;
  const PriorFilterOptions options;
  filter.update(observation({0, 0, 0}).endpoints, kTick, options);
  std::vector<double> out;
  for (int i = 0; i < 8; ++i) {  // 2 s: one time constant
    out = filter.update(observation({0.1, 0, 0}).endpoints, kTick, options);
    if (i == 0) {
      EXPECT_LT(out[0], 0.02);
    }
  }
  EXPECT_NEAR(out[0], 0.1 * (1 - std::exp(-1)), 1e-9);
  EXPECT_EQ(out[1], 0);
}

TEST(PriorFilter, NoiseIsDamped) {
  PriorFilter filter;
  std::mt19937_64 random(1);
  std::normal_distribution<double> noise(0, 0.05);
  double raw = 0;
  double filtered = 0;
  for (int i = 0; i < 2000; ++i) {
    const std::vector<double> measured = {noise(random), noise(random), noise(random), noise(random)};
    const auto out = filter.update(observation(measured).endpoints, kTick, {});
    raw += measured[0] * measured[0];
    filtered += out[0] * out[0];
  }
  EXPECT_LT(filtered, raw / 2);
}

TEST(PriorFilter, LastingSpreadForgetsNoiseAndKeepsDifferences) {
  std::mt19937_64 random(2);
  std::normal_distribution<double> noise(0, 0.2);
  const auto spread_of = [&](const std::vector<double>& truth) {
    PriorFilter filter;
    double sum = 0;
    for (int i = 0; i < 400; ++i) {
      std::vector<double> measured = truth;
      for (double& value : measured) {
        value += noise(random);
      }
      filter.update(observation(measured).endpoints, kTick, {});
      sum += i < 200 ? 0 : filter.lasting_spread() / 200;
    }
    return sum;
  };
  EXPECT_EQ(PriorFilter().lasting_spread(), 0);
  EXPECT_LT(spread_of({0, 0, 0, 0}), 0.06);
  EXPECT_NEAR(spread_of({0.7, 0, -0.7, -0.7}), 0.58, 0.06);
}

TEST(PriorFilter, AHalvedQuotaPassesInOneTick) {
  for (const std::size_t n : {2, 4, 10}) {
    PriorFilter filter;
    std::vector<double> capacity(n, 1.0);
    filter.update(observation(logs(capacity)).endpoints, kTick, {});
    capacity[0] = 0.5;
    const auto out = shares(filter.update(observation(logs(capacity)).endpoints, kTick, {}));
    EXPECT_NEAR(out[0] / out[1], 0.5, 0.01) << n << " endpoints";
  }
}

TEST(PriorFilter, AMediumChangePassesInTheSecondTick) {
  PriorFilter filter;
  filter.update(observation({0, 0, 0}).endpoints, kTick, {});
  const auto first = filter.update(observation({0.2, 0, 0}).endpoints, kTick, {});
  EXPECT_LT(first[0], 0.05);
  const auto second = filter.update(observation({0.2, 0, 0}).endpoints, kTick, {});
  EXPECT_DOUBLE_EQ(second[0], 0.2);
}

TEST(PriorFilter, AlternatingMediumSpikesAreNotConfirmed) {
  PriorFilter filter;
  filter.update(observation({0, 0, 0}).endpoints, kTick, {});
  for (int i = 0; i < 40; ++i) {
    const auto out = filter.update(observation({i % 2 == 0 ? 0.2 : -0.2, 0, 0}).endpoints, kTick, {});
    ASSERT_LT(std::abs(out[0]), 0.1);
  }
}

TEST(PriorFilter, WhatAllShareIsNotADifference) {
  PriorFilter filter;
  filter.update(observation({0.3, 0, -0.3}).endpoints, kTick, {});
  const auto out = filter.update(observation({0.4, 0.1, -0.2}).endpoints, kTick, {});
  EXPECT_NEAR(out[0] - out[1], 0.3, 1e-12);
  EXPECT_NEAR(out[1] - out[2], 0.3, 1e-12);
}

TEST(PriorFilter, AnUnknownEndpointIsForgotten) {
  PriorFilter filter;
  filter.update(observation({0.1, 0}).endpoints, kTick, {});
  auto blind = observation({0.1, 0});
  blind.endpoints[0].telemetry.known = false;
  EXPECT_EQ(filter.update(blind.endpoints, kTick, {})[0], 0.1);
  EXPECT_EQ(filter.update(observation({0.2, 0}).endpoints, kTick, {})[0], 0.2) << "begins anew";
}

TEST(SquareRootTilt, IsTheSplitOfLeastMeanTime) {
  // c = 4, 1, load 1/2: C - l = 2.5, sum of roots 3, l = 4 - 2 * 2.5/3, 1 - 2.5/3.
  const auto tilt = square_root_tilt({std::log(4.0), 0}, 0.5);
  EXPECT_NEAR(std::exp(tilt[0]), (4 - 5.0 / 3) / 2, 1e-12);
  EXPECT_NEAR(std::exp(tilt[1]), (1 - 2.5 / 3) / 0.5, 1e-12);
  const auto busy = square_root_tilt({std::log(4.0), 0}, 0.9);
  EXPECT_NEAR(std::exp(busy[0]), (4 - 2 * 0.5 / 3) / 3.6, 1e-12);
  EXPECT_NEAR(std::exp(busy[1]), (1 - 0.5 / 3) / 0.9, 1e-12);
  const auto scaled = square_root_tilt({std::log(4.0) + 7, 7}, 0.9);
  EXPECT_NEAR(scaled[0], busy[0], 1e-12) << "a common offset says nothing";
}

TEST(SquareRootTilt, EqualPodsAndFullLoadHaveNone) {
  for (const double tilt : square_root_tilt({1, 1, 1}, 0.4)) {
    EXPECT_NEAR(tilt, 0, 1e-12);
  }
  for (const double load : {0.0, 1.0, 1.5, -1.0, std::nan(""), HUGE_VAL}) {
    EXPECT_EQ(square_root_tilt({2, 0}, load), (std::vector<double>{0, 0})) << load;
  }
}

TEST(SquareRootTilt, LeavesEveryPodAShare) {
  const auto tilt = square_root_tilt({4, -4, 0}, 1e-6);
  for (const double each : tilt) {
    EXPECT_GE(each, std::log(kLeastTilt) - 1e-12);
    EXPECT_TRUE(std::isfinite(each));
  }
}

TEST(PriorPolicy, TiltsByTheServicesLoad) {
  PriorPolicy tilted(PriorOptions{.square_root = 1});
  PriorPolicy plain;
  Loop loop;
  auto seen = observation({std::log(1.6), std::log(0.4)});
  seen.aggregate.mean_capacity_qps = 100;
  seen.aggregate.mean_qps = 90;
  ServiceProposal with;
  ServiceProposal without;
  for (int i = 0; i < 3; ++i) {
    with = tilted.decide(seen, loop.next());
    without = plain.decide(seen, loop.context);
  }
  const auto ratio = [](const ServiceProposal& p) {
    return std::exp(p.endpoints[0].log_prior - p.endpoints[1].log_prior);
  };
  EXPECT_NEAR(ratio(without), 4, 1e-9);
  EXPECT_NEAR(ratio(with), (4 - 2 * 0.5 / 3) / (1 - 0.5 / 3), 1e-9);
}

TEST(PriorPolicy, LateSamplesAreDelayOfASlowLoop) {
  for (const double delay_s : {0.4, 1.15}) {
    PriorPolicy fresh;
    PriorPolicy late;
    Loop loop;
    loop.context.now = 100'000'000'000ULL;
    loop.context.loop_delay_s = delay_s;
    auto seen = observation(logs({4, 2, 1, 1}));
    seen.aggregate.persistence_s = 15;  // ten delays of either loop, but not with 3 s of age
    for (int i = 0; i < 50; ++i) {
      loop.next();
      const auto decide = [&](PriorPolicy& policy, MonotonicNs age) {
        for (auto& endpoint : seen.endpoints) {
          endpoint.telemetry.taken = loop.context.now - age;
        }
        return policy.decide(seen, loop.context).neutral;
      };
      const bool neutral = decide(fresh, 0);
      EXPECT_EQ(decide(late, 3'000'000'000ULL), delay_s > kSlowLoopS || neutral);
      EXPECT_FALSE(neutral && i > 20);
    }
  }
}

TEST(PriorPolicy, ProposesTheMeasuredPrior) {
  PriorPolicy policy;
  Loop loop;
  const auto seen = observation(logs({4, 2, 1, 1}));
  EXPECT_TRUE(policy.decide(seen, loop.next()).neutral);
  const ServiceProposal proposal = policy.decide(seen, loop.next());
  EXPECT_FALSE(proposal.neutral);
  EXPECT_FALSE(proposal.why.empty());
  ASSERT_EQ(proposal.endpoints.size(), 4U);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(proposal.endpoints[i].id, seen.endpoints[i].telemetry.id);
    EXPECT_NEAR(proposal.endpoints[i].log_prior, seen.endpoints[i].log_prior, 1e-12);
    EXPECT_EQ(proposal.endpoints[i].offset, 0);
    EXPECT_EQ(proposal.endpoints[i].action, spec::kKeep);
  }
}

TEST(PriorPolicy, OneProxyGetsWeightsThatDifferEvenForEqualPods) {
  PriorPolicy policy;
  Loop loop;
  loop.context.subscribers = 1;
  auto seen = observation(std::vector<double>(10, 0.0));
  seen.aggregate.capacity_spread = 0;
  ServiceProposal proposal = policy.decide(seen, loop.next());
  EXPECT_TRUE(proposal.neutral) << "one look proves nothing";
  for (int i = 1; i < GateOptions{}.return_ticks; ++i) {
    proposal = policy.decide(seen, loop.next());
  }
  EXPECT_FALSE(proposal.neutral);
  std::vector<double> log_weights;
  for (const Proposal& p : proposal.endpoints) {
    log_weights.push_back(p.log_prior + p.offset);
  }
  const auto share = shares(log_weights);
  EXPECT_GE(std::lround(share[0] * 10 * 1000), std::lround(share[1] * 10 * 1000) + 1);
  EXPECT_NEAR(share[0] / share[1], 1, 0.005) << "a tilt, not a decision";
}

TEST(PriorPolicy, ServicesDoNotShareState) {
  PriorPolicy policy;
  Loop loop;
  auto other = observation({0.2, -0.2});
  other.aggregate.service.name = "cart";
  policy.decide(observation({1.0, -1.0}), loop.next());
  policy.decide(observation({1.0, -1.0}), loop.next());
  EXPECT_TRUE(policy.decide(other, loop.context).neutral) << "its own gate";
  EXPECT_DOUBLE_EQ(policy.decide(other, loop.next()).endpoints[0].log_prior, 0.2) << "its own filter";
}

TEST(TiltIfEqual, LeavesOneAboveAllOthers) {
  std::mt19937_64 random(3);
  std::uniform_real_distribution<double> small(0, 0.0019);
  for (int i = 0; i < 1000; ++i) {
    ServiceProposal proposal{.neutral = false};
    for (int k = 0; k < 2 + i % 9; ++k) {
      proposal.endpoints.push_back({.id = {{"n", "s"}, std::to_string(k)}, .log_prior = small(random)});
    }
    tilt_if_equal(proposal);
    for (std::size_t k = 1; k < proposal.endpoints.size(); ++k) {
      ASSERT_GE(proposal.endpoints[0].log_prior, proposal.endpoints[k].log_prior + kEpsilonTilt * 0.999);
    }
  }
}

TEST(TiltIfEqual, LeavesDifferentAndNeutralOnesAlone) {
  ServiceProposal different{.neutral = false, .endpoints = {{.log_prior = 0}, {.log_prior = 0.1}}};
  tilt_if_equal(different);
  EXPECT_EQ(different.endpoints[0].log_prior, 0);
  ServiceProposal neutral{.neutral = true, .endpoints = {{.log_prior = 0}, {.log_prior = 0}}};
  tilt_if_equal(neutral);
  EXPECT_EQ(neutral.endpoints[0].log_prior, 0);
}

TEST(NeutralPolicy, IsNeutralAboutEverything) {
  NeutralPolicy policy;
  Loop loop;
  loop.context.subscribers = 1;
  const ServiceProposal proposal = policy.decide(observation({2, -2, 0}), loop.next());
  EXPECT_TRUE(proposal.neutral);
  ASSERT_EQ(proposal.endpoints.size(), 3U);
  EXPECT_EQ(proposal.endpoints[0].log_prior, 0);
}

TEST(PriorPolicy, IsTotal) {
  PriorPolicy policy;
  Loop loop;
  std::mt19937_64 random(7);
  const double bad[] = {std::numeric_limits<double>::quiet_NaN(),
                        std::numeric_limits<double>::infinity(),
                        -std::numeric_limits<double>::infinity(),
                        1e308,
                        -1e308,
                        0,
                        0.5};
  const auto any = [&] { return bad[random() % std::size(bad)]; };
  for (int i = 0; i < 3000; ++i) {
    const std::size_t sizes[] = {0, 1, 2, 5, 30};
    auto seen = observation(std::vector<double>(i % 500 == 0 ? 1000 : sizes[random() % 5], 0.1));
    for (auto& e : seen.endpoints) {
      e.log_prior = any();
      e.telemetry.capacity_qps = any();
      e.telemetry.known = random() % 4 != 0;
    }
    seen.aggregate.persistence_s = any();
    seen.aggregate.capacity_spread = any();
    loop.context.subscribers = random() % 3;
    loop.context.loop_delay_s = any();
    loop.context.tick_s = any();
    const ServiceProposal proposal = policy.decide(seen, random() % 2 == 0 ? loop.next() : loop.context);
    ASSERT_EQ(proposal.endpoints.size(), seen.endpoints.size());
    for (const Proposal& p : proposal.endpoints) {
      ASSERT_TRUE(std::isfinite(p.log_prior));
      ASSERT_LE(std::abs(p.log_prior), 20);
    }
  }
}

TEST(ServiceMemory, ForgetsWhatIsNotAskedFor) {
  ServiceMemory<int> memory;
  MonotonicNs now = 1;
  memory.of({"n", "old"}, now) = 7;
  EXPECT_EQ(memory.of({"n", "old"}, now), 7);
  for (int i = 0; i < 200; ++i) {
    now += 1'000'000'000ULL;
    memory.of({"n", "live"}, now) += 1;
  }
  EXPECT_EQ(memory.size(), 1U);
  EXPECT_EQ(memory.of({"n", "live"}, now), 200);
}

}  // namespace
}  // namespace ballast::decide
