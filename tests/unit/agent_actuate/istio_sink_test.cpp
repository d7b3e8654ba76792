// SPDX-License-Identifier: Apache-2.0
//
// The sink whole, with its threads, at a small API server and an istiod that says what the test wants.
#include "agent/actuate/istio/istio_sink.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <thread>

#include "agent/actuate/istio/merge_window.h"
#include "istiod.h"
#include "scripted_server.h"
#include "weigher.h"

namespace ballast::actuate {
namespace {

using ballast::testing::Weigher;

using guard::Outcome;
using kube::answer;
using kube::Asked;
using kube::Json;
using std::chrono::milliseconds;
using ::testing::HasSubstr;

const spec::ServiceId kWeb{"shop", "web"};

template <typename Condition>
bool eventually(Condition condition) {
  for (int i = 0; i < 3000 && !condition(); ++i) {
    std::this_thread::sleep_for(milliseconds(10));
  }
  return condition();
}

class IstioSinkTest : public ::testing::Test {
 protected:
  IstioSinkTest() : server_([this](const Asked& asked) { return serve(asked); }) {
    const auto service = [](const std::string& name, const std::string& mode) {
      return Json{{"metadata",
                   {{"namespace", "shop"},
                    {"name", name},
                    {"uid", "s-" + name},
                    {"labels", {{"ballast.dev/mode", mode}}}}},
                  {"spec",
                   {{"clusterIP", "10.96.0.9"},
                    {"ipFamilies", {"IPv4"}},
                    {"selector", {{"app", name}}},
                    {"ports", Json::array({{{"name", "http"}, {"port", 80}}})}}}};
    };
    lists_["services"] =
        Json::array({service("web", "active"), service("looked-at", "shadow"), service("not-ours", "off")});
    make_pods(2);
  }
  /// p1 to pN, with uids u1 to uN, ready in the slice of web.
  void make_pods(int count) {
    Json endpoints = Json::array();
    for (int i = 1; i <= count; ++i) {
      const std::string n = std::to_string(i);
      endpoints.push_back({{"addresses", Json::array({"10.0.0." + n})},
                           {"conditions", {{"ready", true}}},
                           {"targetRef", {{"kind", "Pod"}, {"name", "p" + n}, {"uid", "u" + n}}}});
    }
    lists_["endpointslices"] = Json::array(
        {{{"metadata",
           {{"namespace", "shop"}, {"name", "web-1"}, {"labels", {{"kubernetes.io/service-name", "web"}}}}},
          {"addressType", "IPv4"},
          {"ports", Json::array({{{"name", "http"}, {"port", 8080}}})},
          {"endpoints", endpoints}}});
  }
  std::ptrdiff_t asked_of(const std::string& path) const {
    const auto all = server_.asked();
    return std::count_if(all.begin(), all.end(),
                         [&](const Asked& one) { return one.target.find(path) != std::string::npos; });
  }
  ~IstioSinkTest() override {
    over_ = true;
    sink_.reset();
  }
  /// As the API server; watches say nothing, but for those of our own objects, which say what was written.
  std::string serve(const Asked& asked) {
    const std::string path = asked.target.substr(0, asked.target.find('?'));
    const std::string last = path.substr(path.rfind('/') + 1);
    // As where packets are lost: what is asked stays open and says nothing.
    const auto muted = [&] { return muting_ && last == mute_ && asked.method == "GET" && !over_; };
    while (muted()) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    if (state_ == Server::kAway) {
      return "";
    }
    if (state_ == Server::kBegins) {
      const bool takes_away =
          asked.method == "DELETE" || asked.body.find("\"endpoints\":[]") != std::string::npos;
      refused_deletes_ += takes_away ? 1 : 0;
      return answer(403, R"({"message":"forbidden"})");
    }
    if (unwritable_ && asked.method != "GET" && path.find("networking.istio.io") != std::string::npos) {
      return answer(403, R"({"message":"forbidden"})");
    }
    if (asked.target.find("watch=1") != std::string::npos) {
      std::string told;
      pod_watches_ += last == "pods" ? 1 : 0;
      for (int i = 0; !over_ && state_ == Server::kThere && !(last == "pods" && ending_ != 0) &&
                      (i < 20 || last != "serviceentries");
           ++i) {
        std::this_thread::sleep_for(milliseconds(5));
      }
      while (muted()) {
        std::this_thread::sleep_for(milliseconds(5));
      }
      const std::lock_guard lock(mutex_);
      if (const int pod = last == "pods" ? ending_.exchange(0) : 0; pod != 0) {
        Json metadata = {{"namespace", "shop"},
                         {"name", "p" + std::to_string(pod)},
                         {"uid", "u" + std::to_string(pod)},
                         {"resourceVersion", "9"}};
        metadata.update(pod_news_);
        return kube::stream(Json{{"type", "MODIFIED"}, {"object", {{"metadata", metadata}}}}.dump() + "\n");
      }
      for (const auto& [key, object] : objects_) {
        told += last == "serviceentries" && key.find("/serviceentries/") != std::string::npos
                    ? Json{{"type", "MODIFIED"}, {"object", object}}.dump() + "\n"
                    : "";
      }
      return over_ || state_ != Server::kThere ? "" : kube::stream(told);
    }
    if (path.find("/pods/p1") != std::string::npos) {
      wait_for_renewals();
    }
    if (slow_deletes_ && asked.method == "DELETE") {
      std::this_thread::sleep_for(milliseconds(50));
    }
    const bool entry = path.find("/serviceentries/") != std::string::npos;
    if (asked.method == "PUT" && entry) {
      ++puts_;
      while (held_puts_ && !over_) {
        std::this_thread::sleep_for(milliseconds(1));
      }
    }
    const std::lock_guard lock(mutex_);
    const Json body = Json::parse(asked.body, nullptr, false);
    renewals_ += path.ends_with("/ballast-leader") && asked.method == "PUT" ? 1 : 0;
    if (asked.method == "POST") {
      Json made = body;
      made["metadata"]["uid"] = "o" + std::to_string(++version_);
      made["metadata"]["resourceVersion"] = std::to_string(version_);
      made["metadata"]["generation"] = 1;
      objects_[path + "/" + kube::text_at(body, {"metadata", "name"})] = made;
      made_again_ += last == "serviceentries" ? 1 : 0;
      return answer(201, made.dump());
    }
    const auto there = objects_.find(path);
    if (there == objects_.end()) {
      if (path.find("/pods/p") != std::string::npos) {
        Json metadata = {{"uid", "u" + last.substr(1)}};
        if (behind_ztunnel_) {
          metadata["annotations"] = {{"ambient.istio.io/redirection", "enabled"}};
        }
        return answer(200, Json{{"metadata", metadata}, {"spec", {{"serviceAccountName", "web"}}}}.dump());
      }
      const bool list = asked.method == "GET" && asked.target.find("limit=") != std::string::npos;
      Json items = lists_.contains(last) ? lists_.at(last) : Json::array();
      for (const auto& [key, object] : objects_) {
        if (last == "serviceentries" && key.find("/serviceentries/") != std::string::npos) {
          items.push_back(object);
        }
      }
      return list ? answer(200, Json{{"metadata", {{"resourceVersion", "1"}}}, {"items", items}}.dump())
                  : answer(404, "{}");
    }
    if (asked.method == "DELETE") {
      ++deletes_;
      objects_.erase(there);
      return answer(200, "{}");
    }
    if (asked.method == "PUT") {
      const Json before = std::exchange(there->second, body);
      if (entry) {
        there->second["metadata"]["uid"] = before["metadata"]["uid"];
        there->second["metadata"]["generation"] = before["metadata"]["generation"].get<int>() + 1;
      }
    }
    if (asked.method != "GET") {
      there->second["metadata"]["resourceVersion"] = std::to_string(++version_);
    }
    return answer(200, there->second.dump());
  }
  /// The answer to a read comes once the Lease was renewed meanwhile; or it does not come in time.
  void wait_for_renewals() {
    const auto renewals = [&] {
      const std::lock_guard lock(mutex_);
      return renewals_;
    };
    const int before = renewals();
    for (int i = 0; i < 500 && !over_ && slow_reads_ && renewals() < before + 1; ++i) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    renewed_meanwhile_ = renewed_meanwhile_ || (slow_reads_ && renewals() > before);
  }
  enum class Part { kBystander, kShadow, kActive };
  void start(bool active = true, bool fast = false) {
    start(active ? Part::kActive : Part::kBystander, fast);
  }
  void start(Part part, bool fast = false) {
    IstioOptions options;
    options.lease.duration_s = slow_reads_ ? 3 : lease_s_;
    options.api.server = server_.url();
    options.api.retry_budget = milliseconds(50);
    options.lease.holder = "me";
    options.active = part == Part::kActive;
    options.shadow = part == Part::kShadow;
    options.istio_fast = fast;
    options.settle = milliseconds(20);
    options.apart = milliseconds(20);
    options.small_apart = milliseconds(20);
    options.quiet = milliseconds(5);
    options.flush = flush_;
    options.stale_after = stale_after_;
    options.istiod = istiod_.address();
    options.look_pause = milliseconds(20);
    auto sink = IstioSink::create(options);
    ASSERT_TRUE(sink.ok()) << sink.error().message;
    sink_ = std::move(*sink);
  }
  /// This pod is asked to end, and whoever watches pods has been told and asks for more.
  void ask_to_end(int pod) {
    const int before = pod_watches_;
    ending_ = pod;
    EXPECT_TRUE(eventually([&] { return ending_ == 0 && pod_watches_ > before; }));
  }
  void publish(double first) {
    ASSERT_TRUE(
        sink_
            ->publish(weigher_.weights("web", {{"p1", "10.0.0.1", 8080, first}, {"p2", "10.0.0.2", 8080, 1}}))
            .ok());
  }
  /// Ours of this kind, as istiod tells of its endpoints; empty when it is not there.
  std::vector<istio::ProbedEndpoint> written(const std::string& plural = "serviceentries") {
    const std::lock_guard lock(mutex_);
    std::vector<istio::ProbedEndpoint> out;
    const auto found =
        objects_.find("/apis/networking.istio.io/v1/namespaces/shop/" + plural + "/web-ballast");
    if (found != objects_.end()) {
      for (const Json& one : kube::at(found->second, {"spec", "endpoints"})) {
        out.push_back({kube::text_at(one, {"address"}), 8080, one.at("weight").get<std::uint32_t>()});
      }
    }
    return out;
  }
  bool has_route() {
    const std::lock_guard lock(mutex_);
    return objects_.contains("/apis/networking.istio.io/v1/namespaces/shop/virtualservices/web-ballast");
  }
  Outcome outcome() { return sink_->answer(kWeb).outcome; }

  std::mutex mutex_;
  std::map<std::string, Json> lists_;
  std::map<std::string, Json> objects_;
  int version_ = 1;
  int renewals_ = 0;
  int deletes_ = 0;
  milliseconds flush_{12'000};
  std::atomic<int> made_again_{0};  ///< ServiceEntries
  milliseconds stale_after_{15'000};
  std::atomic<bool> slow_reads_{false};
  std::atomic<bool> renewed_meanwhile_{false};
  std::atomic<int> ending_{0};  ///< the number of a pod whose news the watch is to tell; 0: there is none
  Json pod_news_ = {{"deletionTimestamp", "2026-11-21T00:00:00Z"}};  ///< of its metadata: it is asked to end
  std::atomic<int> pod_watches_{0};
  std::atomic<int> puts_{0};  ///< of ServiceEntries
  std::atomic<bool> held_puts_{false};
  std::atomic<bool> slow_deletes_{false};
  bool behind_ztunnel_ = false;      ///< all pods
  std::string mute_;                 ///< a collection; set before it starts
  std::atomic<bool> muting_{false};  ///< of it nothing is told, not even by a list
  enum class Server { kThere, kAway, kBegins };
  std::atomic<Server> state_{Server::kThere};
  std::atomic<bool> unwritable_{false};  ///< Istio's objects: every right to write is missing
  int lease_s_ = 10;
  std::atomic<int> refused_deletes_{0};  ///< and what would empty an entry
  std::atomic<bool> over_{false};
  kube::ScriptedServer server_;
  istio::Istiod istiod_;
  Weigher weigher_;
  std::unique_ptr<IstioSink> sink_;
};

constexpr const char* kLease = "/apis/coordination.k8s.io/v1/namespaces/ballast-system/leases/ballast-leader";

TEST_F(IstioSinkTest, AnOperatorsWordIsTheServicesLabelAndWhatWasReleased) {
  start();
  EXPECT_TRUE(eventually([&] { return sink_->word(kWeb).mode == guard::Mode::kActive; }));
  EXPECT_EQ(sink_->word(kWeb).why, "label ballast.dev/mode=active");
  EXPECT_FALSE(sink_->word(kWeb).released);
  EXPECT_EQ(sink_->word({"shop", "looked-at"}).mode, guard::Mode::kShadow);
  EXPECT_EQ(sink_->word({"shop", "not-ours"}).mode, guard::Mode::kOff);
  EXPECT_EQ(sink_->word({"shop", "unheard-of"}).mode, guard::Mode::kOff);
  EXPECT_EQ(sink_->word({"shop", "unheard-of"}).why, "no label ballast.dev/mode");
  EXPECT_TRUE(eventually([&] { return sink_->leading(); }));
  {
    const std::lock_guard lock(mutex_);
    objects_.at(kLease)["metadata"]["annotations"] = {{"ballast.dev/released", "shop/web"}};
  }
  EXPECT_TRUE(eventually([&] { return sink_->word(kWeb).released; }));
  EXPECT_EQ(sink_->word(kWeb).why, "ballastctl release");
  EXPECT_FALSE(sink_->word({"shop", "looked-at"}).released);
}

TEST_F(IstioSinkTest, AnOperatorsWordTakesNoSecondWatchOfTheServices) {
  const auto client = kube::Client::create({.server = server_.url()});
  ASSERT_TRUE(client.ok());
  {
    const kube::Catalog services(**client, {.slices = kube::Slices::kNone});
    IstioOptions options{.api = {.server = server_.url()}};
    options.lease.holder = "node";
    options.istiod.clear();
    auto sink = IstioSink::create(std::move(options), &services);
    ASSERT_TRUE(sink.ok());
    EXPECT_TRUE(eventually([&] { return (*sink)->word(kWeb).mode == guard::Mode::kActive; }));
    EXPECT_TRUE(eventually([&] { return !(*sink)->leader().empty() || asked_of("/leases/") > 0; }));
    EXPECT_EQ(asked_of("/api/v1/services?limit"), 1);
    over_ = true;
    (*client)->stop();
  }
}

TEST_F(IstioSinkTest, WhatWasReleasedIsNotMadeAgainThoughTheLeaseWasNotLookedAtSince) {
  start();
  publish(3);
  EXPECT_TRUE(eventually([&] { return !written().empty(); }));
  {
    // As ballastctl release: noted first, then removed.
    const std::lock_guard lock(mutex_);
    objects_.at(kLease)["metadata"]["annotations"] = {{"ballast.dev/released", "shop/web"}};
    objects_.erase("/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast");
    made_again_ = 0;
  }
  publish(1);
  EXPECT_TRUE(eventually([&] { return sink_->word(kWeb).released; }));
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(made_again_, 0);
}

TEST_F(IstioSinkTest, TheLeaderIsWhoHoldsTheLease) {
  {
    const std::lock_guard lock(mutex_);
    objects_[kLease] = {
        {"metadata", {{"name", "ballast-leader"}, {"resourceVersion", "1"}}},
        {"spec", {{"holderIdentity", "another"}, {"leaseDurationSeconds", 3600}, {"renewTime", "t"}}}};
  }
  start();
  publish(3);
  EXPECT_TRUE(eventually([&] { return sink_->leader() == "another"; }));
  EXPECT_FALSE(sink_->in_charge());
  EXPECT_EQ(outcome(), Outcome::kNotLeader);
  EXPECT_EQ(sink_->answer(kWeb).detail, "another leads");
  {
    const std::lock_guard lock(mutex_);
    objects_[kLease]["spec"]["holderIdentity"] = "";
  }
  EXPECT_TRUE(eventually([&] { return sink_->leader() == "me" && sink_->in_charge(); }));
  EXPECT_TRUE(eventually([&] { return outcome() == Outcome::kWritten || outcome() == Outcome::kHeldBack; }));
}

TEST_F(IstioSinkTest, TheLeaseIsRenewedWhileAServiceIsRead) {
  slow_reads_ = true;
  start();
  publish(3);
  EXPECT_TRUE(eventually([&] { return !written().empty(); }));
  EXPECT_TRUE(renewed_meanwhile_);
}

TEST_F(IstioSinkTest, APodThatIsAskedToEndIsOutBeforeItsSliceSaysSo) {
  start();
  publish(3);
  EXPECT_TRUE(eventually([&] { return written().size() == 2; }));
  ending_ = 2;
  EXPECT_TRUE(eventually([&] { return written().size() == 1; }));
  EXPECT_EQ(written().at(0).address, "10.0.0.1");
}

/// Each write of ours begins istiod's quiet time anew: of many that leave together the last must not come a
/// write for each of them later.
TEST_F(IstioSinkTest, PodsThatLeaveWhileAWriteIsUnderWayGoTogetherIntoTheNext) {
  make_pods(6);
  start();
  std::vector<ballast::testing::Wanted> pods;
  for (int i = 1; i <= 6; ++i) {
    pods.push_back({"p" + std::to_string(i), "10.0.0." + std::to_string(i), 8080, i == 1 ? 3.0 : 1.0});
  }
  ASSERT_TRUE(sink_->publish(weigher_.weights("web", pods)).ok());
  ASSERT_TRUE(eventually([&] { return written().size() == 6 && outcome() == Outcome::kWritten; }));
  ASSERT_TRUE(eventually([&] { return pod_watches_ > 0; }));
  const int before = puts_;
  held_puts_ = true;
  ask_to_end(6);
  ASSERT_TRUE(eventually([&] { return puts_ == before + 1; })) << "nothing waits for others to leave";
  for (const int pod : {5, 4, 3}) {
    ask_to_end(pod);
  }
  held_puts_ = false;
  EXPECT_TRUE(eventually([&] { return written().size() == 2; }));
  EXPECT_EQ(puts_ - before, 2);
  EXPECT_EQ(written().at(0).address, "10.0.0.1");
  EXPECT_EQ(written().at(1).address, "10.0.0.2");
}

/// Who relabels running pods (Argo Rollouts' stableMetadata) moves them from one subset to another.
TEST_F(IstioSinkTest, ARunningPodsNewLabelsAreItsEndpointsAtOnce) {
  pod_news_ = {{"labels", {{"version", "v2"}}}};
  start();
  publish(3);
  EXPECT_TRUE(eventually([&] { return written().size() == 2 && outcome() == Outcome::kWritten; }));
  const auto version_of = [&](std::size_t i) {
    const std::lock_guard lock(mutex_);
    const auto entry =
        objects_.find("/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast");
    return entry == objects_.end()
               ? "no entry"
               : kube::text_at(kube::at(entry->second, {"spec", "endpoints"}).at(i), {"labels", "version"});
  };
  EXPECT_EQ(version_of(1), "");
  ending_ = 2;
  EXPECT_TRUE(eventually([&] { return version_of(1) == "v2"; }));
  EXPECT_EQ(version_of(0), "") << "of that pod alone";
}

TEST_F(IstioSinkTest, AWaypointOfTheNamespaceIsItsServices) {
  behind_ztunnel_ = true;
  lists_["namespaces"] =
      Json::array({{{"metadata", {{"name", "shop"}, {"labels", {{"istio.io/use-waypoint", "waypoint"}}}}}}});
  start();
  publish(3);
  EXPECT_TRUE(eventually([&] { return written().size() == 2 && outcome() == Outcome::kWritten; }))
      << sink_->answer(kWeb).detail;
}

TEST_F(IstioSinkTest, OfAServiceThatPublishesWhatIsNotReadyItStays) {
  lists_["services"][0]["spec"]["publishNotReadyAddresses"] = true;
  start();
  publish(3);
  EXPECT_TRUE(eventually([&] { return written().size() == 2; }));
  ending_ = 2;
  EXPECT_TRUE(eventually([&] { return ending_ == 0; }));
  const auto before = written();
  publish(1);
  EXPECT_TRUE(eventually([&] {
    const auto now = written();
    return now.size() == 2 && now[0].weight != before[0].weight;
  })) << "a later write has it still";
}

TEST_F(IstioSinkTest, WeightsAreAcknowledgedWhenIstiodWasSeenToGiveThem) {
  start();
  publish(3);
  EXPECT_TRUE(eventually([&] { return outcome() == Outcome::kWritten; }));
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(outcome(), Outcome::kWritten) << "istiod tells of nobody yet";
  istiod_.say(written());
  EXPECT_TRUE(eventually([&] { return outcome() == Outcome::kAcknowledged; }));
  EXPECT_EQ(sink_->answer(kWeb).detail, "istiod gives it to proxies");
  publish(1);
  EXPECT_TRUE(eventually([&] { return outcome() == Outcome::kWritten; }));
  std::this_thread::sleep_for(milliseconds(100));
  EXPECT_EQ(outcome(), Outcome::kWritten) << "those that it gives are of before";
  istiod_.say(written());
  EXPECT_TRUE(eventually([&] { return outcome() == Outcome::kAcknowledged; }));
}

/// The profile is what was seen, not what was asked for; and where there is no window nothing waits for it.
TEST_F(IstioSinkTest, HowFastWeightsTravelIsFoundByMeasuring) {
  istiod_.say_window(1.0);
  start();
  publish(3);
  EXPECT_TRUE(eventually([&] { return outcome() == Outcome::kWritten; }));
  EXPECT_EQ(sink_->loop_profile(), "istio, not seen yet");
  const double guessed_s = sink_->acknowledgement_delay_s();
  EXPECT_GE(guessed_s, 0.1) << "istiod's quiet time, until it is measured";
  istiod_.say(written());
  EXPECT_TRUE(eventually([&] { return sink_->loop_profile() == "istio"; })) << sink_->loop_profile();
  for (int i = 0; i < 100 && sink_->loop_profile().find("to istiod") == std::string::npos; ++i) {
    publish(2 + i % 2);
    std::this_thread::sleep_for(milliseconds(60));
    istiod_.say(written());
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_THAT(sink_->loop_profile(), HasSubstr(" ms to istiod"));
}

/// By the option an EnvoyFilter for the managed host, seen to be in force, gone with the hand-back.
TEST_F(IstioSinkTest, TheMergeWindowIsTakenAwayWhereTheOperatorAsksForIt) {
  const std::string filter =
      "/apis/networking.istio.io/v1alpha3/namespaces/istio-system/envoyfilters/ballast-merge-window";
  const auto has_filter = [&] {
    const std::lock_guard lock(mutex_);
    return objects_.contains(filter);
  };
  istiod_.say_window(1.0);
  start(true, true);
  publish(3);
  EXPECT_TRUE(eventually([&] { return outcome() == Outcome::kWritten && has_filter(); }));
  istiod_.say(written());
  EXPECT_TRUE(eventually([&] { return sink_->loop_profile().starts_with("istio"); }));
  istiod_.say_window(0.0);
  EXPECT_TRUE(eventually([&] { return sink_->loop_profile().starts_with("istio_fast"); }))
      << "asked again until it is what was wanted: " << sink_->loop_profile();
  {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(objects_.at(filter).at("spec"),
              istio::merge_window_filter({"web.shop.svc.cluster.local"}, "istio-system", {}).at("spec"));
  }
  sink_->flush();
  EXPECT_FALSE(has_filter());
}

/// An istiod that puts the Service's own endpoints first: all goes by route, and nothing was out of order.
TEST_F(IstioSinkTest, WhereTheOwnHostDoesNotTakeItGoesByRoute) {
  istiod_.say({{"10.0.0.1", 8080, 1}, {"10.0.0.2", 8080, 1}});
  start();
  publish(3);
  EXPECT_TRUE(eventually([&] { return has_route(); }));
  const std::lock_guard lock(mutex_);
  const Json& entry = objects_.at("/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast");
  EXPECT_EQ(entry.at("spec").at("hosts"), Json::array({"web.shop.ballast.internal"}))
      << "the entry of its own host has gone";
  EXPECT_GE(istiod_.asked, 20) << "not at the first word";
}

/// An istiod that has heard of the route before it hears of what the route leads to would send every request
/// to nobody.
TEST_F(IstioSinkTest, NoRouteLeadsWhereIstiodKnowsOfNobody) {
  istiod_.say({{"10.0.0.1", 8080, 1}, {"10.0.0.2", 8080, 1}});
  istiod_.hide(".ballast.internal");
  start();
  publish(3);
  const auto has_shadow = [&] {
    const std::lock_guard lock(mutex_);
    const auto entry =
        objects_.find("/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast");
    return entry != objects_.end() &&
           entry->second.at("spec").at("hosts") == Json::array({"web.shop.ballast.internal"});
  };
  ASSERT_TRUE(eventually(has_shadow));
  std::this_thread::sleep_for(milliseconds(500));  // many times as long as a shadow settles here
  EXPECT_FALSE(has_route());
  istiod_.hide("");
  EXPECT_TRUE(eventually([&] { return has_route(); }));
}

/// An istiod that answers and hears of nothing: what is written stays, and it is said.
TEST_F(IstioSinkTest, AnIstiodThatTellsNothingNewIsSaidAtTheServiceAndInTheTrouble) {
  const auto events = [&](const std::string& reason) {
    const std::lock_guard lock(mutex_);
    return std::count_if(objects_.begin(), objects_.end(), [&](const auto& one) {
      return one.first.find("/events/") != std::string::npos &&
             kube::text_at(one.second, {"reason"}) == reason &&
             kube::text_at(one.second, {"involvedObject", "name"}) == "web";
    });
  };
  start();
  publish(3);
  ASSERT_TRUE(eventually([&] { return outcome() == Outcome::kWritten; }));
  istiod_.say(written());
  ASSERT_TRUE(eventually([&] { return outcome() == Outcome::kAcknowledged; }));
  EXPECT_EQ(sink_->trouble(), "");
  publish(1);
  ASSERT_TRUE(eventually([&] { return !sink_->trouble().empty(); }));
  EXPECT_THAT(sink_->trouble(), HasSubstr("tells proxies of shop/web nothing"));
  const auto next = [&](double first, const std::string& reason) {
    return eventually([&] {
      sink_->renew(kWeb);
      publish(first);
      return events(reason) == 1;
    });
  };
  EXPECT_TRUE(next(1, "StaleEndpoints"));
  EXPECT_FALSE(written().empty()) << "that it is deleted istiod would not hear either";
  EXPECT_EQ(events("EndpointsCurrent"), 0);
  istiod_.say(written());
  EXPECT_TRUE(eventually([&] { return sink_->trouble().empty(); }));
  EXPECT_TRUE(next(1, "EndpointsCurrent"));
  EXPECT_EQ(events("StaleEndpoints"), 1) << "once";
}

TEST_F(IstioSinkTest, WeightsThatNobodyStandsByAnyMoreAreHandedBack) {
  stale_after_ = milliseconds(2000);
  start();
  publish(2);
  const auto stand_by = [&] {
    sink_->renew(kWeb);
    return false;
  };
  ASSERT_TRUE(eventually([&] { return stand_by() || !written().empty(); }));
  for (int i = 0; i < 300; ++i) {
    stand_by();
    std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_FALSE(written().empty());
  EXPECT_TRUE(eventually([&] { return written().empty(); })) << "the loop hangs, and the Lease is renewed";
  EXPECT_THAT(sink_->trouble(), HasSubstr("shop/web"));
  ASSERT_TRUE(eventually([&] { return stand_by() || !written().empty(); }));
  EXPECT_EQ(sink_->trouble(), "");
}

TEST_F(IstioSinkTest, WeightsOfWhoHangsBeforeHeEverRenewedThemAreHandedBackToo) {
  stale_after_ = milliseconds(1000);
  start();
  publish(2);
  ASSERT_TRUE(eventually([&] { return !written().empty(); }));
  EXPECT_TRUE(eventually([&] { return written().empty(); }));
  EXPECT_THAT(sink_->trouble(), HasSubstr("shop/web"));
}

/// One sink, one of whose watches says nothing while the API server answers otherwise.
class OneSilentWatch : public IstioSinkTest {
 public:
  explicit OneSilentWatch(const std::string& collection) {
    mute_ = collection;
    stale_after_ = std::chrono::minutes(10);  // a hand-back for another reason than the silence
    start();
  }
  void TestBody() override {}
  void expect_handed_back_until_it_speaks() {
    publish(2);
    ASSERT_TRUE(eventually([&] { return !written().empty(); })) << mute_;
    const auto begun = std::chrono::steady_clock::now();
    muting_ = true;
    EXPECT_TRUE(eventually([&] { return written().empty(); })) << mute_;
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun;
    std::printf("%s silent: handed back after %.1f s\n", mute_.c_str(), taken.count());
    EXPECT_LE(taken.count(), 11) << mute_ << ": noticed within 10 s, and handed back";
    EXPECT_TRUE(eventually([&] { return sink_->trouble().find(mute_) != std::string::npos; }))
        << mute_ << ": " << sink_->trouble();
    muting_ = false;
    publish(2);
    EXPECT_TRUE(eventually([&] { return !written().empty(); })) << mute_ << ": " << sink_->trouble();
  }
};

/// What tells of membership, what could forbid weights, and what we wrote ourselves. All at once, each at a
/// sink and a server of its own: silences take seconds.
TEST(SilentWatchTest, WhicheverWatchSaysNothingAllIsHandedBackUntilItDoes) {
  std::vector<std::thread> all;
  for (const char* collection : {"services", "endpointslices", "virtualservices", "destinationrules",
                                 "httproutes", "serviceentries", "namespaces"}) {
    all.emplace_back([collection] { OneSilentWatch(collection).expect_handed_back_until_it_speaks(); });
  }
  for (std::thread& one : all) {
    one.join();
  }
}

/// It refuses everything until it has read the roles, which is no right that is missing.
TEST_F(IstioSinkTest, AnApiServerThatHasJustBegunTakesNoWeightsOutOfTraffic) {
  start();
  publish(3);
  ASSERT_TRUE(
      eventually([&] { return outcome() == Outcome::kWritten || outcome() == Outcome::kAcknowledged; }));
  state_ = Server::kAway;
  ASSERT_TRUE(eventually([&] { return !sink_->trouble().empty(); }));
  state_ = Server::kBegins;
  EXPECT_TRUE(eventually([&] {
    const std::string trouble = sink_->trouble();
    return trouble.find("ballast-leader") != std::string::npos && trouble.find("403") != std::string::npos;
  })) << sink_->trouble();
  state_ = Server::kThere;
  EXPECT_TRUE(eventually([&] { return sink_->trouble().empty(); })) << sink_->trouble();
  EXPECT_EQ(refused_deletes_, 0);
  const std::lock_guard lock(mutex_);
  EXPECT_EQ(deletes_, 0);
}

TEST_F(IstioSinkTest, HandingBackAtTheEndHasItsTimeHoweverManyServicesThereAre) {
  // All over the same pods, of which the weights of web hold for each.
  const Json web = lists_["services"][0];
  const Json slice = lists_["endpointslices"][0];
  for (const char* name : {"a", "b", "c", "d", "e"}) {
    lists_["services"].push_back(web);
    lists_["services"].back()["metadata"]["name"] = name;
    lists_["services"].back()["metadata"]["uid"] = std::string("s-") + name;
    lists_["endpointslices"].push_back(slice);
    lists_["endpointslices"].back()["metadata"]["name"] = std::string(name) + "-1";
    lists_["endpointslices"].back()["metadata"]["labels"]["kubernetes.io/service-name"] = name;
  }
  flush_ = milliseconds(1);
  start();
  publish(2);
  const auto entries = [&] {
    const std::lock_guard lock(mutex_);
    return std::ranges::count_if(
        objects_, [](const auto& one) { return one.first.find("/serviceentries/") != std::string::npos; });
  };
  ASSERT_TRUE(eventually([&] { return entries() == 6; }));
  slow_deletes_ = true;
  sink_->flush();
  const std::lock_guard lock(mutex_);
  EXPECT_LE(deletes_, 1);
}

/// Every node may delete what is ours, and does where nobody leads.
TEST_F(IstioSinkTest, WhoMayNotHandBackLeavesItToOthersAndBeginsAnewAfterwards) {
  lease_s_ = 3;
  start();
  publish(3);
  ASSERT_TRUE(eventually([&] { return !written().empty(); }));
  const auto lapses = [&] {
    const std::lock_guard lock(mutex_);
    const Json& spec = objects_.at(kLease).at("spec");
    return spec.at("leaseDurationSeconds") == 1 && spec.at("holderIdentity") == "me";
  };
  unwritable_ = true;
  ASSERT_TRUE(sink_->withdraw(kWeb).ok());
  EXPECT_TRUE(eventually([&] { return lapses() && !sink_->leading() && sink_->leader().empty(); }));
  EXPECT_THAT(sink_->trouble(), HasSubstr("403"));
  EXPECT_FALSE(written().empty()) << "here is nobody else";
  unwritable_ = false;
  EXPECT_TRUE(eventually([&] { return sink_->leading(); }));
  EXPECT_FALSE(lapses());
  EXPECT_TRUE(eventually([&] { return written().empty(); }));
  publish(3);
  EXPECT_TRUE(eventually([&] { return !written().empty(); }));
  unwritable_ = true;
  const auto begun = std::chrono::steady_clock::now();
  sink_->flush();
  EXPECT_TRUE(lapses()) << "and so at the end";
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(8));
}

TEST_F(IstioSinkTest, WhoDoesNotWriteSaysWhoHasTheDecision) {
  start(false);
  publish(3);
  EXPECT_EQ(outcome(), Outcome::kHeldBack);
  EXPECT_THAT(sink_->answer(kWeb).detail, HasSubstr("does not write"));
  EXPECT_THAT(sink_->answer(kWeb).detail, HasSubstr("the writer's `ballastctl explain`"));
  EXPECT_FALSE(sink_->in_charge());
}

/// Mode shadow: somebody leads, so that all nodes' endpoints are decided on, and nothing of Istio's is
/// written.
TEST_F(IstioSinkTest, AShadowLeadsAndWritesNothing) {
  lists_["services"].push_back(lists_["services"][0]);
  Json& headless = lists_["services"].back();
  headless["metadata"]["name"] = "bare";
  headless["metadata"]["uid"] = "s-bare";
  headless["spec"]["clusterIP"] = "None";
  start(Part::kShadow);
  publish(3);
  EXPECT_TRUE(eventually([&] { return sink_->in_charge() && sink_->leader() == "me"; }));
  EXPECT_TRUE(eventually([&] { return sink_->answer(kWeb).detail.find("shadow") != std::string::npos; }))
      << sink_->answer(kWeb).detail;
  EXPECT_EQ(outcome(), Outcome::kHeldBack);
  ASSERT_TRUE(
      sink_->publish(weigher_.weights("bare", {{"p1", "10.0.0.1", 8080, 3}, {"p2", "10.0.0.2", 8080, 1}}))
          .ok());
  EXPECT_TRUE(eventually([&] {
    return sink_->answer({"shop", "bare"}).detail.find("active would not write it either") !=
           std::string::npos;
  })) << sink_->answer({"shop", "bare"}).detail;
  publish(5);
  std::this_thread::sleep_for(milliseconds(300));
  sink_->flush();
  const std::lock_guard lock(mutex_);
  bool told = false;
  for (const auto& [path, object] : objects_) {
    const bool event = path.find("/events/") != std::string::npos;
    EXPECT_TRUE(event || path.find("/leases/") != std::string::npos) << path;
    told = told || (event && kube::text_at(object, {"involvedObject", "name"}) == "bare");
  }
  EXPECT_TRUE(told) << "an Event says what could not be weighed";
}

/// Whoever led before in mode active and died: what it left is removed, as any leader does.
TEST_F(IstioSinkTest, AShadowRemovesWhatADeadLeaderLeft) {
  const std::string entry = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast";
  const Json left = {
      {"metadata",
       {{"namespace", "shop"},
        {"name", "web-ballast"},
        {"uid", "o0"},
        {"resourceVersion", "1"},
        {"labels", {{"app.kubernetes.io/managed-by", "ballast"}, {"ballast.dev/service", "web"}}},
        {"annotations", {{"ballast.dev/lease", "ballast-system.ballast-leader"}}}}},
      {"spec", {{"hosts", {"web.shop.svc.cluster.local"}}}}};
  objects_[entry] = left;
  lists_["serviceentries"] = Json::array({left});
  start(Part::kShadow);
  EXPECT_TRUE(eventually([&] {
    const std::lock_guard lock(mutex_);
    return !objects_.contains(entry);
  }));
}

}  // namespace
}  // namespace ballast::actuate
