// SPDX-License-Identifier: Apache-2.0
// guard.hold_claims: who counts more than its weight brought is cut, unless a peer's own trouble is why. The
// weights that were asked for are known here, so what the guard makes of them is its own.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>

#include "views.h"

namespace ballast::guard {
namespace {

using testing::kTick;

/// What a pod shows of itself in a tick.
struct Pod {
  double requests = 100;  ///< a second
  double in_flight = 0.2;
  double success = 1;
  bool answered = true;
  double wanted = 1;  ///< weight that the policy asks for
  bool there = true;
  double seen = 0;  ///< part of `requests` that its callers were seen to have answers for
};
/// Of pod i at `t` seconds, where its weight is `weight`.
using World = std::function<Pod(int i, double t, double weight)>;

struct Seen {
  double least = 1e9;   ///< weight of pod 0, from the fifth second on
  double last = 0;      ///< at the end
  bool cut = false;     ///< pod 0 was, ever
  double greatest = 0;  ///< weight of pod 0, ever
};

Seen run(int pods, const World& world, bool hold_claims = true, double seconds = 60) {
  GuardOptions options;
  options.hold_claims = hold_claims;
  Guard guard(options);
  std::vector<double> weights(static_cast<std::size_t>(pods), 1);
  std::vector<double> part(weights.size(), 0);  // of a request that a tick left over
  Seen seen;
  MonotonicNs now = 1'000'000'000ULL;
  for (double t = 0; t < seconds; t += 0.25, now += kTick) {
    ServiceView view = testing::view({1});
    const EndpointView one = view.endpoints[0];
    view.endpoints.clear();
    double wanted = 0;
    for (int i = 0; i < pods; ++i) {
      const auto at = static_cast<std::size_t>(i);
      const Pod pod = world(i, t, weights[at]);
      if (!pod.there) {
        continue;
      }
      EndpointView e = one;
      e.id.pod = "web-" + std::to_string(i);
      e.address = "127.1.0." + std::to_string(i);
      const double count = pod.requests * 0.25 + part[at];
      e.requests = std::floor(count);
      part[at] = count - e.requests;
      e.in_flight = std::round(pod.in_flight);
      e.success = pod.success;
      e.answered = pod.answered;
      e.answers_per_s = pod.requests;
      e.seen_per_s = pod.requests * pod.seen;
      e.share = pod.wanted;
      wanted += pod.wanted;
      view.endpoints.push_back(e);
    }
    for (EndpointView& e : view.endpoints) {
      e.share /= wanted;
    }
    const GuardedWeights guarded = guard.apply(view, now);
    for (const WeightedEndpoint& e : guarded.endpoints()) {
      const auto at = static_cast<std::size_t>(e.id.pod.back() - '0');
      weights[at] = e.weight / 1000.0;
      if (at == 0) {
        seen.least = t >= 5 ? std::min(seen.least, weights[at]) : seen.least;
        seen.greatest = std::max(seen.greatest, weights[at]);
        seen.last = weights[at];
        seen.cut |= (e.reasons & kUnproven) != 0;
      }
    }
  }
  return seen;
}

/// What the policy asks for reaches pod 0 as it does without hold_claims.
void expect_not_cut(int pods, const World& world) {
  const Seen without = run(pods, world, false);
  const Seen with = run(pods, world, true);
  EXPECT_FALSE(with.cut);
  EXPECT_GE(with.least, 0.9 * without.least);
  EXPECT_GE(with.last, 0.95 * without.last);
}

/// Shares by LEAST_REQUEST of one proxy: by weight, and by how many wait already.
double brought(double all, double weight, double in_flight, double others) {
  const double own = weight / (1 + in_flight);
  return all * own / (own + others);
}

// Callers give up after a while, and the proxy sends fewer to who has many waiting.
TEST(Claims, APeerHangs) {
  for (const int pods : {2, 3, 6}) {
    expect_not_cut(pods, [pods](int i, double t, double) {
      const bool bad = i == pods - 1;
      return Pod{.requests = bad && t > 3 ? 36.0 : 160,
                 .in_flight = bad && t > 3 ? 4.0 : 0.3,
                 .success = bad ? std::max(0.1, 1 - 0.3 * std::max(t - 3, 0.0)) : 1,
                 .wanted = bad && t > 8 ? 0.25 : 1};
    });
  }
}

// Nobody gives up: what it has stays with it, its callers wait, and what it says of itself stays as it was.
TEST(Claims, APeerAnswersNothingAnyMore) {
  for (const int pods : {2, 3}) {
    expect_not_cut(pods, [pods](int i, double t, double weight) {
      const bool bad = i == pods - 1 && t > 3;
      const double waiting = bad ? std::min(50.0, 100 * (t - 3)) : 0;
      return Pod{.requests = bad ? (waiting < 50 ? 100.0 : 0.0) : brought(200, weight, 0, 1 / 51.0),
                 .in_flight = bad ? waiting : 0,
                 .answered = !bad};
    });
  }
}

TEST(Claims, APeerComesBackAfterIt) {
  expect_not_cut(2, [](int i, double t, double weight) {
    const bool bad = i == 1 && t > 20 && t < 30;
    return Pod{.requests = bad                ? 0
                           : t > 20 && t < 30 ? 200
                                              : 100 * weight,
               .in_flight = bad ? 50.0 : 0,
               .answered = !bad};
  });
}

// Long requests now and then: who has none of them at a moment is sent far more than its mean queue tells.
TEST(Claims, AQueueComesAndGoes) {
  for (const int pods : {3, 6}) {
    expect_not_cut(pods, [pods](int i, double t, double weight) {
      const double mine = std::fmod(t, 3) < 2 ? 12 : 0;
      const double all = 1 / (1 + mine) + (pods - 1) / 4.0;
      return Pod{.requests = 100 * pods * weight / (i == 0 ? 1 + mine : 4.0) / all,
                 .in_flight = i == 0 ? mine : 3.0};
    });
  }
}

// The proxy asks somebody else again what it failed or reset.
TEST(Claims, APeerFails) {
  for (const int pods : {2, 3}) {
    expect_not_cut(pods, [pods](int i, double t, double weight) {
      const bool fails = t > 3;
      const bool bad = i == pods - 1;
      return Pod{.requests = bad ? 100 * weight : (fails ? 190 : 100) * weight,
                 .success = bad && fails ? std::max(0.1, 1 - 0.5 * (t - 3)) : 1,
                 .wanted = bad && fails ? 0.2 : 1};
    });
  }
}

// It is known to the agent before the proxies know it, and they warm it up.
TEST(Claims, APodJoins) {
  for (const int pods : {2, 3}) {
    expect_not_cut(pods, [pods](int i, double t, double weight) {
      const double warm = std::clamp((t - 12) / 6, 0.0, 1.0);  // joins at 10 s
      const bool fresh = i == pods - 1;
      return Pod{.requests = fresh ? 100 * warm * weight : (100 + 100 * (1 - warm) / (pods - 1)) * weight,
                 .there = !fresh || t >= 10};
    });
  }
}

TEST(Claims, APodThatJoinsIsGivenMore) {
  expect_not_cut(5, [](int i, double t, double weight) {
    const bool fresh = i == 0 && t < 14;
    return Pod{
        .requests = (fresh ? 240 : 100) * weight, .in_flight = fresh ? 0.0 : 4, .there = i != 0 || t >= 10};
  });
}

// It answers all, but late: LEAST_REQUEST brings it less than its weight says.
TEST(Claims, MostPeersAreSlow) {
  expect_not_cut(5, [](int i, double, double weight) {
    const bool slow = i >= 2;
    return Pod{
        .requests = slow ? 40 * weight : 150 * weight, .in_flight = slow ? 6.0 : 1, .wanted = slow ? 0.5 : 1};
  });
}

// None of it lets a liar through.
TEST(Claims, ALiarAmongTheHealthyIsCutWhoeverIsInTrouble) {
  const auto lies_beside = [](const Pod& troubled) {
    return [troubled](int i, double t, double weight) {
      if (i == 0) {
        return Pod{.requests = (t > 10 ? 400 : 100) * weight, .wanted = std::clamp((t - 10) / 2, 1.0, 4.0)};
      }
      return i == 1 && t > 5 ? troubled : Pod{.requests = 100 * weight};
    };
  };
  for (const Pod& troubled : {Pod{.requests = 30, .in_flight = 5, .success = 0.2},
                              Pod{.requests = 0, .in_flight = 50, .answered = false},
                              Pod{.requests = 400, .success = 0.1}, Pod{.there = false}}) {
    const Seen seen = run(4, lies_beside(troubled));
    EXPECT_TRUE(seen.cut);
    EXPECT_LE(seen.greatest, 1.6);
    EXPECT_LE(seen.last, 1.5) << "4/3 is a fair share where one of four is gone, and chance is believed";
  }
}

/// Pod 1 of two fails from the fifth second on, and what it fails is asked again of pod 0.
Pod beside_one_that_fails(int i, double t, double weight) {
  const bool fails = t > 5;
  return i == 1 ? Pod{.requests = 100 * weight, .success = fails ? 0.2 : 1, .wanted = fails ? 0.25 : 1}
                : Pod{.requests = (fails ? 180 : 100) * weight};
}

// By its peer nothing can be held against it; by its callers it can. Nor does half of them not being seen
// help.
TEST(Claims, ALiarBesideOneThatFailsIsBoundedToWhatItsCallersSaw) {
  const auto lies = [](double part) {
    return run(2, [part](int i, double t, double weight) {
      Pod pod = beside_one_that_fails(i, t, weight);
      pod.seen = part;
      if (i == 0 && t > 12) {
        pod.wanted = 4;
        pod.seen = part / 4;
        pod.requests *= 4;
      }
      return pod;
    });
  };
  for (const double part : {1.0, 0.5}) {
    const Seen seen = lies(part);
    EXPECT_TRUE(seen.cut) << part;
    EXPECT_LE(seen.last, 1.75) << part << ": a weight of 4 beside .25 is 1.88, a third of it 1.68";
  }
  EXPECT_GT(lies(0).last, 1.8) << "no caller is measured";
}

// Honest pods of whose callers some are seen.
TEST(Claims, CallersThatAreHalfSeen) {
  for (const double part : {1.0, 0.5, 0.05}) {
    expect_not_cut(2, [part](int i, double t, double weight) {
      Pod pod = beside_one_that_fails(i, t, weight);
      pod.seen = i == 0 ? part : 0.9;
      return pod;
    });
  }
}

TEST(Claims, ACallerThatWasSeenLeaves) {
  expect_not_cut(2, [](int i, double t, double weight) {
    Pod pod = beside_one_that_fails(i, t, weight);
    pod.seen = i == 0 ? 0.5 : 0.9;
    if (i == 0 && t > 12) {
      pod.requests = 90 * weight;  // its half of what the peer's failing brings
      pod.seen = 0;
    }
    return pod;
  });
}

// Whom nobody sees asks both, so the part of their answers that was seen falls alike.
TEST(Claims, ACallerComesThatIsNotSeen) {
  expect_not_cut(2, [](int i, double t, double weight) {
    Pod pod = beside_one_that_fails(i, t, weight);
    pod.requests *= t > 12 ? 3 : 1;
    pod.seen = t > 12 ? 1 / 3.0 : 1;
    return pod;
  });
}

// It answers late, and callers give up: what it did not answer it does not claim.
TEST(Claims, AnswersThatNobodyWaitsForAreNoClaim) {
  expect_not_cut(2, [](int i, double t, double weight) {
    Pod pod = beside_one_that_fails(i, t, weight);
    pod.seen = 1;
    pod.in_flight = i == 0 && t > 12 ? 30 : 0.2;
    return pod;
  });
}

}  // namespace
}  // namespace ballast::guard
