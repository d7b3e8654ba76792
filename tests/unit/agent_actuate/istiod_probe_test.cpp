// SPDX-License-Identifier: Apache-2.0
//
// The look at istiod, at a server that speaks its protocol; the real one is asked in tests/mesh.
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
  EXPECT_EQ(compare(Json::object(), kOursFirst), Takes::kUnknown);
}

/// The verdicts of a probe that looks every few milliseconds.
std::vector<Takes> verdicts(const std::string& istiod, int looks, Istiod* server) {
  std::mutex mutex;
  std::vector<Takes> told;
  {
    IstiodProbe probe(
        {.istiod = istiod, .timeout = milliseconds(300), .again = std::chrono::seconds(1), .refutations = 3},
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

/// From the write to istiod's word, also where that came before the writer told of its write.
TEST(IstiodProbe, MeasuresTheWayOfAWeight) {
  Istiod istiod;
  istiod.say(kOursFirst);
  Json web = sample();
  web["service"] = "shop/web";
  IstiodProbe probe(
      {.istiod = istiod.address(), .pause = milliseconds(5)}, [&] { return web; }, [](const Json&, Takes) {});
  const auto eventually = [](auto is) {
    for (int i = 0; i < 1000 && !is(); ++i) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    return is();
  };
  ASSERT_TRUE(eventually([&] { return probe.listens_to() == "shop/web" && istiod.asked >= 2; }));
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
  write(600, false);
  // The word was there before: it is not the later of both instants that counts.
  EXPECT_GE(*probe.travel().least_istiod_s, 0.1);
  EXPECT_LE(*probe.travel().least_istiod_s, *probe.travel().istiod_s);
  EXPECT_EQ(istiod.windows_asked, 1) << "every cluster of the mesh is in the answer";
}

TEST(IstiodProbe, AnIstiodThatDoesNotAnswerIsNoVerdict) {
  EXPECT_TRUE(verdicts("127.0.0.1:1", 3, nullptr).empty());
}

}  // namespace
}  // namespace ballast::actuate::istio
