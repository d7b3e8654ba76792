// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/forecast_rule.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>
#include <random>

#include "observations.h"

namespace ballast::decide {
namespace {

constexpr double kTick = 1.1;
constexpr double kPeriod = 20.3;
constexpr std::size_t kPods = 6;

/// Pods of one CPU that lose 60 % of it for 4 s each kPeriod, one after the other; with `random` at any time.
struct Service {
  LoopContext loop{.now = 1'000'000'000ULL, .tick_s = kTick, .loop_delay_s = 1.22, .subscribers = 20};
  std::mt19937_64 random{7};
  bool habit = true;
  bool bouts = false;     ///< that begin at any time, a third of the pods in them
  double bout_ticks = 6;  ///< that they last on average
  bool unequal = false;   ///< every second pod has three tenths of the others' CPU
  double noise = 0;
  std::array<bool, kPods> slowed{};

  double share(std::size_t pod, double from) const {
    double slow = 0;
    for (int i = 0; i < 11; ++i) {
      const double t = from + i * kTick / 11 - static_cast<double>(pod) * 3.3;
      slow += t >= 0 && std::fmod(t, kPeriod) < 4.1 ? 1.0 / 11 : 0;
    }
    return 1 - 0.6 * slow;
  }
  spec::ServiceObservation next() {
    loop.now += static_cast<MonotonicNs>(kTick * 1e9);
    const double began = static_cast<double>(loop.now) * 1e-9 - kTick;
    std::vector<double> logs;
    for (std::size_t i = 0; i < kPods; ++i) {
      if (!habit) {
        const double ends = 1000 / bout_ticks;
        const double slow = !bouts ? 200 : slowed[i] ? 1000 - ends : ends / 3;
        slowed[i] = static_cast<double>(random() % 1000) < slow;
      }
      const double speed = habit ? share(i, began) : slowed[i] ? 0.4 : 1.0;
      logs.push_back(std::log(speed) + noise * (static_cast<double>(random() % 1000) / 1000 - 0.5));
    }
    auto o = testing::observation(logs);
    for (std::size_t i = 0; i < kPods; ++i) {
      auto& t = o.endpoints[i].telemetry;
      t.speed = std::min(1.0, std::exp(logs[i]));
      o.endpoints[i].log_prior += unequal && i % 2 == 1 ? std::log(0.3) : 0;
      t.capacity_qps *= unequal && i % 2 == 1 ? 0.3 : 1;
      t.in_flight = 2 + static_cast<double>(random() % 5);
      t.qps = 50;
      t.cpu_limit_cores = t.usable_cores = 1;
      t.cpu_evidence = 1;
      t.taken = loop.now;
    }
    return o;
  }
};

/// Believes the shared period alone: b3 of that guess saturates its tanh, everything else is 0.
std::shared_ptr<std::vector<float>> believer() {
  auto theta = std::make_shared<std::vector<float>>(spec::kForecastParameters, 0.0F);
  (*theta)[spec::kForecastParameters - spec::kGuesses + spec::kShared] = 9;
  return theta;
}

/// Believes that a pod goes so far of the way to its mean.
std::shared_ptr<std::vector<float>> towards_the_mean(float way) {
  auto theta = std::make_shared<std::vector<float>>(spec::kForecastParameters, 0.0F);
  (*theta)[spec::kForecastParameters - spec::kGuesses + spec::kMean] = std::atanh(way);
  return theta;
}

void expect_same(const ServiceProposal& a, const ServiceProposal& b) {
  ASSERT_EQ(a.neutral, b.neutral);
  ASSERT_EQ(a.level, b.level);
  ASSERT_EQ(a.endpoints.size(), b.endpoints.size());
  for (std::size_t i = 0; i < a.endpoints.size(); ++i) {
    ASSERT_EQ(a.endpoints[i].log_prior, b.endpoints[i].log_prior);
    ASSERT_EQ(a.endpoints[i].offset, b.endpoints[i].offset);
  }
}

void expect_the_strong_rule(std::shared_ptr<const std::vector<float>> theta, bool habit, const char* why) {
  ForecastRule rule(std::move(theta));
  QueueRule strong;
  Service service;
  service.habit = habit;
  service.noise = 0.1;
  ServiceProposal proposal;
  for (int i = 0; i < 300; ++i) {
    const auto o = service.next();
    proposal = rule.decide(o, service.loop);
    expect_same(proposal, strong.decide(o, service.loop));
  }
  EXPECT_NE(proposal.forecast_says.find(why), std::string::npos) << proposal.forecast_says;
}

TEST(ForecastRule, UntrainedItIsTheStrongRuleToTheLastBit) {
  expect_the_strong_rule(nullptr, true, "");
  expect_the_strong_rule(std::make_shared<std::vector<float>>(spec::kForecastParameters, 0.0F), true,
                         "not used");
}

TEST(ForecastRule, ParametersOfAnotherShapeOrNotFiniteAreNotUsed) {
  expect_the_strong_rule(std::make_shared<std::vector<float>>(7, 0.0F), true, "not finite");
  auto broken = believer();
  broken->front() = std::numeric_limits<float>::quiet_NaN();
  expect_the_strong_rule(broken, true, "not finite");
}

TEST(ForecastRule, AForecastThatIsNoBetterThanAsNowIsNotUsed) {
  expect_the_strong_rule(believer(), false, "not used");
}

TEST(ForecastRule, IsUsedWhereItIsBetterThanAsNowAndLeftWhereItIsWorse) {
  // Nothing comes back here, but what is slow will be less so, and what is not may become so.
  ForecastRule rule(towards_the_mean(0.3F));
  Service service;
  service.habit = false;
  service.bouts = true;
  service.unequal = true;
  const auto ticks = [&](int count) {
    int used = 0;
    for (int i = 0; i < count; ++i) {
      used += rule.decide(service.next(), service.loop).forecast->in_use ? 1 : 0;
    }
    return used;
  };
  ticks(100);
  EXPECT_GT(ticks(300), 270) << "and it does not come and go";
  const auto& record = rule.record();
  EXPECT_LT(record.error, record.as_now);
  rule.set_parameters(believer());  // in a period that is none
  ticks(100);
  EXPECT_GT(record.error, record.as_now);
  EXPECT_EQ(ticks(100), 0);
}

TEST(ForecastRule, WhereMostOfWhatDiffersIsNotForeseenP2CAnswersIt) {
  for (const bool unequal : {false, true}) {
    ForecastRule rule(towards_the_mean(0.48F));
    QueueRule strong;
    Service service;
    service.habit = false;
    service.bouts = true;
    service.bout_ticks = 3;
    service.unequal = unequal;
    int used = 0;
    for (int i = 0; i < 400; ++i) {
      const auto o = service.next();
      const auto proposal = rule.decide(o, service.loop);
      const auto without = strong.decide(o, service.loop);
      used += rule.record().in_use && i >= 100 ? 1 : 0;
      if (!unequal) {
        expect_same(proposal, without);
        EXPECT_TRUE(i < 200 || proposal.forecast_says.find("of equal weights'") != std::string::npos)
            << proposal.forecast_says;
      }
    }
    const auto& record = rule.record();
    EXPECT_LT(record.error, ForecastRule::kUse * record.as_now);
    EXPECT_LT(record.error, ForecastRule::kUseOfMean * record.as_mean);
    // Where pods are unequal, equal weights leave that unanswered too.
    EXPECT_EQ(used, unequal ? 300 : 0);
  }
}

TEST(ForecastRule, InALoopFasterThanItsMemoryItIsTheStrongRule) {
  ForecastRule rule(believer());
  QueueRule strong;
  Service service;
  service.loop.tick_s = 0.047;
  for (int i = 0; i < 300; ++i) {
    const auto o = service.next();
    expect_same(rule.decide(o, service.loop), strong.decide(o, service.loop));
  }
}

TEST(ForecastRule, AHabitIsForeseenOneLoopAhead) {
  ForecastRule rule(believer());
  Service service;
  double off = 0;
  double as_now = 0;
  std::vector<double> before;
  for (int i = 0; i < 200; ++i) {
    const auto o = service.next();
    const auto proposal = rule.decide(o, service.loop);
    if (i > 110) {
      EXPECT_FALSE(proposal.neutral);
      EXPECT_TRUE(rule.record().in_use) << proposal.why;
      // What will be while the weights that are made now are in force, beside the weights made.
      const double begin = static_cast<double>(service.loop.now) * 1e-9 + 0.12;
      double mean_weight = 0;
      double mean_speed = 0;
      for (std::size_t p = 0; p < kPods; ++p) {
        mean_weight += (proposal.endpoints[p].log_prior + proposal.endpoints[p].offset) / kPods;
        mean_speed += std::log(service.share(p, begin)) / kPods;
      }
      for (std::size_t p = 0; p < kPods; ++p) {
        const double comes = std::log(service.share(p, begin)) - mean_speed;
        const double is = std::log(o.endpoints[p].telemetry.speed) - mean_speed;
        const double weight = proposal.endpoints[p].log_prior + proposal.endpoints[p].offset - mean_weight;
        off += (weight - comes) * (weight - comes);
        as_now += (is - comes) * (is - comes);
      }
    }
  }
  EXPECT_LT(rule.record().error, 0.25 * rule.record().as_now);
  EXPECT_LT(off, as_now);
}

TEST(ForecastRule, SaysHowFarItWasFromWhatCameAndWhatItLearnsFrom) {
  ForecastRule rule(believer());
  Service service;
  ServiceProposal proposal;
  for (int i = 0; i < 200; ++i) {
    proposal = rule.decide(service.next(), service.loop);
  }
  ASSERT_TRUE(proposal.forecast);
  EXPECT_TRUE(proposal.forecast->in_use);
  EXPECT_LT(proposal.forecast->error, proposal.forecast->as_now);
  EXPECT_GT(proposal.forecast->pairs, 190 * kPods);
  EXPECT_NEAR(proposal.forecast->span_s, 199 * kTick, 1);
  EXPECT_NEAR(proposal.forecast->period_s, kPeriod, 0.05 * kPeriod);
  const std::string& says = proposal.forecast_says;
  EXPECT_EQ(says.rfind("forecast in use: error ", 0), 0U) << says;
  EXPECT_NE(says.find(" pairs in 219 s, period "), std::string::npos) << says;
  EXPECT_LT(says.size(), 110U) << "it has to fit into a row of the map";
}

TEST(ForecastRule, GivesPairsToLearnFrom) {
  ForecastRule rule;
  EXPECT_TRUE(rule.take_samples().empty());
  Service service;
  for (int i = 0; i < 50; ++i) {
    rule.decide(service.next(), service.loop);
  }
  const auto samples = rule.take_samples();
  ASSERT_GE(samples.size(), 45 * kPods);
  for (const auto& sample : samples) {
    EXPECT_LE(sample.came, 0);
    EXPECT_GE(sample.came, std::log(0.39));
  }
}

TEST(ForecastRule, SurvivesGarbage) {
  ForecastRule rule(believer());
  Service service;
  const double bad[] = {0, -1, 1e300, std::nan(""), INFINITY};
  for (int i = 0; i < 300; ++i) {
    auto o = service.next();
    for (auto& e : o.endpoints) {
      e.telemetry.speed = bad[service.random() % 5];
      e.telemetry.known = service.random() % 3 != 0;
    }
    o.endpoints.resize(service.random() % (kPods + 1));
    service.loop.tick_s = i % 50 == 49 ? std::nan("") : kTick;
    const auto proposal = rule.decide(o, service.loop);
    ASSERT_EQ(proposal.endpoints.size(), o.endpoints.size());
    for (const auto& e : proposal.endpoints) {
      ASSERT_TRUE(std::isfinite(e.log_prior + e.offset));
    }
  }
}

}  // namespace
}  // namespace ballast::decide
