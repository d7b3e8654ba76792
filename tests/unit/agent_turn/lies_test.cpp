// SPDX-License-Identifier: Apache-2.0
// The attacker is a pod with any code: it counts what requests it likes, to itself or from accomplices,
// as long as it pays for their CPU. Two minutes of the whole turn, from samples to weights, with traffic
// that follows the weights: what its share of the service's traffic gains over an honest pod's.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

#include "agent/decide/prior.h"
#include "agent/fleet/local.h"
#include "agent/observe/observer.h"
#include "agent/turn/turn.h"

namespace ballast::turn {
namespace {

constexpr int kPods = 6;
constexpr double kTickS = 0.25;
constexpr double kTotal = 1000.0 * kPods;  // requests a second
constexpr double kCost = 2e5;              // ns of CPU
constexpr double kFake = 1e4;              // ns of CPU that a made-up one costs

struct Lie {
  double requests = 0;  // a second, at this moment, made up and well answered
  double failed = 0;    // part of the true requests that it answers with an error
};
/// What pod `i` does at `t` seconds, where it serves `served` requests a second.
using Liar = std::function<Lie(int i, double t, double served)>;

/// Pods 0 and 1 may lie. The mean share of pod 0 over two minutes, after ten seconds of honesty.
double share_of(const Liar& liar, double& peak) {
  observe::Observer observer({.machine_cores = 4});
  guard::GuardOptions options;
  options.hold_claims = true;
  Turn turn(options);
  fleet::LocalFleet fleet;
  decide::PriorPolicy policy;
  spec::LoopTiming loop{.now = 1'000'000'000ULL, .tick_s = kTickS, .subscribers = 4};
  std::vector<identity::Pod> pods;
  for (int i = 0; i < kPods; ++i) {
    const std::string name = "web-" + std::to_string(i);
    pods.push_back({.cgroup_id = static_cast<std::uint64_t>(i + 1),
                    .cgroup = "/" + name,
                    .pod = name,
                    .ns = "shop",
                    .container = "web",
                    .service = "web",
                    .address = "10.0.0." + std::to_string(i),
                    .port = 80});
  }
  std::vector<double> share(kPods, 1.0 / kPods);
  std::vector<double> part(kPods, 0);  // of a request that a tick left over
  double sum = 0;
  int ticks = 0;
  peak = 0;
  for (double t = -10; t < 120; t += kTickS) {
    sample::Sample sample{.taken = loop.now, .interval_ns = static_cast<MonotonicNs>(kTickS * 1e9)};
    for (int i = 0; i < kPods; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double served = share[at] * kTotal;
      const Lie lie = t < 0 ? Lie{} : liar(i, t, served);
      const double counted = (served + lie.requests) * kTickS + part[at];
      sample::CgroupSample s{.id = static_cast<std::uint64_t>(i + 1)};
      s.requests = s.responses = static_cast<std::uint64_t>(counted);
      part[at] = counted - static_cast<double>(s.requests);
      s.errors = static_cast<std::uint64_t>(served * kTickS * lie.failed);
      s.on_cpu_ns = static_cast<std::uint64_t>((served * kCost + lie.requests * kFake) * kTickS) +
                    static_cast<std::uint64_t>(ticks % 97);
      s.cpu_limit_cores = i % 2 == 0 ? 0.5 : 1;  // so that there is something to weigh
      const auto bucket = static_cast<std::size_t>(ballast_hist_bucket(1'000'000));
      s.first_byte.count = s.first_byte.buckets[bucket] = s.responses;
      s.first_byte.sum_ns = s.responses * 600'000 + static_cast<std::uint64_t>(ticks % 89);
      sample.cgroups.push_back(s);
    }
    const auto decisions =
        turn.decide(fleet.exchange(turn.report(observer.endpoints(sample, pods), loop)), loop, policy);
    double all = 0;
    for (const auto& e : decisions.at(0).weights.endpoints()) {
      all += e.weight;
    }
    for (std::size_t i = 0; i < kPods; ++i) {
      share[i] = decisions.at(0).weights.endpoints()[i].weight / all;
    }
    loop.now += sample.interval_ns;
    ++ticks;
    if (t >= 0) {
      sum += share[0];
      peak = std::max(peak, share[0]);
    }
  }
  return sum / (120 / kTickS);
}

/// What the lie brings against the same pod that does not lie.
void expect_no_gain(
    const Liar& liar, const Liar& honest = [](int, double, double) { return Lie{}; }) {
  double peak = 0;
  double honest_peak = 0;
  const double without = share_of(honest, honest_peak);
  const double with = share_of(liar, peak);
  std::printf("share %.4f honest %.4f gain %+.1f %%, at most %+.1f %%\n", with, without,
              100 * (with / without - 1), 100 * (peak / honest_peak - 1));
  EXPECT_LE(with, 1.10 * without);
}

TEST(Lies, TenTimesItsRequestsFromItself) {
  expect_no_gain([](int i, double, double served) { return Lie{i == 0 ? 9 * served : 0, 0}; });
}

TEST(Lies, ALittleMoreEachSecond) {
  expect_no_gain([](int i, double t, double served) { return Lie{i == 0 ? 0.02 * t * served : 0, 0}; });
}

TEST(Lies, InPulses) {
  expect_no_gain([](int i, double t, double served) {
    return Lie{i == 0 && std::fmod(t, 15) < 4 ? 5 * served : 0, 0};
  });
}

TEST(Lies, JustBelowWhatIsBelieved) {
  expect_no_gain([](int i, double, double served) { return Lie{i == 0 ? 0.1 * served : 0, 0}; });
}

TEST(Lies, TwoPodsThatCallEachOther) {
  expect_no_gain([](int i, double, double) { return Lie{i <= 1 ? 2000.0 : 0, 0}; });
}

TEST(Lies, ThatHideErrors) {
  expect_no_gain(
      [](int i, double, double served) {
        return Lie{i == 0 ? 9 * served : 0, i == 0 ? 0.5 : 0};
      },
      [](int i, double, double) {
        return Lie{0, i == 0 ? 0.5 : 0};
      });
}

}  // namespace
}  // namespace ballast::turn
