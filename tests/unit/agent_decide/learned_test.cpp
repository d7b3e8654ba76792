// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/learned.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <limits>
#include <thread>

#include "observations.h"
#include "refused.h"

namespace ballast::decide {
namespace {

using testing::Loop;
using testing::observation;
using Logits = std::array<float, spec::kActions>;

/// Says the same of every endpoint.
class FixedNetwork final : public spec::ActorNetwork {
 public:
  explicit FixedNetwork(Logits logits, std::uint64_t version = 1) : logits_(logits), version_(version) {}
  Logits logits(const spec::Observation&) const override { return logits_; }
  std::uint64_t epoch() const override { return 1; }
  std::uint64_t version() const override { return version_; }

 private:
  Logits logits_;
  std::uint64_t version_;
};

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr Logits kEqual = {0, 0, 0, 0, 0};
constexpr Logits kUp = {0, 0, 0, 0, 5};
constexpr Logits kDown = {5, 0, 0, 0, 0};

std::shared_ptr<const spec::ActorNetwork> net(Logits logits, std::uint64_t version = 1) {
  return std::make_shared<FixedNetwork>(logits, version);
}

/// The proposal of the given tick, the gate having been left in the second. What is proposed is in force in
/// the next, as agent/turn has it.
ServiceProposal run(LearnedPolicy& policy, spec::ServiceObservation& seen, int ticks, Loop& loop) {
  ServiceProposal proposal;
  for (int i = 0; i < ticks; ++i) {
    proposal = policy.decide(seen, loop.next());
    for (std::size_t e = 0; e < seen.endpoints.size() && !proposal.level; ++e) {
      seen.endpoints[e].offset = proposal.endpoints[e].offset;
    }
  }
  return proposal;
}

TEST(Choose, UntrainedKeeps) {
  const Choice choice = choose(kEqual, {}, 0.5, 0.5);
  EXPECT_EQ(choice.action, spec::kKeep);
  EXPECT_EQ(choice.probability, 1);
}

TEST(Choose, MarginDecides) {
  const auto lead = [](double factor) { return Logits{0, 0, 0, static_cast<float>(std::log(factor)), 0}; };
  EXPECT_EQ(choose(lead(1.49), {}, 0, 0).action, spec::kKeep);
  EXPECT_EQ(choose(lead(1.51), {}, 0, 0).action, 3U);
  EXPECT_EQ(choose(lead(1.51), {.margin = 2}, 0, 0).action, spec::kKeep);
}

TEST(Choose, NonFiniteLogitsKeep) {
  for (const float bad : {kNan, std::numeric_limits<float>::infinity()}) {
    const Choice choice = choose({9, bad, 0, 0, 0}, {.epsilon = 1}, 0, 0);
    EXPECT_EQ(choice.action, spec::kKeep);
    EXPECT_EQ(choice.probability, 1);
  }
}

TEST(Choose, ProbabilityIsThatOfTheMixture) {
  const LearnedOptions options{.epsilon = 0.3, .temperature = 2};
  const Logits logits = {1, -1, 0, 0.5F, 2};
  std::mt19937_64 random(1);
  std::uniform_real_distribution<double> uniform(0, 1);
  std::array<double, spec::kActions> seen{};
  std::array<double, spec::kActions> told{};
  constexpr int kDraws = 200000;
  for (int i = 0; i < kDraws; ++i) {
    const Choice choice = choose(logits, options, uniform(random), uniform(random));
    seen[choice.action] += 1.0 / kDraws;
    told[choice.action] = choice.probability;
  }
  double sum = 0;
  for (std::size_t a = 0; a < spec::kActions; ++a) {
    EXPECT_NEAR(seen[a], told[a], 0.005) << a;
    sum += told[a];
  }
  EXPECT_NEAR(sum, 1, 1e-6);
}

TEST(Choose, HugeLogitsDoNotOverflow) {
  const Choice choice = choose({3e38F, -3e38F, 0, 0, 0}, {.epsilon = 0.5, .temperature = 0.01}, 0.9, 0);
  EXPECT_EQ(choice.action, 0U);
  EXPECT_FLOAT_EQ(choice.probability, 1);
}

TEST(LearnedPolicy, UntrainedIsThePrior) {
  LearnedPolicy learned(net(kEqual));
  LearnedPolicy none(nullptr);
  PriorPolicy prior;
  Loop loop;
  const auto seen = observation({0.5, -0.2, -0.7});
  for (int i = 0; i < 50; ++i) {
    const ServiceProposal want = prior.decide(seen, loop.next());
    for (LearnedPolicy* policy : {&learned, &none}) {
      const ServiceProposal got = policy->decide(seen, loop.context);
      ASSERT_EQ(got.neutral, want.neutral);
      for (std::size_t k = 0; k < 3; ++k) {
        ASSERT_EQ(got.endpoints[k].log_prior, want.endpoints[k].log_prior);
        ASSERT_EQ(got.endpoints[k].offset, 0);
      }
    }
  }
}

TEST(LearnedPolicy, OffsetsAddUpToTheBound) {
  LearnedPolicy policy(net(kUp));
  Loop loop;
  auto seen = observation({0.5, -0.5});
  ServiceProposal proposal = run(policy, seen, 2, loop);
  EXPECT_EQ(proposal.endpoints[0].action, 4U);
  EXPECT_NEAR(proposal.endpoints[0].offset, 0.1, 1e-6);
  proposal = run(policy, seen, 2, loop);
  EXPECT_NEAR(proposal.endpoints[0].offset, 0.3, 1e-6);
  proposal = run(policy, seen, 50, loop);
  EXPECT_EQ(proposal.endpoints[0].offset, static_cast<double>(spec::kMaxOffset));
  policy.set_network(net(kDown));
  proposal = run(policy, seen, 100, loop);
  EXPECT_EQ(proposal.endpoints[0].offset, -static_cast<double>(spec::kMaxOffset));
}

TEST(LearnedPolicy, NeutralFreezesOffsets) {
  LearnedPolicy policy(net(kUp));
  Loop loop;
  auto seen = observation({0.5, -0.5});
  const double offset = run(policy, seen, 3, loop).endpoints[0].offset;
  ASSERT_GT(offset, 0);
  seen.aggregate.capacity_spread = 0;
  run(policy, seen, GateOptions{}.return_ticks - 1, loop);
  const ServiceProposal first = run(policy, seen, 1, loop);
  ASSERT_TRUE(first.neutral);
  const ServiceProposal later = run(policy, seen, 20, loop);
  EXPECT_EQ(later.endpoints[0].offset, first.endpoints[0].offset);
  EXPECT_EQ(later.endpoints[0].action, spec::kKeep);
  EXPECT_EQ(later.endpoints[0].behaviour_probability, 1);
}

TEST(LearnedPolicy, AnUnknownEndpointKeepsItsOffset) {
  LearnedPolicy policy(net(kUp));
  Loop loop;
  auto seen = observation({0.5, -0.5});
  const double offset = run(policy, seen, 3, loop).endpoints[0].offset;
  seen.endpoints[0].telemetry.known = false;
  EXPECT_EQ(run(policy, seen, 1, loop).endpoints[0].offset, offset);
}

TEST(LearnedPolicy, ExploresByItsSeed) {
  const auto offsets = [](std::uint64_t seed) {
    LearnedPolicy policy(net(kEqual), LearnedOptions{.epsilon = 0.5, .seed = seed});
    Loop loop;
    std::vector<double> out;
    auto seen = observation({0.5, -0.5});
    for (int i = 0; i < 50; ++i) {
      out.push_back(run(policy, seen, 1, loop).endpoints[0].offset);
    }
    return out;
  };
  EXPECT_EQ(offsets(1), offsets(1));
  EXPECT_NE(offsets(1), offsets(2));
}

TEST(LearnedPolicy, NetworksMayBeSwappedWhileItDecides) {
  LearnedPolicy policy(net(kEqual));
  std::atomic<bool> stop = false;
  std::thread swapper([&] {
    for (std::uint64_t version = 2; !stop; ++version) {
      policy.set_network(net(version % 2 == 0 ? kUp : kDown, version));
    }
  });
  Loop loop;
  auto seen = observation({0.5, -0.5});
  bool bounded = true;
  for (int i = 0; i < 3000; ++i) {
    bounded &=
        std::abs(run(policy, seen, 1, loop).endpoints[0].offset) <= static_cast<double>(spec::kMaxOffset);
  }
  stop = true;
  swapper.join();
  EXPECT_TRUE(bounded);
  EXPECT_NE(policy.network(), nullptr);
}

/// Reads its input, so that garbage features would show in the logits.
class SummingNetwork final : public spec::ActorNetwork {
 public:
  Logits logits(const spec::Observation& o) const override {
    float sum = 0;
    for (const float v : o) {
      EXPECT_TRUE(std::isfinite(v));
      sum += v;
    }
    return {sum, -sum, 0, sum / 2, 1};
  }
  std::uint64_t epoch() const override { return 1; }
  std::uint64_t version() const override { return 1; }
};

TEST(LearnedPolicy, IsTotal) {
  LearnedPolicy policy(std::make_shared<SummingNetwork>(), LearnedOptions{.epsilon = 0.2});
  LearnedPolicy broken(net({kNan, kNan, kNan, kNan, kNan}));
  Loop loop;
  std::mt19937_64 random(7);
  const float bad[] = {
      kNan, std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), 3e38F, 0, 0.5F};
  const auto any = [&] { return bad[random() % std::size(bad)]; };
  for (int i = 0; i < 2000; ++i) {
    const std::size_t sizes[] = {0, 1, 2, 5, 30};
    auto seen = observation(std::vector<double>(i % 500 == 0 ? 1000 : sizes[random() % 5], 0.1));
    for (auto& e : seen.endpoints) {
      e.log_prior = static_cast<double>(any());
      e.offset = static_cast<double>(any());
      for (float& feature : e.features) {
        feature = any();
      }
      e.telemetry.known = random() % 4 != 0;
    }
    loop.context.subscribers = random() % 3;
    loop.next();
    for (LearnedPolicy* p : {&policy, &broken}) {
      const ServiceProposal proposal = p->decide(seen, loop.context);
      ASSERT_EQ(proposal.endpoints.size(), seen.endpoints.size());
      for (const Proposal& e : proposal.endpoints) {
        ASSERT_TRUE(std::isfinite(e.log_prior));
        ASSERT_LE(std::abs(e.offset), static_cast<double>(spec::kMaxOffset));
        ASSERT_LT(e.action, spec::kActions);
        ASSERT_GT(e.behaviour_probability, 0);
        ASSERT_LE(e.behaviour_probability, 1.000001F);
      }
    }
  }
}

TEST(LearnedOptions, ValidateNamesTheKey) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  ballast::testing::expect_refused<LearnedOptions>({
      {{.margin = 0.5}, "learner.margin"},
      {{.margin = nan}, "learner.margin"},
      {{.epsilon = 1.5}, "learner.exploration"},
      {{.epsilon = nan}, "learner.exploration"},
      {{.temperature = 0}, "learner.temperature"},
      {{.prior = {.gate = {.leave_ticks = 0}}}, "gate.leave_ticks"},
      {{.prior = {.filter = {.time_constant_s = -1}}}, "prior.time_constant_s"},
      {{.prior = {.filter = {.confirm_step = 0}}}, "prior.confirm_step"},
      {{.prior = {.filter = {.immediate_step = 0.1}}}, "prior.confirm_step"},
  });
}

}  // namespace
}  // namespace ballast::decide
