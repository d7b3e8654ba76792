// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <random>

#include "agent/guard/guard.h"
#include "views.h"

namespace ballast::guard {
namespace {

using testing::kTick;
using testing::kWeb;

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

/// Whatever a broken policy, node or network may hand in.
class Chaos {
 public:
  explicit Chaos(std::uint64_t seed) : random_(seed) {}

  double any() {
    const double bad[] = {kNan, kInf, -kInf, -1, 0, 1e308, 5e-324, -1e308};
    return bad[random_() % std::size(bad)];
  }
  double uniform() { return static_cast<double>(random_() >> 11) * 0x1.0p-53; }
  bool one_in(std::uint64_t n) { return random_() % n == 0; }
  std::size_t below(std::size_t n) { return random_() % n; }

  GuardOptions options() {
    GuardOptions o;
    o.floor = one_in(8) ? 1 : std::pow(10, -3 * uniform());
    o.cap = one_in(8) ? 1 : 1 + 20 * uniform();
    o.max_step = 0.05 + 2 * uniform();
    o.deadband = one_in(3) ? 0 : 0.024 * uniform();
    o.blend = one_in(2) ? 1 : uniform();
    return o;
  }

  ServiceView view(std::size_t n, bool broken) {
    ServiceView v{.service = kWeb, .neutral = one_in(5), .why = "chaos"};
    v.p99_ns = one_in(10) ? any() : 1e8 * uniform();
    v.error_rate = one_in(10) ? any() : uniform();
    v.qps = one_in(10) ? any() : 100;
    for (std::size_t i = 0; i < n; ++i) {
      const bool bad = broken && one_in(4);
      v.endpoints.push_back({.id = {kWeb, "web-" + std::to_string(one_in(50) ? below(n) : i)},
                             .address = "10.0.0.1",
                             .known = !one_in(10),
                             .age_s = bad          ? any()
                                      : one_in(10) ? 20 * uniform()
                                                   : 0.2,
                             .share = bad ? any() : std::pow(uniform(), 6),
                             .offset = bad ? any() : uniform() - 0.5});
    }
    return v;
  }

 private:
  std::mt19937_64 random_;
};

using InForce = std::map<std::string, std::uint32_t>;

void check_invariants(const GuardedWeights& g, const GuardOptions& o) {
  const auto n = static_cast<double>(g.endpoints().size());
  double sum = 0;
  bool equal = true;
  for (const WeightedEndpoint& e : g.endpoints()) {
    ASSERT_GE(e.weight, 1U);
    ASSERT_GE(e.weight + 1, o.floor * GuardedWeights::kWeightScale);
    ASSERT_LE(e.weight, o.cap * GuardedWeights::kWeightScale + 1);
    ASSERT_TRUE(std::isfinite(e.proposed_share));
    ASSERT_TRUE(std::isfinite(e.guarded_share));
    ASSERT_GE(e.guarded_share * n, o.floor - 1e-6);
    ASSERT_LE(e.guarded_share * n, o.cap + 1e-6);
    sum += e.weight;
    equal &= e.weight == g.endpoints()[0].weight;
  }
  ASSERT_NEAR(sum, GuardedWeights::kWeightScale * n, n);
  ASSERT_EQ(g.neutral(), equal) << "neutral means equal, and weighted means not equal";
}

void check_step(const GuardedWeights& g, const InForce& before, const GuardOptions& o) {
  constexpr std::uint32_t kCause = kGarbage | kStale | kTripped | kKillSwitch;
  for (const WeightedEndpoint& e : g.endpoints()) {
    if (g.neutral() && (e.reasons & kCause) != 0) {
      continue;
    }
    // Two units: one of rounding before, one after.
    const double old = before.at(e.id.pod);
    ASSERT_LE(e.weight, (old + 1) * std::exp(o.max_step) + 2);
    ASSERT_GE(e.weight + 2, (old - 1) * std::exp(-o.max_step));
  }
}

void check_deadband(const GuardedWeights& g, const InForce& before, bool neutral_before,
                    const GuardOptions& o) {
  double moved = 0;
  for (const WeightedEndpoint& e : g.endpoints()) {
    moved = std::max(moved, std::abs(std::log(e.weight / static_cast<double>(before.at(e.id.pod)))));
  }
  if (!g.changed()) {
    ASSERT_EQ(moved, 0) << "nothing was pushed, so what is in force stays";
    ASSERT_EQ(g.neutral(), neutral_before);
  } else if (g.neutral() == neutral_before) {
    ASSERT_GE(moved, o.deadband);
    ASSERT_GT(moved, 0);
  }
}

void run(std::uint64_t seed, std::size_t n, int ticks) {
  Chaos chaos(seed);
  const GuardOptions o = chaos.options();
  ASSERT_TRUE(options::validate(o).ok());
  Guard guard(o);
  MonotonicNs now = 1;
  InForce before;
  bool neutral_before = true;
  for (int tick = 0; tick < ticks; ++tick) {
    const bool churn = chaos.one_in(10);
    const std::size_t size = churn ? chaos.below(n + 1) : n;
    now += chaos.one_in(20) ? 100 * kTick : kTick;
    const GuardedWeights g = guard.apply(chaos.view(size, chaos.one_in(3)), now);
    ASSERT_NO_FATAL_FAILURE(check_invariants(g, o));
    InForce after;
    for (const WeightedEndpoint& e : g.endpoints()) {
      after[e.id.pod] = e.weight;
    }
    bool same = after.size() == before.size();
    for (const auto& [pod, weight] : after) {
      same &= before.contains(pod);
    }
    if (same && !after.empty()) {
      ASSERT_NO_FATAL_FAILURE(check_step(g, before, o));
      ASSERT_NO_FATAL_FAILURE(check_deadband(g, before, neutral_before, o));
    } else {
      ASSERT_EQ(g.changed(), !(after.empty() && before.empty()));
    }
    before = std::move(after);
    neutral_before = g.neutral();
  }
}

TEST(GuardProperty, HoldsForAnyViewOfAFewEndpoints) {
  for (std::uint64_t seed = 0; seed < 400; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ASSERT_NO_FATAL_FAILURE(run(seed, 1 + seed % 12, 40));
  }
}

TEST(GuardProperty, HoldsForAThousandEndpoints) {
  for (std::uint64_t seed = 1000; seed < 1005; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    ASSERT_NO_FATAL_FAILURE(run(seed, 1000, 12));
  }
}

// Nothing is mended on the way in: who made these options hears of it.
TEST(GuardProperty, OptionsThatDoNotHoldMakeNoGuard) {
  int refused = 0;
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Chaos chaos(seed);
    GuardOptions o;
    for (double* value : {&o.floor, &o.cap, &o.max_step, &o.deadband, &o.stale_after_s, &o.neutral_after_s,
                          &o.blend, &o.trip_ratio, &o.window_s}) {
      *value = chaos.one_in(2) ? chaos.any() : *value;
    }
    const auto checked = options::Checked<GuardOptions>::of(o);
    ASSERT_EQ(checked.ok(), options::validate(o).ok());
    if (!checked) {
      ++refused;
      ASSERT_THAT(checked.error().message, ::testing::StartsWith("guard."));
      continue;
    }
    ASSERT_EQ(**checked, o);
  }
  EXPECT_GT(refused, 200);
  EXPECT_DEATH(Guard(GuardOptions{.floor = -1}), "guard.floor: -1 is out of range; give 0.001 to 1");
}

TEST(GuardProperty, HealthyProposalsAreReached) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    Chaos chaos(seed);
    const GuardOptions o{.deadband = 0};
    Guard guard(o);
    std::vector<double> wanted;
    for (std::size_t i = 0; i < 2 + seed % 20; ++i) {
      wanted.push_back(0.6 + chaos.uniform());
    }
    const ServiceView v = testing::view(wanted);
    for (int tick = 0; tick < 5; ++tick) {
      guard.apply(v, static_cast<MonotonicNs>(tick + 1) * kTick);
    }
    const GuardedWeights g = guard.apply(v, 10 * kTick);
    const double n = static_cast<double>(wanted.size());
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      ASSERT_NEAR(g.endpoints()[i].weight, v.endpoints[i].share * n * 1000, 1.5);
    }
  }
}

}  // namespace
}  // namespace ballast::guard
