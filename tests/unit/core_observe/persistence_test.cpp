// SPDX-License-Identifier: Apache-2.0
#include "core/observe/persistence.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "telemetry.h"

namespace ballast::observe {
namespace {

using testing::kTick;

std::vector<spec::EndpointTelemetry> with(const std::vector<double>& capacities) {
  std::vector<spec::EndpointTelemetry> endpoints;
  for (std::size_t i = 0; i < capacities.size(); ++i) {
    endpoints.push_back(testing::endpoint("web-" + std::to_string(i), capacities[i]));
  }
  return endpoints;
}

class PersistenceTest : public ::testing::Test {
 protected:
  double run(double seconds, const std::function<std::vector<double>(double)>& capacities) {
    const double until = elapsed_ + seconds;
    while (elapsed_ < until - 1e-9) {
      estimator_.update(with(capacities(elapsed_)), now_);
      now_ += kTick;
      elapsed_ += 0.25;
    }
    return estimator_.persistence_s();
  }

  PersistenceEstimator estimator_;
  MonotonicNs now_ = 1'000'000'000;
  double elapsed_ = 0;
};

std::vector<double> quotas(double) {
  return {200, 100, 50, 50};
}
std::vector<double> equal(double) {
  return {100, 100, 100, 100};
}

/// Ten pods, of which three at a time have .4 of the capacity; which, changes every `period`.
std::function<std::vector<double>(double)> moving(double period) {
  return [period](double t) {
    std::vector<double> capacities(9, 100);
    const auto group = static_cast<std::size_t>(t / period + 1e-9) % 3;
    for (std::size_t i = 0; i < 3; ++i) {
      capacities[3 * group + i] = 40;
    }
    return capacities;
  };
}

TEST_F(PersistenceTest, BeginsAtZeroAndTrustsAStarkStaticDifferenceAfterOneSecond) {
  EXPECT_DOUBLE_EQ(estimator_.persistence_s(), 0);
  EXPECT_DOUBLE_EQ(run(0.25, quotas), 0);
  EXPECT_DOUBLE_EQ(run(0.25, quotas), 15) << "a quarter of the prior";
  EXPECT_DOUBLE_EQ(run(0.75, quotas), 60);
  EXPECT_DOUBLE_EQ(run(120, quotas), 121) << "then it is as old as it is";
}

TEST_F(PersistenceTest, EqualEndpointsHaveNoDifferencesThatLast) {
  EXPECT_DOUBLE_EQ(run(30, equal), 0);
}

TEST_F(PersistenceTest, NoiseIsNotAPattern) {
  std::mt19937_64 random(3);
  std::normal_distribution<double> noise(0, 0.04);
  EXPECT_DOUBLE_EQ(run(30,
                       [&](double) {
                         std::vector<double> capacities(4);
                         for (auto& c : capacities) {
                           c = 100 * std::exp(noise(random));
                         }
                         return capacities;
                       }),
                   0);
  EXPECT_DOUBLE_EQ(estimator_.typical_s(), 60) << "and has taught nothing";
}

TEST_F(PersistenceTest, LearnsThePeriodOfAMovingPattern) {
  run(60, moving(1));
  EXPECT_NEAR(estimator_.typical_s(), 1, 0.3);
  EXPECT_LT(estimator_.persistence_s(), 2);
  PersistenceEstimator slow;
  estimator_ = slow;
  run(120, moving(10));
  EXPECT_NEAR(estimator_.typical_s(), 10, 1);
  EXPECT_LT(estimator_.persistence_s(), 15);
}

TEST_F(PersistenceTest, FallsFastOnceThePatternWasSeenToMove) {
  EXPECT_GE(run(1.25, moving(1)), 15);
  EXPECT_LT(run(3, moving(1)), 4);
}

TEST_F(PersistenceTest, PatternThatChangesEveryTickDoesNotLast) {
  EXPECT_LT(run(20, moving(0.25)), 1.5);
}

TEST_F(PersistenceTest, TwoPatternsInTurnDoNotLast) {
  run(20, [](double t) {
    return static_cast<int>(t * 4) % 2 == 0 ? std::vector<double>{200, 50} : std::vector<double>{50, 200};
  });
  EXPECT_LT(estimator_.typical_s(), 2);
}

TEST_F(PersistenceTest, RestlessPatternThatStandsStillEarnsTrustBySeconds) {
  run(60, moving(1));
  const double restless = estimator_.typical_s();
  EXPECT_NEAR(run(20, quotas), 20, 1.5);
  EXPECT_NEAR(estimator_.typical_s(), restless, restless) << "the spell that lasts is not yet folded in";
}

TEST_F(PersistenceTest, OneOddTickIsAGlitch) {
  run(10, quotas);
  run(0.25, [](double) { return std::vector<double>{50, 50, 100, 200}; });
  EXPECT_DOUBLE_EQ(estimator_.persistence_s(), 60);
  run(10, quotas);
  EXPECT_DOUBLE_EQ(estimator_.typical_s(), 60);
}

TEST_F(PersistenceTest, DifferencesThatVanishEndTheSpell) {
  run(15, quotas);
  EXPECT_DOUBLE_EQ(run(0.25, equal), 0);
  EXPECT_NEAR(estimator_.typical_s(), std::sqrt(60.0 * 15), 0.5);
}

TEST_F(PersistenceTest, StrongerDifferenceInTheSameDirectionIsAChange) {
  run(15, [](double) { return std::vector<double>{125, 100, 80, 100}; });
  run(1, [](double) { return std::vector<double>{400, 100, 25, 100}; });
  EXPECT_NEAR(estimator_.typical_s(), std::sqrt(60.0 * 15), 0.5);
}

TEST_F(PersistenceTest, EndpointsThatComeAndGoAreNotAChange) {
  run(10, quotas);
  run(10, [](double) { return std::vector<double>{200, 100, 50, 50, 400, 10}; });
  EXPECT_DOUBLE_EQ(estimator_.typical_s(), 60);
  run(10, [](double) { return std::vector<double>{200, 100, 50}; });
  EXPECT_DOUBLE_EQ(estimator_.typical_s(), 60);
  EXPECT_DOUBLE_EQ(run(60, quotas), 89.75);
}

TEST_F(PersistenceTest, UnknownAndGarbageAreLeftOut) {
  auto endpoints = with({200, 100, 50, 50, 0, -3, std::nan(""), INFINITY});
  endpoints.push_back(testing::endpoint("unknown", 1e9));
  endpoints.back().known = false;
  endpoints.push_back(endpoints.front());  // the same pod twice
  for (int i = 0; i < 8; ++i, now_ += kTick) {
    EXPECT_TRUE(std::isfinite(estimator_.update(endpoints, now_)));
  }
  EXPECT_DOUBLE_EQ(estimator_.persistence_s(), 60);
  EXPECT_TRUE(std::isfinite(estimator_.update({}, 0))) << "a clock that ran backwards, and no endpoints";
}

}  // namespace
}  // namespace ballast::observe
