// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/arrivals.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace ballast::lab {
namespace {

ArrivalPlan plan(std::uint64_t seed) {
  return {200, 100, 2.0, 0.8, 64, seed};
}

TEST(Arrivals, EqualSeedsGiveEqualArms) {
  EXPECT_EQ(make_arrivals(plan(7)), make_arrivals(plan(7)));
  EXPECT_NE(make_arrivals(plan(7)), make_arrivals(plan(8)));
}

TEST(Arrivals, ALongerPlanBeginsWithTheShorterOne) {
  auto longer = plan(3);
  longer.seconds = 150;
  const auto all = make_arrivals(longer);
  const auto first = make_arrivals(plan(3));
  ASSERT_LT(first.size(), all.size());
  EXPECT_TRUE(std::equal(first.begin(), first.end(), all.begin()));
}

TEST(Arrivals, StreamsAreSeparate) {
  auto faster = plan(5);
  faster.rate = 400;
  const auto a = make_arrivals(plan(5));
  const auto b = make_arrivals(faster);
  for (std::size_t i = 0; i < a.size(); ++i) {
    ASSERT_EQ(a[i].demand_us, b[i].demand_us);
    ASSERT_EQ(a[i].session, b[i].session);
  }
}

TEST(Arrivals, ArePoissonWithLognormalDemand) {
  const auto arrivals = make_arrivals(plan(1));
  const auto n = static_cast<double>(arrivals.size());
  EXPECT_NEAR(n, 20000, 4 * std::sqrt(20000));
  double demand = 0;
  double logs = 0;
  double squares = 0;
  double gaps_squared = 0;
  std::set<std::uint32_t> sessions;
  for (std::size_t i = 0; i < arrivals.size(); ++i) {
    const double log = std::log(arrivals[i].demand_us * 1e-3);
    demand += arrivals[i].demand_us;
    logs += log;
    squares += log * log;
    sessions.insert(arrivals[i].session);
    if (i > 0) {
      ASSERT_GE(arrivals[i].at_ns, arrivals[i - 1].at_ns);
      gaps_squared += std::pow(static_cast<double>(arrivals[i].at_ns - arrivals[i - 1].at_ns) * 1e-9, 2);
    }
  }
  EXPECT_NEAR(demand / n, 2000, 60);
  EXPECT_NEAR(std::sqrt(squares / n - logs / n * logs / n), 0.8, 0.02);
  EXPECT_NEAR(gaps_squared / n, 2 / (200.0 * 200.0), 0.1 * 2 / (200.0 * 200.0));  // of an exponential gap
  EXPECT_EQ(sessions.size(), 64U);
}

}  // namespace
}  // namespace ballast::lab
