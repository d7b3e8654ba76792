// SPDX-License-Identifier: Apache-2.0
//
// The order of the writes, against a small API server that keeps objects.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/actuate/istio/service_reconciler.h"
#include "scripted_server.h"

namespace ballast::actuate::istio {
namespace {

using kube::answer;
using kube::Asked;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr MonotonicNs kSecond = 1'000'000'000ULL;

class ServiceReconcilerTest : public ::testing::Test {
 protected:
  ServiceReconcilerTest()
      : server_([this](const Asked& asked) { return serve(asked); }),
        client_(std::move(*kube::Client::create({.server = server_.url(),
                                                 .retry_budget = std::chrono::milliseconds(20),
                                                 .backoff_least = std::chrono::milliseconds(1),
                                                 .backoff_most = std::chrono::milliseconds(2)}))),
        reconciler_(*client_, {}) {
    service_.ns = "shop";
    service_.name = "web";
    service_.uid = "s1";
    service_.mode = "active";
    service_.ports = {{"http", 80, "TCP", ""}};
    service_.endpoints = {{.address = "10.0.0.1", .ready = true, .ports = {{"http", 8080}}}};
  }
  std::string serve(const Asked& asked) {
    const std::string path = asked.target.substr(0, asked.target.find('?'));
    const std::string last = path.substr(path.rfind('/') + 1);
    if (path.find("/events") != std::string::npos) {
      events_.push_back(kube::text_at(Json::parse(asked.body, nullptr, false), {"reason"}));
      return answer(201, "{}");
    }
    if (last == "pods") {
      Json items = Json::array();
      for (const auto& [uid, version] : pods_) {
        items.push_back({{"metadata", {{"uid", uid}, {"labels", {{"version", version}}}}}});
      }
      return answer(200, Json{{"items", items}}.dump());
    }
    if (path.find("networking.istio.io") == std::string::npos) {
      return answer(200, R"({"items":[]})");
    }
    if (last == "virtualservices" || last == "serviceentries") {
      Json items = Json::array();
      for (const auto& [key, object] : objects_) {
        if (key.find("/" + last + "/") != std::string::npos) {
          items.push_back(object);
        }
      }
      return answer(200, Json{{"items", items}}.dump());
    }
    if (asked.method == "GET") {
      return objects_.contains(path) ? answer(200, objects_[path].dump()) : answer(404, "{}");
    }
    if (refuse_ != 0) {
      return answer(refuse_, R"({"message":"admission webhook says no"})");
    }
    const std::string kind = path.find("virtualservices") != std::string::npos ? "route" : "entry";
    log_.push_back(asked.method + " " + kind);
    if (asked.method == "DELETE") {
      objects_.erase(path);
      return answer(200, "{}");
    }
    if (asked.head.find("merge-patch") != std::string::npos) {
      if (!objects_.contains(path)) {
        return answer(404, "{}");
      }
      objects_[path].merge_patch(Json::parse(asked.body));
      log_.back() = "MERGE " + kind;
    } else {
      objects_[path] = Json::parse(asked.body);
    }
    return answer(200, objects_[path].dump());
  }
  Wanted wanted(std::uint32_t weight = 1000) {
    Wanted out;
    out.services = {service_};
    out.weights["shop/web"] = {{"10.0.0.1", weight}};
    for (const auto& [path, object] : objects_) {
      out.seen[kube::text_at(object, {"kind"}) + " " + kube::key_of(object)] = object["spec"];
    }
    return out;
  }
  std::vector<std::string> log() { return std::exchange(log_, {}); }
  void adopt() {
    reconciler_.reconcile(wanted(), 100 * kSecond);
    reconciler_.reconcile(wanted(), 102 * kSecond);
    ASSERT_THAT(log(), ElementsAre("PATCH entry", "PATCH route"));
  }

  std::map<std::string, Json> objects_;
  std::vector<std::string> log_;
  std::vector<std::string> events_;
  std::map<std::string, std::string> pods_;  ///< version by uid
  int refuse_ = 0;
  kube::Service service_;
  kube::ScriptedServer server_;
  std::unique_ptr<kube::Client> client_;
  ServiceReconciler reconciler_;
};

TEST_F(ServiceReconcilerTest, TheRouteComesAfterTheShadowHasSettled) {
  EXPECT_EQ(reconciler_.reconcile(wanted(), 100 * kSecond), 101 * kSecond) << "when the route is due";
  EXPECT_THAT(log(), ElementsAre("PATCH entry"));
  reconciler_.reconcile(wanted(), 100 * kSecond + 1);
  EXPECT_THAT(log(), IsEmpty());
  reconciler_.reconcile(wanted(), 101 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PATCH route"));
  EXPECT_THAT(events_, ElementsAre("Managed"));
}

TEST_F(ServiceReconcilerTest, AWeightIsOnePatchAndNoChangeIsNone) {
  adopt();
  reconciler_.reconcile(wanted(1500), 103 * kSecond);
  EXPECT_THAT(log(), ElementsAre("MERGE entry"));
  reconciler_.reconcile(wanted(1500), 104 * kSecond);
  EXPECT_THAT(log(), IsEmpty());
}

TEST_F(ServiceReconcilerTest, WeightsKeepToTheBudgetAndWhoWaitedLongestIsFirst) {
  ServiceReconciler reconciler(*client_, {.weights_per_s = 1, .weights_burst = 1});
  const auto both = [&](std::uint32_t weight) {
    Wanted out = wanted(weight);
    kube::Service other = service_;
    other.name = "api";
    out.services.push_back(other);
    out.weights["shop/api"] = {{"10.0.0.1", weight}};
    return out;
  };
  const auto weight_of = [&](const char* name) {
    const std::string path = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/";
    return objects_[path + name + "-ballast"]["spec"]["endpoints"][0]["weight"].get<int>();
  };
  reconciler.reconcile(both(1000), 100 * kSecond);
  reconciler.reconcile(both(1000), 101 * kSecond);
  ASSERT_THAT(log(), ElementsAre("PATCH entry", "PATCH entry", "PATCH route", "PATCH route"));
  EXPECT_EQ(reconciler.reconcile(both(1100), 103 * kSecond), 104 * kSecond + 1) << "when the next may go";
  EXPECT_THAT(log(), ElementsAre("MERGE entry"));
  const bool web_first = weight_of("web") == 1100;
  EXPECT_EQ(weight_of(web_first ? "api" : "web"), 1000);
  reconciler.reconcile(both(1200), 104 * kSecond + 1);
  EXPECT_THAT(log(), ElementsAre("MERGE entry"));
  EXPECT_EQ(weight_of(web_first ? "api" : "web"), 1200) << "with the weight of now";
  Wanted more = both(1300);
  for (auto& service : more.services) {
    service.endpoints.push_back({.address = "10.0.0.2", .ready = true, .ports = {{"http", 8080}}});
  }
  reconciler.reconcile(more, 104 * kSecond + 2);
  EXPECT_THAT(log(), ElementsAre("MERGE entry", "MERGE entry")) << "membership has no budget";
}

TEST_F(ServiceReconcilerTest, ItTellsWhatBecameOfTheWeights) {
  using guard::Outcome;
  ServiceReconciler reconciler(*client_, {.apart_ns = 2 * kSecond});
  const auto outcome = [&](const Wanted& given) {
    return reconciler.answer("shop/web", given.weights.at("shop/web")).outcome;
  };
  EXPECT_EQ(outcome(wanted()), Outcome::kHeldBack) << "nothing was done yet";
  reconciler.reconcile(wanted(), 100 * kSecond);
  EXPECT_EQ(outcome(wanted()), Outcome::kHeldBack) << "no route leads to it yet";
  reconciler.reconcile(wanted(), 101 * kSecond);
  EXPECT_EQ(outcome(wanted()), Outcome::kWritten);
  reconciler.reconcile(wanted(1100), 102 * kSecond);
  EXPECT_EQ(outcome(wanted(1100)), Outcome::kHeldBack) << "Envoy would hold it back longer";
  reconciler.reconcile(wanted(1100), 103 * kSecond);
  EXPECT_EQ(outcome(wanted(1100)), Outcome::kWritten);
}

TEST_F(ServiceReconcilerTest, ATripIsAnEventAndSoIsItsEnd) {
  ServiceReconciler reconciler(*client_, {});
  reconciler.reconcile(wanted(), 100 * kSecond);
  reconciler.reconcile(wanted(), 101 * kSecond);
  Wanted tripped = wanted();
  tripped.tripped["shop/web"] = "p99 was 5 s under weights and 1 s without";
  reconciler.reconcile(tripped, 102 * kSecond);
  reconciler.reconcile(tripped, 103 * kSecond);
  reconciler.reconcile(wanted(), 104 * kSecond);
  EXPECT_THAT(events_, ElementsAre("Managed", "Tripped", "Recovered"));
}

TEST_F(ServiceReconcilerTest, WeightsOfAServiceStayApartAndMembershipDoesNotWait) {
  ServiceReconciler reconciler(*client_, {.apart_ns = 2 * kSecond});
  reconciler.reconcile(wanted(), 100 * kSecond);
  reconciler.reconcile(wanted(), 101 * kSecond);
  log();
  EXPECT_EQ(reconciler.reconcile(wanted(1100), 102 * kSecond), 103 * kSecond);
  EXPECT_THAT(log(), IsEmpty());
  reconciler.reconcile(wanted(1200), 103 * kSecond);
  EXPECT_THAT(log(), ElementsAre("MERGE entry"));
  service_.endpoints.push_back({.address = "10.0.0.2", .ready = true, .ports = {{"http", 8080}}});
  reconciler.reconcile(wanted(1200), 103 * kSecond + 1);
  EXPECT_THAT(log(), ElementsAre("MERGE entry"));
}

TEST_F(ServiceReconcilerTest, ASmallChangeWaitsLongerSoThatALargeOneNeedNot) {
  ServiceReconciler reconciler(*client_, {.apart_ns = kSecond, .small_apart_ns = 3 * kSecond});
  service_.endpoints.push_back({.address = "10.0.0.2", .ready = true, .ports = {{"http", 8080}}});
  const auto other = [&](std::uint32_t weight) {
    Wanted out = wanted(1000);
    out.weights["shop/web"]["10.0.0.2"] = weight;
    return out;
  };
  reconciler.reconcile(other(1500), 100 * kSecond);
  reconciler.reconcile(other(1500), 101 * kSecond);
  log();
  reconciler.reconcile(other(1600), 102 * kSecond);
  EXPECT_THAT(log(), ElementsAre("MERGE entry")) << "what is left of the adoption";
  EXPECT_EQ(reconciler.reconcile(other(1700), 103 * kSecond), 105 * kSecond)
      << "when the next small one is due";
  EXPECT_FALSE(reconciler.hurry());
  EXPECT_THAT(log(), IsEmpty());
  reconciler.reconcile(other(2500), 103 * kSecond + 1);
  EXPECT_THAT(log(), ElementsAre("MERGE entry"));
  reconciler.reconcile(other(4000), 103 * kSecond + 2);
  EXPECT_TRUE(reconciler.hurry()) << "a large one that waits for its time";
  EXPECT_THAT(log(), IsEmpty());
  reconciler.reconcile(other(2600), 104 * kSecond + 1);
  EXPECT_THAT(log(), ElementsAre("MERGE entry")) << "what is left of a large one";
  reconciler.reconcile(other(1000), 105 * kSecond + 1);
  EXPECT_THAT(log(), ElementsAre("MERGE entry")) << "back to equal weights";
}

TEST_F(ServiceReconcilerTest, SubsetsAreWeighedByTheRouteAloneAndRarely) {
  service_.by = "subset";
  service_.selector = {{"app", "web"}};
  service_.endpoints = {{.address = "10.0.0.1", .pod = "web-1", .uid = "u1", .ready = true},
                        {.address = "10.0.0.2", .pod = "web-2", .uid = "u2", .ready = true}};
  pods_ = {{"u1", "v1"}, {"u2", "v2"}};
  const auto weighed = [&](std::uint32_t first) {
    Wanted out = wanted(first);
    out.weights["shop/web"]["10.0.0.2"] = 1000;
    out.conflicting_routes = {{"DestinationRule", "shop", "theirs", {"web"}, {{"v1", {{"version", "v1"}}}}}};
    out.conflicting_routes[0].subsets.push_back({"v2", {{"version", "v2"}}});
    return out;
  };
  const auto shares = [&] {
    std::map<std::string, int> out;
    const std::string path = "/apis/networking.istio.io/v1/namespaces/shop/virtualservices/web-ballast";
    for (const Json& route : objects_[path]["spec"]["http"][0]["route"]) {
      out[kube::text_at(route, {"destination", "subset"})] = route.at("weight");
    }
    return out;
  };
  reconciler_.reconcile(weighed(3000), 100 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PATCH route")) << "no shadow";
  EXPECT_THAT(shares(), ElementsAre(std::pair("v1", 75), std::pair("v2", 25)));
  reconciler_.reconcile(weighed(1000), 101 * kSecond);
  EXPECT_THAT(log(), IsEmpty()) << "every proxy is sent its routes anew";
  reconciler_.reconcile(weighed(3100), 116 * kSecond);
  EXPECT_THAT(log(), IsEmpty()) << "not for a step of one";
  reconciler_.reconcile(weighed(1000), 116 * kSecond);
  EXPECT_THAT(shares(), ElementsAre(std::pair("v1", 50), std::pair("v2", 50)));
  service_.endpoints[1].ready = false;
  reconciler_.reconcile(weighed(1000), 117 * kSecond);
  EXPECT_THAT(shares(), ElementsAre(std::pair("v1", 100))) << "a version without a ready pod, at once";
  service_.by = "";
  service_.endpoints[1].ready = true;
  Wanted by_endpoint = wanted();
  log();
  reconciler_.reconcile(by_endpoint, 120 * kSecond);
  reconciler_.reconcile(by_endpoint, 122 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PATCH entry", "PATCH route")) << "the annotation is gone";
  service_.mode = "off";
  reconciler_.reconcile(wanted(), 130 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE route"));
}

TEST_F(ServiceReconcilerTest, AReadyPodInNoSubsetLeavesTheRouteAsItIs) {
  service_.by = "subset";
  service_.selector = {{"app", "web"}};
  service_.endpoints[0].uid = "u1";
  pods_ = {{"u1", "v9"}};
  Wanted out = wanted();
  out.conflicting_routes = {{"DestinationRule", "shop", "theirs", {"web"}, {{"v1", {{"version", "v1"}}}}}};
  reconciler_.reconcile(out, 100 * kSecond);
  EXPECT_THAT(events_, ElementsAre("NoSubsets")) << "one subset is nothing to choose from";
  out.conflicting_routes[0].subsets.push_back({"v2", {{"version", "v2"}}});
  reconciler_.reconcile(out, 110 * kSecond);
  EXPECT_THAT(events_, ElementsAre("NoSubsets", "PodInNoSubset"));
  EXPECT_THAT(log(), IsEmpty());
}

TEST_F(ServiceReconcilerTest, OptingOutGivesTheRouteBackFirst) {
  adopt();
  service_.mode = "off";
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE route"));
  reconciler_.reconcile(wanted(), 110 * kSecond + 1);
  EXPECT_THAT(log(), IsEmpty()) << "proxies still lose the route";
  reconciler_.reconcile(wanted(), 111 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  EXPECT_EQ(reconciler_.managed(), 0U);
  EXPECT_TRUE(objects_.empty());
}

TEST_F(ServiceReconcilerTest, AReleasedServiceIsGivenBackAndTakenAgainAfterwards) {
  adopt();
  Wanted released = wanted();
  released.released = {"shop/web"};
  reconciler_.reconcile(released, 110 * kSecond);
  reconciler_.reconcile(released, 112 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE route", "DELETE entry"));
  EXPECT_THAT(events_, ElementsAre("Managed", "Released"));
  reconciler_.reconcile(wanted(), 120 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PATCH entry"));
}

TEST_F(ServiceReconcilerTest, WithoutAReadyEndpointThePlainServiceAnswers) {
  adopt();
  service_.endpoints[0].ready = false;
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE route"));
  EXPECT_THAT(events_, ElementsAre("Managed", "NoReadyEndpoint"));
}

TEST_F(ServiceReconcilerTest, AConflictingRouteThatAppearsMakesUsLeave) {
  adopt();
  Wanted contested = wanted();
  contested.conflicting_routes = {{"VirtualService", "shop", "mine", {"web"}}};
  reconciler_.reconcile(contested, 110 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE route"));
  EXPECT_THAT(events_, ElementsAre("Managed", "TwoOwners"));
}

TEST_F(ServiceReconcilerTest, AnObjectOfThatNameThatIsNotOursIsLeftAlone) {
  const std::string path = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast";
  objects_[path] = {{"metadata", {{"namespace", "shop"}, {"name", "web-ballast"}}},
                    {"spec", {{"hosts", {"theirs"}}}}};
  const Json before = objects_[path];
  reconciler_.reconcile(wanted(), 100 * kSecond);
  EXPECT_THAT(log(), IsEmpty());
  EXPECT_EQ(objects_[path], before);
  EXPECT_THAT(events_, ElementsAre("WriteRefused"));
}

TEST_F(ServiceReconcilerTest, ARefusedWriteIsToldAndTriedAgainLater) {
  refuse_ = 422;
  EXPECT_GT(reconciler_.reconcile(wanted(), 100 * kSecond), 0U);
  EXPECT_THAT(events_, ElementsAre("WriteRefused"));
  refuse_ = 0;
  reconciler_.reconcile(wanted(), 105 * kSecond);
  EXPECT_THAT(log(), IsEmpty()) << "not in a hurry";
  reconciler_.reconcile(wanted(), 111 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PATCH entry"));
}

TEST_F(ServiceReconcilerTest, WhatTheApiServerDoesNotAllowIsTroubleUntilItDoes) {
  EXPECT_EQ(reconciler_.trouble(), "");
  refuse_ = 403;
  reconciler_.reconcile(wanted(), 100 * kSecond);
  EXPECT_THAT(reconciler_.trouble(), HasSubstr("403 (permission missing"));
  EXPECT_THAT(events_, IsEmpty()) << "not the Service's fault";
  refuse_ = 0;
  reconciler_.reconcile(wanted(), 102 * kSecond);
  EXPECT_EQ(reconciler_.trouble(), "");
  EXPECT_THAT(log(), ElementsAre("PATCH entry"));
}

TEST_F(ServiceReconcilerTest, WhatAnotherWroteOverIsWrittenAgain) {
  adopt();
  for (auto& [path, object] : objects_) {
    if (path.find("serviceentries") != std::string::npos) {
      object["spec"]["endpoints"] = Json::array();
    }
  }
  reconciler_.reconcile(wanted(), 104 * kSecond);
  EXPECT_THAT(log(), IsEmpty()) << "might be our own write, not seen yet";
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PATCH entry", "PATCH route"));
}

TEST_F(ServiceReconcilerTest, ADeletedShadowIsMadeAgainByTheNextWeight) {
  adopt();
  objects_.clear();
  reconciler_.reconcile(wanted(1500), 103 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PATCH entry", "PATCH entry"));
}

TEST_F(ServiceReconcilerTest, ASweepRemovesWhatAPredecessorLeft) {
  adopt();
  ServiceReconciler successor(*client_, {});
  ASSERT_TRUE(successor.sweep(200 * kSecond).ok());
  EXPECT_THAT(log(), ElementsAre("DELETE route"));
  EXPECT_FALSE(successor.hand_back(200 * kSecond + 1));
  EXPECT_TRUE(successor.hand_back(202 * kSecond));
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  EXPECT_TRUE(objects_.empty());
}

TEST_F(ServiceReconcilerTest, ReleaseByHandWorksWithoutALeader) {
  adopt();
  const auto removed = release_by_hand(*client_, "ballast-system", "ballast-leader", "*");
  ASSERT_TRUE(removed.ok()) << removed.error().message;
  EXPECT_EQ(*removed, 2);
  EXPECT_TRUE(objects_.empty());
}

}  // namespace
}  // namespace ballast::actuate::istio
