// SPDX-License-Identifier: Apache-2.0
// The attacker is a pod with any code: it counts what requests it likes, to itself or from accomplices,
// as long as it pays for their CPU. Two minutes of the whole turn, from samples to weights, with traffic
// that follows the weights: what its share of the service's traffic gains over an honest pod's.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <functional>
#include <random>

#include "agent/decide/prior.h"
#include "agent/decide/queue_rule.h"
#include "agent/fleet/local.h"
#include "agent/observe/observer.h"
#include "agent/turn/turn.h"

namespace ballast::turn {
namespace {

constexpr int kPods = 6;
constexpr double kTickS = 0.25;
constexpr double kTotal = 1000.0 * kPods;       // requests a second
constexpr double kCost = 2e5;                   // ns of CPU
constexpr double kFake = 1e4;                   // ns of CPU that a made-up one costs
constexpr std::uint64_t kQuick = 1'000'000;     // ns until an answer that waits for nothing
constexpr std::uint64_t kWaiting = 10'000'000;  // ns until one that waits
constexpr std::uint64_t kMinute = 60'000'000'000;
constexpr std::uint64_t kAtOnce = 20'000;  // ns until a head that waits for nothing

struct Lie {
  double requests = 0;   // a second, at this moment, made up and well answered
  double failed = 0;     // part of the true requests that it answers with an error
  double early = 0;      // part of those that wait whose heads go out early, the bodies when they are done
  double sooner = 1;     // by so much of their time
  bool endless = false;  // and their ends are not seen
};
/// What pod `i` does at `t` seconds, where it serves `served` requests a second.
using Liar = std::function<Lie(int i, double t, double served)>;

struct Shares {
  std::array<double, kPods> mean{};
  double peak = 0;  // of pod 0
};

/// Where it happens. Callers that are measured are on the same node.
struct Place {
  int count = kPods;
  bool callers = false;
  double peak = 1.10;  // of an honest pod's, at any moment
  double waiting = 0;  // part of the true requests that wait for something, where CPU limits nothing
  double longer = 1;   // times as long at pod 0
  double streams = 0;  // of those that wait, by chance, whose answers go on for a minute
};

/// What the callers of pod `i` have had of it: totals.
sample::CallRow called(int i, double answers) {
  sample::CallRow row;
  row.key = {.cgroup_id = 100,
             .peer = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, static_cast<std::uint8_t>(i)},
             .port = 80,
             .protocol = 0,
             .pad = {}};
  row.value.responses = row.value.first_byte.count = static_cast<std::uint64_t>(answers);
  row.value.first_byte.buckets[ballast_hist_bucket(1'000'000)] = row.value.responses;
  return row;
}

/// Pods 0 and 1 may lie. Shares of two minutes, after ten seconds of honesty.
Shares shares_of(const Liar& liar, decide::Policy& policy, Place place) {
  const int count = place.count;
  observe::Observer observer({.machine_cores = 4});
  guard::GuardOptions options;
  options.hold_claims = true;
  Turn turn(options);
  fleet::LocalFleet fleet;
  spec::LoopTiming loop{.now = 1'000'000'000ULL, .tick_s = kTickS, .subscribers = 4};
  std::vector<identity::Pod> pods;
  for (int i = 0; i < count; ++i) {
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
  const auto pods_there = static_cast<std::size_t>(count);
  std::vector<double> share(pods_there, 1.0 / count);
  std::vector<double> part(pods_there, 0);      // of a request that a tick left over
  std::vector<double> answered(pods_there, 0);  // that callers had
  std::mt19937 random(7);
  Shares out;
  int ticks = 0;
  for (double t = -10; t < 120; t += kTickS) {
    sample::Sample sample{.taken = loop.now, .interval_ns = static_cast<MonotonicNs>(kTickS * 1e9)};
    for (int i = 0; i < count; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double served = share[at] * kTotal * count / kPods;
      const Lie lie = t < 0 ? Lie{} : liar(i, t, served);
      const double counted = (served + lie.requests) * kTickS + part[at];
      sample::CgroupSample s{.id = static_cast<std::uint64_t>(i + 1)};
      s.requests = s.responses = static_cast<std::uint64_t>(counted);
      part[at] = counted - static_cast<double>(s.requests);
      s.errors = static_cast<std::uint64_t>(served * kTickS * lie.failed);
      const double cost = place.waiting > 0 ? kFake : kCost;
      s.on_cpu_ns = static_cast<std::uint64_t>((served * cost + lie.requests * kFake) * kTickS) +
                    static_cast<std::uint64_t>(ticks % 97);
      s.cpu_limit_cores = i % 2 == 0 ? 0.5 : 1;  // so that there is something to weigh
      const auto wait = static_cast<std::uint64_t>(kWaiting * (i == 0 ? place.longer : 1));
      const auto waited = static_cast<std::uint64_t>(served * kTickS * place.waiting);
      const auto early = static_cast<std::uint64_t>(static_cast<double>(waited) * lie.early);
      const auto head =
          std::max(kAtOnce, static_cast<std::uint64_t>(static_cast<double>(wait) * (1 - lie.sooner)));
      s.last_byte.count = s.responses;
      s.last_byte.buckets[ballast_hist_bucket(wait)] = waited;
      s.last_byte.buckets[ballast_hist_bucket(kQuick)] = s.responses - waited;
      s.last_byte.sum_ns =
          (s.responses - waited) * 600'000 + waited * wait + static_cast<std::uint64_t>(ticks % 89);
      s.first_byte = s.last_byte;
      if (place.streams > 0) {
        const auto streams = std::min(waited, std::poisson_distribution<std::uint64_t>(
                                                  static_cast<double>(waited) * place.streams)(random));
        s.last_byte.buckets[ballast_hist_bucket(wait)] -= streams;
        s.last_byte.buckets[ballast_hist_bucket(kMinute)] += streams;
        s.last_byte.sum_ns += streams * (kMinute - wait);
      }
      s.first_byte.buckets[ballast_hist_bucket(wait)] -= early;
      s.first_byte.buckets[ballast_hist_bucket(head)] += early;
      s.first_byte.sum_ns -= early * (wait - head);
      if (lie.endless) {
        s.last_byte.count -= early;
        s.last_byte.buckets[ballast_hist_bucket(wait)] -= early;
        s.last_byte.sum_ns -= early * wait;
      }
      if (place.waiting > 0) {  // what waits is in flight, give or take one
        s.in_flight = std::lround(static_cast<double>(waited * wait) * 1e-9 / kTickS) + (ticks * 7 + i) % 3;
      }
      sample.cgroups.push_back(s);
      answered[at] += served * kTickS;
    }
    if (place.callers && ticks % 4 == 0) {
      sample.calls.emplace();
      for (int i = 0; i < count; ++i) {
        sample.calls->push_back(called(i, answered[static_cast<std::size_t>(i)]));
      }
    }
    const auto decisions =
        turn.decide(fleet.exchange(turn.report(observer.endpoints(sample, pods), loop)), loop, policy);
    double all = 0;
    for (const auto& e : decisions.at(0).weights.endpoints()) {
      all += e.weight;
    }
    for (std::size_t i = 0; i < pods_there; ++i) {
      share[i] = decisions.at(0).weights.endpoints()[i].weight / all;
    }
    loop.now += sample.interval_ns;
    ++ticks;
    for (std::size_t i = 0; i < pods_there && t >= 0; ++i) {
      out.mean[i] += share[i] * kTickS / 120;
    }
    out.peak = t < 0 ? 0 : std::max(out.peak, share[0]);
  }
  return out;
}

template <typename Policy>
void expect_no_gain_by(const Liar& liar, const Liar& honest, Place place) {
  Policy policies[2];
  const Shares without = shares_of(honest, policies[0], place);
  const Shares with = shares_of(liar, policies[1], place);
  std::printf("%s: share %.4f honest %.4f gain %+.1f %%, at most %+.1f %%\n", policies[0].name().c_str(),
              with.mean[0], without.mean[0], 100 * (with.mean[0] / without.mean[0] - 1),
              100 * (with.peak / without.peak - 1));
  EXPECT_LE(with.peak, place.peak * without.peak);
  EXPECT_LE(with.mean[0], 1.10 * without.mean[0]);
  // What liars gain comes out of all others alike, and what they lose goes to them: none loses more than the
  // bound, and together they lose no more than that either.
  double honest_with = 0;
  double honest_without = 0;
  for (std::size_t i = 2; i < static_cast<std::size_t>(place.count); ++i) {
    EXPECT_GE(with.mean[i], 0.9 * without.mean[i]) << "pod " << i << ", honest";
    honest_with += with.mean[i];
    honest_without += without.mean[i];
  }
  EXPECT_GE(honest_with, honest_without - 0.1 * (1 - honest_without));
}

/// What the lie brings against the same pod that does not lie, and what it costs the others.
void expect_no_gain(
    const Liar& liar, const Liar& honest = [](int, double, double) { return Lie{}; }, Place place = {}) {
  expect_no_gain_by<decide::PriorPolicy>(liar, honest, place);
  expect_no_gain_by<decide::QueueRule>(liar, honest, place);
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

// Half of the true requests wait, and a few made-up ones that do not are the difference between the median
// of those and the median of the others.
TEST(Lies, ThatThinTheMedian) {
  const Liar little = [](int i, double, double served) { return Lie{i == 0 ? 0.09 * served : 0, 0}; };
  const Liar nobody = [](int, double, double) { return Lie{}; };
  expect_no_gain(little, nobody, {.waiting = 0.52});
  expect_no_gain(little, nobody, {.waiting = 0.52, .longer = 3});
}

// Heads that go out at once, and bodies when they are done: the first byte says nothing any more. Requests in
// flight are so until their last byte.
TEST(Lies, HeadsAtOnceBodiesLate) {
  const Liar heads = [](int i, double, double) { return Lie{.early = i == 0 ? 1.0 : 0}; };
  const Liar nobody = [](int, double, double) { return Lie{}; };
  expect_no_gain(heads, nobody, {.waiting = 1});
  expect_no_gain(heads, nobody, {.waiting = 1, .longer = 3});  // it is slow, and hides it
}

TEST(Lies, HeadsAtOnceWhereMostAreQuick) {
  const Liar heads = [](int i, double, double) { return Lie{.early = i == 0 ? 1.0 : 0}; };
  const Liar nobody = [](int, double, double) { return Lie{}; };
  expect_no_gain(heads, nobody, {.waiting = 0.52, .longer = 3});
  expect_no_gain(heads, nobody, {.waiting = 0.1, .longer = 10});
}

TEST(Lies, HeadsAtOnceInPulses) {
  const Liar nobody = [](int, double, double) { return Lie{}; };
  for (const double on : {0.5, 4.0}) {
    const Liar pulses = [on](int i, double t, double) {
      return Lie{.early = i == 0 && std::fmod(t, 15) < on ? 1.0 : 0};
    };
    expect_no_gain(pulses, nobody, {.waiting = 1});
    expect_no_gain(pulses, nobody, {.waiting = 1, .longer = 3});
  }
}

TEST(Lies, HeadsALittleEarly) {
  const Liar nobody = [](int, double, double) { return Lie{}; };
  for (const double sooner : {0.05, 0.1, 0.3}) {
    const Liar early = [sooner](int i, double, double) {
      return Lie{.early = i == 0 ? 1.0 : 0, .sooner = sooner};
    };
    expect_no_gain(early, nobody, {.waiting = 1, .longer = 3});
  }
}

TEST(Lies, HeadsAtOnceOfTwoPods) {
  const Liar heads = [](int i, double, double) { return Lie{.early = i <= 1 ? 1.0 : 0}; };
  expect_no_gain(heads, [](int, double, double) { return Lie{}; }, {.waiting = 1, .longer = 3});
}

TEST(Lies, HeadsAtOnceWhoseEndsAreNotSeen) {
  const Liar heads = [](int i, double, double) { return Lie{.early = i == 0 ? 1.0 : 0, .endless = true}; };
  expect_no_gain(heads, [](int, double, double) { return Lie{}; }, {.waiting = 1});
}

// Where some answers are streams, more at one pod than at another by chance, nobody's share changes for it.
TEST(Lies, StreamsAreNone) {
  const Liar nobody = [](int, double, double) { return Lie{}; };
  for (const double longer : {1.0, 3.0}) {
    decide::QueueRule alone;
    const Shares without = shares_of(nobody, alone, {.waiting = 1, .longer = longer});
    for (const double streams : {0.01, 0.2}) {
      decide::QueueRule rule;
      const Shares with = shares_of(nobody, rule, {.waiting = 1, .longer = longer, .streams = streams});
      for (std::size_t i = 0; i < kPods; ++i) {
        EXPECT_NEAR(with.mean[i], without.mean[i], 0.02 * without.mean[i])
            << "pod " << i << ", streams " << streams << ", longer " << longer;
      }
    }
  }
}

// Of two the other one fails, so that nobody is left to hold it against but its callers, who are looked at
// once a second: until then it is believed.
TEST(Lies, BesideOneThatFails) {
  const auto world = [](double made_up) {
    return [made_up](int i, double t, double served) {
      return Lie{i == 0 && t > 15 ? made_up * served : 0, i == 1 && t > 5 ? 0.6 : 0};
    };
  };
  expect_no_gain(world(9), world(0), {.count = 2, .callers = true, .peak = 1.25});
}

}  // namespace
}  // namespace ballast::turn
