// SPDX-License-Identifier: Apache-2.0
//
// The look at istiod, at a server that speaks its protocol; the real one is asked in tests/mesh.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "istiod.h"

namespace ballast::actuate::istio {
namespace {

using kube::Json;
using std::chrono::milliseconds;

Json sample() {
  return {{"ns", "shop"},
          {"spec",
           {{"hosts", {"web.shop.svc.cluster.local"}},
            {"ports", Json::array({{{"number", 80}, {"name", "http"}}})},
            {"endpoints",
             Json::array({{{"address", "10.0.0.1"}, {"weight", 700}, {"ports", {{"http", 8080}}}},
                          {{"address", "10.0.0.2"}, {"weight", 300}, {"ports", {{"http", 8080}}}}})}}}};
}
const std::vector<ProbedEndpoint> kOursFirst = {
    {"10.0.0.1", 8080, 700}, {"10.0.0.2", 8080, 300}, {"10.0.0.1", 8080, 1}, {"10.0.0.2", 8080, 1}};
const std::vector<ProbedEndpoint> kOursLast = {
    {"10.0.0.1", 8080, 1}, {"10.0.0.2", 8080, 1}, {"10.0.0.1", 8080, 700}, {"10.0.0.2", 8080, 300}};

TEST(IstiodProbe, AsksAsASidecarOfTheNamespace) {
  Istiod istiod;
  istiod.say(kOursFirst);
  const auto seen =
      ask_istiod(istiod.address(), "shop", "outbound|80||web.shop.svc.cluster.local", milliseconds(3000));
  ASSERT_TRUE(seen.ok()) << seen.error().message;
  ASSERT_EQ(seen->size(), 4U);
  EXPECT_EQ((*seen)[1].weight, 300U);
  EXPECT_EQ(istiod.id(), "sidecar~192.0.2.1~ballast-probe.shop~shop.svc.cluster.local");
  EXPECT_FALSE(ask_istiod("127.0.0.1:1", "shop", "c", milliseconds(300)).ok());
}

TEST(IstiodProbe, TheFirstOfTwoWithOneAddressDecides) {
  EXPECT_EQ(compare(sample().at("spec"), kOursFirst), Takes::kYes);
  EXPECT_EQ(compare(sample().at("spec"), kOursLast), Takes::kNo);
  EXPECT_EQ(compare(sample().at("spec"), {}), Takes::kUnknown) << "an istiod that knows no pod yet";
  EXPECT_EQ(compare(sample().at("spec"), {{"10.0.0.1", 8080, 500}, {"10.0.0.2", 8080, 500}}), Takes::kUnknown)
      << "weights of an earlier write";
  EXPECT_EQ(compare(sample().at("spec"), {{"10.0.0.1", 8080, 500}, {"10.0.0.2", 8080, 1}}), Takes::kUnknown)
      << "and a pod that came since";
  EXPECT_EQ(compare(Json::object(), kOursFirst), Takes::kUnknown);
}

/// The verdicts of a probe until it has looked so often.
std::vector<Takes> verdicts(const std::string& istiod, int looks, Istiod* server,
                            milliseconds pause = milliseconds(1000)) {
  std::mutex mutex;
  std::vector<Takes> told;
  {
    IstiodProbe probe({.istiod = istiod,
                       .timeout = milliseconds(300),
                       .pause = pause,
                       .again = std::chrono::seconds(1),
                       .refutations = 3,
                       .refutations_unheard = 6},
                      sample, [&](const Json&, Takes takes) {
                        const std::lock_guard lock(mutex);
                        told.push_back(takes);
                      });
    for (int i = 0; i < 1000 && (server != nullptr ? server->asked < looks : i < looks * 20); ++i) {
      std::this_thread::sleep_for(milliseconds(10));
    }
    std::this_thread::sleep_for(milliseconds(100));
  }
  return told;
}

TEST(IstiodProbe, TellsWhatTakesAndNeedsThreeLooksToRefute) {
  Istiod istiod;
  istiod.say(kOursFirst);
  EXPECT_EQ(verdicts(istiod.address(), 1, &istiod), (std::vector<Takes>{Takes::kYes}));
  istiod.say(kOursLast);
  istiod.asked = 0;
  EXPECT_TRUE(verdicts(istiod.address(), 2, &istiod).empty());
  istiod.asked = 0;
  EXPECT_EQ(verdicts(istiod.address(), 3, &istiod), (std::vector<Takes>{Takes::kNo}));
}

/// Of slices it may hear long before it hears of entries, where its API server was away before we began.
TEST(IstiodProbe, AnIstiodThatWasNotSeenToKnowTheEntryIsGivenMoreTime) {
  Istiod istiod;
  istiod.say({{"10.0.0.1", 8080, 1}, {"10.0.0.2", 8080, 1}});
  EXPECT_TRUE(verdicts(istiod.address(), 5, &istiod, milliseconds(300)).empty());
  istiod.asked = 0;
  EXPECT_EQ(verdicts(istiod.address(), 6, &istiod, milliseconds(300)), (std::vector<Takes>{Takes::kNo}));
}

TEST(IstiodProbe, TheMergeWindowIsTheClustersOwnAndEnvoysWhereItSaysNone) {
  Istiod istiod;
  const auto ask = [&](const std::string& host) {
    return ask_merge_window(istiod.address(), "shop", "outbound|80||" + host, milliseconds(3000));
  };
  EXPECT_EQ(*ask("web.shop.svc.cluster.local"), 1.0);
  istiod.say_window(0.0);
  EXPECT_EQ(*ask("web.shop.svc.cluster.local"), 0.0);
  istiod.say_window(2.5);
  EXPECT_EQ(*ask("web.shop.svc.cluster.local"), 2.5);
  EXPECT_FALSE(ask("other.shop.svc.cluster.local").ok());
}

template <typename Condition>
bool eventually(Condition is) {
  for (int i = 0; i < 1000 && !is(); ++i) {
    std::this_thread::sleep_for(milliseconds(5));
  }
  return is();
}

/// From the write to istiod's word, also where that came before the writer told of its write.
TEST(IstiodProbe, MeasuresTheWayOfAWeight) {
  Istiod istiod;
  istiod.say(kOursFirst);
  Json web = sample();
  web["service"] = "shop/web";
  IstiodProbe probe(
      {.istiod = istiod.address(), .pause = milliseconds(5), .again = milliseconds(2000)},
      [&] { return web; }, [](const Json&, Takes) {});
  ASSERT_TRUE(eventually([&] { return istiod.asked >= 2; }));
  EXPECT_FALSE(probe.travel().istiod_s) << "nothing was written yet";
  EXPECT_EQ(probe.travel().merge_window_s, 1.0);
  Json spec = web.at("spec");
  const auto write = [&](std::uint32_t first, bool told_first) {
    spec["endpoints"][0]["weight"] = first;
    const MonotonicNs at = SystemClock().now();
    if (told_first) {
      probe.written("shop/web", spec, at);
      probe.written("shop/other", Json(), at);
    }
    std::this_thread::sleep_for(milliseconds(100));
    const int asked = istiod.asked;
    istiod.say({{"10.0.0.1", 8080, first}, {"10.0.0.2", 8080, 300}});
    EXPECT_TRUE(eventually([&] { return istiod.asked > asked; }));
    if (!told_first) {
      std::this_thread::sleep_for(milliseconds(100));
      probe.written("shop/web", spec, at);
    }
  };
  write(500, true);
  ASSERT_TRUE(eventually([&] { return probe.travel().istiod_s.has_value(); }));
  EXPECT_GE(*probe.travel().istiod_s, 0.1);
  const int asked = istiod.asked;
  istiod.say(kOursFirst);
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_EQ(istiod.asked, asked) << "nobody listens any more";
  write(600, false);
  // The word was there before: it is not the later of both instants that counts.
  EXPECT_GE(*probe.travel().least_istiod_s, 0.1);
  EXPECT_LE(*probe.travel().least_istiod_s, *probe.travel().istiod_s);
  EXPECT_EQ(istiod.windows_asked, 1) << "every cluster of the mesh is in the answer";
}

TEST(IstiodProbe, AnIstiodThatDoesNotAnswerIsNoVerdict) {
  EXPECT_TRUE(verdicts("127.0.0.1:1", 3, nullptr).empty());
}

Json sample(const std::string& service, std::uint32_t first) {
  Json out = sample();
  out["service"] = service;
  out["whole"] = true;
  out["spec"]["endpoints"][0]["weight"] = first;
  return out;
}

/// One of two is told with the weights of a write that nobody waits for any more.
TEST(IstiodProbe, AServiceThatIsToldOldWeightsKeepsNobodyWaiting) {
  Istiod istiod;
  istiod.say(kOursFirst);
  std::mutex mutex;
  std::string last;
  std::vector<std::string> told;
  IstiodProbe probe(
      {.istiod = istiod.address(), .pause = milliseconds(5), .again = milliseconds(20), .unknowns = 3},
      [&] {
        const std::lock_guard lock(mutex);
        return last == "shop/old" ? sample("shop/web", 700) : sample("shop/old", 500);
      },
      [&](const Json& at, Takes takes) {
        const std::lock_guard lock(mutex);
        last = at.at("service").get<std::string>();
        told.push_back(last + (takes == Takes::kYes ? " yes" : takes == Takes::kNo ? " no" : " unknown"));
      });
  const auto count = [&] {
    const std::lock_guard lock(mutex);
    return told.size();
  };
  ASSERT_TRUE(eventually([&] { return count() >= 4; })) << "it stays with the first";
  const std::lock_guard lock(mutex);
  told.resize(4);
  EXPECT_EQ(told, (std::vector<std::string>{"shop/old unknown", "shop/web yes", "shop/old unknown",
                                            "shop/web yes"}));
  EXPECT_GE(istiod.asked, 2 * 3 + 2) << "not at the first word";
}

constexpr MonotonicNs kS = 1'000'000'000ULL;

TEST(WriteHistory, WhatCountsIsHowLongAgoWhatIstiodTellsWasReplaced) {
  const auto of = [](std::uint32_t a, std::uint32_t b) {
    return std::vector<ProbedEndpoint>{{"10.0.0.1", 8080, a}, {"10.0.0.2", 8080, b}};
  };
  WriteHistory history;
  EXPECT_EQ(history.behind(of(1, 1), true, 100 * kS), 0U) << "nothing was written";
  // Each second another weight.
  for (std::uint32_t i = 0; i <= 60; ++i) {
    history.add(of(100 + i, 200), (100 + i) * kS, 30 * kS);
  }
  EXPECT_EQ(history.behind(of(160, 200), true, 900 * kS), 0U) << "the last, however long ago";
  EXPECT_EQ(history.behind(of(159, 200), true, 162 * kS), 2 * kS);
  EXPECT_EQ(history.behind(of(140, 200), true, 162 * kS), 21 * kS);
  EXPECT_GE(history.behind(of(110, 200), true, 162 * kS), 30 * kS) << "forgotten";
  EXPECT_GE(history.behind(of(1, 1), true, 162 * kS), 30 * kS) << "the plain Service's";
  EXPECT_GE(history.behind({{"10.0.0.1", 8080, 160}}, true, 162 * kS), 30 * kS) << "one of two";
  EXPECT_EQ(history.behind({}, true, 162 * kS), 0U) << "a Sidecar scope may hide it";
  // Weights of before that came again are of now.
  history.add(of(110, 200), 163 * kS, 30 * kS);
  EXPECT_EQ(history.behind(of(110, 200), true, 164 * kS), 0U);
  // The plain Service's own, behind ours, are as they should be.
  auto both = of(110, 200);
  both.push_back({"10.0.0.1", 8080, 1});
  both.push_back({"10.0.0.3", 8080, 1});
  EXPECT_EQ(history.behind(both, true, 164 * kS), 0U);
}

/// Equal weights before and after: only who left tells.
TEST(WriteHistory, WhoWasTakenOutAndIsStillSentToIsBehind) {
  const std::vector<ProbedEndpoint> three = {
      {"10.0.0.1", 8080, 1000}, {"10.0.0.2", 8080, 1000}, {"10.0.0.3", 8080, 1000}};
  const std::vector<ProbedEndpoint> two = {three[0], three[1]};
  WriteHistory history;
  history.add(three, 100 * kS, 30 * kS);
  history.add(two, 200 * kS, 30 * kS);
  EXPECT_EQ(history.behind(three, true, 210 * kS), 10 * kS);
  for (std::uint32_t i = 0; i < 40; ++i) {  // and weights of the two that change
    history.add({{"10.0.0.1", 8080, 900 + i}, three[1]}, (201 + i) * kS, 30 * kS);
  }
  EXPECT_GE(history.behind(three, true, 245 * kS), 30 * kS);
  EXPECT_EQ(history.behind({{"10.0.0.1", 8080, 939}, three[1], {"10.0.0.3", 8080, 1}}, true, 245 * kS), 0U)
      << "the plain Service has it still";
  EXPECT_EQ(history.behind({{"10.0.0.1", 8080, 939}, three[1], {"10.0.0.9", 8080, 7}}, true, 245 * kS), 0U)
      << "an entry of the user's own";
  EXPECT_EQ(history.behind({{"10.0.0.1", 8080, 939}, three[1], three[2]}, false, 245 * kS), 0U)
      << "it may stand in another of the Service's entries";
}

/// An istiod that answers and hears of nothing any more.
TEST(IstiodProbe, AnIstiodThatTellsNothingNewIsSaid) {
  Istiod istiod;
  istiod.say(kOursFirst);
  std::atomic<std::uint32_t> first{700};
  IstiodProbe probe(
      {.istiod = istiod.address(),
       .pause = milliseconds(10),
       .again = milliseconds(30),
       .unknowns = 3,
       .behind = milliseconds(600)},
      [&] { return sample("shop/web", first); }, [](const Json&, Takes) {});
  const auto write = [&](std::uint32_t now) {
    first = now;
    probe.written("shop/web", sample("shop/web", now).at("spec"), SystemClock().now());
  };
  // Weights change all the time, and istiod tells those of before the last.
  write(700);
  for (std::uint32_t i = 1; i < 30; ++i) {
    write(700 + i);
    istiod.say({{"10.0.0.1", 8080, 700 + i - 1}, {"10.0.0.2", 8080, 300}});
    std::this_thread::sleep_for(milliseconds(50));
    ASSERT_EQ(probe.trouble(), "") << i;
  }
  // Then none that is new.
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_TRUE(eventually([&] {
    write(first + 1);
    return !probe.trouble().empty();
  }));
  EXPECT_GE(std::chrono::steady_clock::now() - begun, milliseconds(500)) << "late by right";
  EXPECT_EQ(probe.trouble(), "istiod at " + istiod.address() +
                                 " tells proxies of shop/web nothing that was written in the last 1 s");
  EXPECT_EQ(probe.stale(), (std::set<std::string>{"shop/web"}));
  istiod.say({{"10.0.0.1", 8080, first}, {"10.0.0.2", 8080, 300}});
  EXPECT_TRUE(eventually([&] { return probe.trouble().empty(); })) << "it has heard of it now";
  EXPECT_TRUE(probe.stale().empty());
}

/// Another Service has the looks meanwhile; and of who was let go of nothing is said.
TEST(IstiodProbe, WhoWasLateIsLookedAtAgainBesideTheOthers) {
  Istiod istiod;
  istiod.say(kOursFirst);
  std::atomic<bool> other{false};
  IstiodProbe probe(
      {.istiod = istiod.address(),
       .pause = milliseconds(10),
       .again = milliseconds(30),
       .unknowns = 3,
       .behind = milliseconds(100)},
      [&] { return other ? sample("shop/other", 700) : sample("shop/web", 500); }, [](const Json&, Takes) {});
  const auto write = [&] {
    probe.written("shop/web", sample("shop/web", 500).at("spec"), SystemClock().now());
  };
  write();
  ASSERT_TRUE(eventually([&] { return !probe.stale().empty(); }));
  other = true;
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_FALSE(probe.stale().empty()) << "that the other's are as they should be says nothing of it";
  istiod.say({{"10.0.0.1", 8080, 500}, {"10.0.0.2", 8080, 300}});
  EXPECT_TRUE(eventually([&] { return probe.stale().empty(); }));
  istiod.say(kOursFirst);
  other = false;
  ASSERT_TRUE(eventually([&] { return !probe.stale().empty(); }));
  other = true;
  probe.left("shop/web");
  EXPECT_TRUE(eventually([&] { return probe.stale().empty(); }));
}

TEST(IstiodProbe, AnIstiodThatIsSilentForLongIsSaid) {
  std::atomic<bool> any{true};
  IstiodProbe probe(
      {.istiod = "127.0.0.1:1",
       .timeout = milliseconds(50),
       .pause = milliseconds(10),
       .behind = milliseconds(400)},
      [&] { return any ? sample("shop/web", 700) : Json(); }, [](const Json&, Takes) {});
  std::this_thread::sleep_for(milliseconds(200));
  EXPECT_EQ(probe.trouble(), "") << "it may be starting";
  ASSERT_TRUE(eventually([&] { return !probe.trouble().empty(); }));
  EXPECT_THAT(probe.trouble(), ::testing::HasSubstr("127.0.0.1:1"));
  EXPECT_THAT(probe.trouble(), ::testing::HasSubstr("kubernetes.istiod"));
  any = false;
  EXPECT_TRUE(eventually([&] { return probe.trouble().empty(); }))
      << "nothing is weighed that could be asked about";
}

}  // namespace
}  // namespace ballast::actuate::istio
