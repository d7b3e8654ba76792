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
    service_.selector = {{"app", "web"}};
    service_.ports = {{"http", 80, "TCP"}};
    service_.endpoints = {endpoint(1)};
    pods_ = {{"u1", "v1"}, {"u2", "v1"}, {"u3", "v1"}};
  }
  static kube::Endpoint endpoint(int i, bool ready = true) {
    const std::string n = std::to_string(i);
    return {
        .address = "10.0.0." + n, .pod = "p" + n, .uid = "u" + n, .ready = ready, .ports = {{"http", 8080}}};
  }
  Json pod(const std::string& uid, const std::string& version) const {
    Json out = {{"metadata",
                 {{"uid", uid}, {"labels", {{"version", version}, {"security.istio.io/tlsMode", "istio"}}}}},
                {"spec", {{"serviceAccountName", "web"}}}};
    if (behind_ztunnel_) {
      out["metadata"]["annotations"]["ambient.istio.io/redirection"] = "enabled";
    }
    return out;
  }
  /// As the API server: preconditions hold, generations grow with the spec.
  std::string serve(const Asked& asked) {
    const std::string path = asked.target.substr(0, asked.target.find('?'));
    const std::string last = path.substr(path.rfind('/') + 1);
    if (path.find("/events") != std::string::npos) {
      ++event_calls_;
    }
    if (path.find("/events") != std::string::npos && path.find(events_refused_in_) != std::string::npos &&
        events_answer_ != 201) {
      return answer(events_answer_, events_reason_);
    }
    if (path.find("/events") != std::string::npos) {
      const Json event = Json::parse(asked.body, nullptr, false);
      events_.push_back(kube::text_at(event, {"reason"}));
      message_ = kube::text_at(event, {"message"});
      return answer(201, "{}");
    }
    if (path.find("/pods") != std::string::npos) {
      ++pod_reads_;
      order_.push_back("read pods");
      pods_target_ = asked.target;
      return pods_answer_ == 200 ? read_pods(last) : answer(pods_answer_, "{}");
    }
    if (path.find("/nodes/") != std::string::npos) {
      ++node_reads_;
      return answer(200, "{}");
    }
    if (path.find("/leases") != std::string::npos) {
      return serve_lease(asked, path);
    }
    if (path.find("/clusterroles/") != std::string::npos) {
      return answer(200, R"({"metadata":{"uid":"r1"}})");
    }
    if (path.find("networking.istio.io") == std::string::npos) {
      return answer(404, "{}");
    }
    const std::string kind = path.find("virtualservices") != std::string::npos ? "route"
                             : path.find("envoyfilters") != std::string::npos  ? "filter"
                                                                               : "entry";
    if ((refused_.contains(asked.method) || refused_.contains(asked.method + " " + kind)) && refusals_ != 0) {
      --refusals_;
      return answer(refuse_, R"({"message":"admission webhook says no"})");
    }
    const bool collection = last == "virtualservices" || last == "serviceentries" || last == "envoyfilters";
    if (asked.method == "GET" && collection) {
      Json items = Json::array();
      for (const auto& [key, object] : objects_) {
        // Asked for what has our label, or for what has it not and is of a Service.
        const bool with = asked.target.find("%21%3D") == std::string::npos;
        if (key.find("/" + last + "/") != std::string::npos && with == has_label(object) &&
            (with || !kube::text_at(object, {"metadata", "labels", kServiceLabel}).empty())) {
          items.push_back(object);
        }
      }
      return answer(200, Json{{"items", items}}.dump());
    }
    const Json body = Json::parse(asked.body, nullptr, false);
    const std::string place = collection ? path + "/" + kube::text_at(body, {"metadata", "name"}) : path;
    const auto there = objects_.find(place);
    if (asked.method == "GET") {
      return there != objects_.end() ? answer(200, there->second.dump()) : answer(404, "{}");
    }
    log_.push_back(asked.method + " " + kind);
    order_.push_back(log_.back());
    if (asked.method == "POST") {
      if (there != objects_.end()) {
        return answer(409, "{}");
      }
      Json& made = objects_[place] = body;
      made["metadata"]["uid"] = "o" + std::to_string(++version_);
      made["metadata"]["creationTimestamp"] = created_;
      made["metadata"]["generation"] = 1;
      made["metadata"]["resourceVersion"] = std::to_string(version_);
      return answer(201, made.dump());
    }
    if (there == objects_.end()) {
      return answer(404, "{}");
    }
    const Json& now = there->second["metadata"];
    const auto is = [&](const Json& wanted, const char* key) {
      return kube::at(wanted, {key}).is_null() || kube::at(wanted, {key}) == now.at(key);
    };
    if (asked.method == "DELETE") {
      if (!is(kube::at(body, {"preconditions"}), "uid")) {
        return answer(409, "{}");
      }
      objects_.erase(there);
      return answer(200, "{}");
    }
    if (!is(kube::at(body, {"metadata"}), "uid") || !is(kube::at(body, {"metadata"}), "resourceVersion")) {
      return answer(409, "{}");
    }
    if (asked.method == "PUT") {
      for (const char* key : {"labels", "annotations", "finalizers", "ownerReferences"}) {
        there->second["metadata"].erase(key);
        if (const Json& set = kube::at(body, {"metadata", key}); !set.is_null()) {
          there->second["metadata"][key] = set;
        }
      }
      put_in_place(place, kube::at(body, {"spec"}));
    } else {
      change(place, kube::at(body, {"spec"}));
    }
    return std::exchange(hang_up_, false) ? "" : answer(200, objects_[place].dump());
  }
  std::string serve_lease(const Asked& asked, const std::string& path) {
    const Json body = Json::parse(asked.body, nullptr, false);
    if (asked.method != "GET" && meanwhile_) {
      std::exchange(meanwhile_, nullptr)();
    }
    if (asked.method == "POST") {
      const auto [made, fresh] =
          objects_.try_emplace(path + "/" + kube::text_at(body, {"metadata", "name"}), body);
      return answer(fresh ? 201 : 409, "{}");
    }
    const auto there = objects_.find(path);
    if (there == objects_.end()) {
      return answer(404, "{}");
    }
    if (asked.method == "PATCH") {
      const Json& version = kube::at(body, {"metadata", "resourceVersion"});
      if (!version.is_null() && version != there->second["metadata"]["resourceVersion"]) {
        return answer(409, "{}");
      }
      there->second.merge_patch(body);
    }
    return answer(200, there->second.dump());
  }
  std::string read_pods(const std::string& last) {
    if (last != "pods") {  // p7 has the uid u7
      const auto found = pods_.find("u" + last.substr(1));
      return found == pods_.end() ? answer(404, "{}") : answer(200, pod(found->first, found->second).dump());
    }
    Json items = Json::array();
    for (const auto& [uid, version] : pods_) {
      items.push_back(pod(uid, version));
    }
    return answer(200, Json{{"items", items}}.dump());
  }
  static bool has_label(const Json& object) {
    return kube::text_at(object, {"metadata", "labels", kManagedByLabel}) == kManagedBy;
  }
  /// Somebody's merge patch of the spec.
  void change(const std::string& path, const Json& spec) {
    Json whole = objects_.at(path)["spec"];
    whole.merge_patch(spec);
    put_in_place(path, whole);
  }
  void put_in_place(const std::string& path, const Json& spec) {
    Json& object = objects_.at(path);
    const Json before = std::exchange(object["spec"], spec);
    object["metadata"]["generation"] =
        object["metadata"]["generation"].get<int>() + (object["spec"] == before ? 0 : 1);
    object["metadata"]["resourceVersion"] = std::to_string(++version_);
  }
  Wanted wanted(std::uint32_t weight = 1000) {
    Wanted out;
    out.services = {service_};
    out.weights["shop/web"] = Weights{{{"10.0.0.1", 8080}, weight}};
    for (const auto& [path, object] : objects_) {
      if (kube::text_at(object, {"kind"}) == "ServiceEntry" && !has_label(object)) {
        continue;  // they are watched by it
      }
      out.seen[kube::text_at(object, {"kind"}) + " " + kube::key_of(object)] = owned_of(object);
    }
    return out;
  }
  std::vector<std::string> log() { return std::exchange(log_, {}); }
  void adopt() {
    reconciler_.reconcile(wanted(), 100 * kSecond);
    ASSERT_THAT(log(), ElementsAre("POST entry"));
    reconciler_.reconcile(wanted(), 102 * kSecond);
    ASSERT_THAT(log(), IsEmpty());
  }
  void adopt_by_route() {
    service_.by = "route";
    reconciler_.reconcile(wanted(), 100 * kSecond);
    reconciler_.reconcile(wanted(), 102 * kSecond);
    ASSERT_THAT(log(), ElementsAre("POST entry", "POST route"));
  }
  /// Addresses in the entry, with their tlsMode.
  std::map<std::string, std::string> written() {
    std::map<std::string, std::string> out;
    for (const auto& [path, object] : objects_) {
      for (const Json& one : kube::at(object, {"spec", "endpoints"})) {
        out[kube::text_at(one, {"address"})] = kube::text_at(one, {"labels", "security.istio.io/tlsMode"});
      }
    }
    return out;
  }

  static constexpr const char* kEntry =
      "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast";
  std::map<std::string, Json> objects_;
  std::vector<std::string> log_;
  std::vector<std::string> order_;  ///< of the log, and of the reads of pods
  std::vector<std::string> events_;
  std::string message_;
  std::map<std::string, std::string> pods_;  ///< version by uid
  bool behind_ztunnel_ = false;              ///< they are
  int events_answer_ = 201;
  std::string events_reason_ = "{}";
  std::string events_refused_in_;  ///< a part of the path; empty: everywhere
  int event_calls_ = 0;
  int pods_answer_ = 200;
  int pod_reads_ = 0;
  std::string pods_target_;  ///< of the last of them
  int node_reads_ = 0;
  std::set<std::string> refused_;  ///< "VERB" or "VERB entry"
  int refuse_ = 403;
  int refusals_ = -1;                ///< that are left; below 0: without end
  std::function<void()> meanwhile_;  ///< before the next write to the Lease
  bool hang_up_ = false;             ///< a patch lands, and its answer does not
  std::string created_ = "2026-11-28T10:00:01Z";
  int version_ = 0;
  kube::Service service_;
  kube::ScriptedServer server_;
  std::unique_ptr<kube::Client> client_;
  ServiceReconciler reconciler_;
};

TEST_F(ServiceReconcilerTest, ByItsOwnHostOneEntryIsAllThatIsWritten) {
  reconciler_.reconcile(wanted(), 100 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST entry"));
  const Json& spec = objects_.at(kEntry).at("spec");
  EXPECT_EQ(spec.at("hosts"), Json::array({"web.shop.svc.cluster.local"}));
  EXPECT_EQ(spec.at("exportTo"), Json::array({"~"}));
  EXPECT_THAT(events_, ElementsAre("Managed"));
  service_.mode = "off";
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE entry")) << "nothing settles: nothing was routed";
  EXPECT_EQ(reconciler_.managed(), 0U);
}

TEST_F(ServiceReconcilerTest, APodIsNeverWrittenWithoutItsIdentity) {
  adopt();
  pods_answer_ = 504;
  service_.endpoints = {endpoint(1), endpoint(2)};
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_THAT(written(), ElementsAre(std::pair("10.0.0.1", "istio"))) << "whose identity is known";
  service_.endpoints = {endpoint(2), endpoint(3)};
  reconciler_.reconcile(wanted(), 111 * kSecond);
  EXPECT_THAT(written(), IsEmpty()) << "who left has gone, though nobody who came is known";
  pods_answer_ = 200;
  reconciler_.reconcile(wanted(), 112 * kSecond);
  EXPECT_THAT(written(), ElementsAre(std::pair("10.0.0.2", "istio"), std::pair("10.0.0.3", "istio")));
}

TEST_F(ServiceReconcilerTest, WhoseIdentityCannotBeReadIsHandedBackWithinSeconds) {
  adopt();
  pods_answer_ = 504;
  service_.endpoints = {endpoint(1), endpoint(2)};
  EXPECT_GT(reconciler_.reconcile(wanted(), 110 * kSecond), 0U);
  log();
  reconciler_.reconcile(wanted(), 113 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  EXPECT_THAT(events_, ElementsAre("Managed", "HandedBack"));
  EXPECT_THAT(message_, HasSubstr("504"));
  pods_answer_ = 200;
  reconciler_.reconcile(wanted(), 120 * kSecond);
  EXPECT_THAT(log(), IsEmpty()) << "it might go on like that";
  reconciler_.reconcile(wanted(), 150 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST entry"));
}

TEST_F(ServiceReconcilerTest, APodThatIsNotKnownYetIsAskedForAgain) {
  adopt();
  service_.endpoints = {endpoint(1), endpoint(9)};
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_THAT(written(), ElementsAre(std::pair("10.0.0.1", "istio")));
  pods_["u9"] = "v1";
  reconciler_.reconcile(wanted(), 111 * kSecond);
  EXPECT_EQ(written().size(), 2U);
}

/// What must hold whatever is refused: within three seconds of a change that could not be written, nothing of
/// ours leads to an address that has gone, but where nothing at all may be written.
TEST_F(ServiceReconcilerTest, MembershipIsHandedBackWhicheverVerbIsRefused) {
  for (const bool by_route : {false, true}) {
    for (const std::string verb : {"PUT", "POST", "GET", "DELETE"}) {
      SCOPED_TRACE(verb + (by_route ? " by route" : " by own host"));
      objects_.clear();
      service_.endpoints = {endpoint(1)};
      service_.by = by_route ? "route" : "";
      ServiceReconciler reconciler(*client_, {});
      MonotonicNs now = 100 * kSecond;
      reconciler.reconcile(wanted(), now);
      reconciler.reconcile(wanted(), now += 2 * kSecond);
      ASSERT_EQ(objects_.size(), by_route ? 2U : 1U);
      refused_ = {verb};
      service_.endpoints = {endpoint(2)};
      for (int i = 0; i < 45; ++i) {
        reconciler.reconcile(wanted(), now += kSecond / 10);
      }
      const bool routed = std::any_of(objects_.begin(), objects_.end(), [](const auto& one) {
        return one.first.find("virtualservices") != std::string::npos;
      });
      const bool in_force = !by_route || routed;
      EXPECT_FALSE(in_force && written().contains("10.0.0.1")) << "an address that has gone";
      refused_ = {verb};
      service_.mode = "off";
      for (int i = 0; i < 45; ++i) {
        reconciler.reconcile(wanted(), now += kSecond / 10);
      }
      if (verb == "DELETE") {
        EXPECT_TRUE(by_route || written().empty()) << "an entry that says nothing";
        for (const auto& [path, object] : objects_) {
          if (by_route && path.find("virtualservices") != std::string::npos) {
            EXPECT_EQ(kube::text_at(object["spec"]["http"][0]["route"][0], {"destination", "host"}),
                      "web.shop.svc.cluster.local");
          }
        }
        EXPECT_THAT(reconciler.trouble(), HasSubstr("403"));
      } else {
        EXPECT_TRUE(objects_.empty());
      }
      refused_.clear();
      service_.mode = "active";
    }
  }
}

TEST_F(ServiceReconcilerTest, WhatMayNotBeHandedBackIsStuckUntilItMay) {
  for (const bool by_route : {false, true}) {
    SCOPED_TRACE(by_route);
    service_.mode = "active";
    service_.by = by_route ? "route" : "";
    MonotonicNs now = 100 * kSecond;
    ServiceReconciler reconciler(*client_, {});
    reconciler.reconcile(wanted(), now);
    reconciler.reconcile(wanted(), now += 2 * kSecond);
    service_.mode = "off";
    refused_ = {"DELETE"};
    const Json before = objects_;
    reconciler.reconcile(wanted(), now += 2 * kSecond);
    EXPECT_EQ(reconciler.stuck(), 0U) << "what is there says nothing any more";
    for (const auto& [path, object] : objects_) {
      const bool route = path.find("/virtualservices/") != std::string::npos;
      if (by_route != route) {
        continue;
      }
      Json says = before.at(path).at("spec");
      says[route ? "http" : "endpoints"] = object.at("spec").at(route ? "http" : "endpoints");
      EXPECT_EQ(object.at("spec"), says) << "its hosts are what they were";
      EXPECT_NE(object.at("spec"), before.at(path).at("spec"));
    }
    refused_ = {"DELETE", "PUT"};
    const MonotonicNs since = now += 2 * kSecond;
    reconciler.reconcile(wanted(), now);
    reconciler.reconcile(wanted(), now += 2 * kSecond);
    EXPECT_EQ(reconciler.stuck(), since);
    refuse_ = 504;
    reconciler.reconcile(wanted(), now += 2 * kSecond);
    EXPECT_EQ(reconciler.stuck(), 0U) << "what time mends";
    refuse_ = 403;
    reconciler.reconcile(wanted(), now += 2 * kSecond);
    EXPECT_EQ(reconciler.stuck(), now);
    refused_.clear();
    reconciler.reconcile(wanted(), now += 2 * kSecond);
    reconciler.reconcile(wanted(), now += 2 * kSecond);
    EXPECT_EQ(reconciler.stuck(), 0U);
    EXPECT_TRUE(objects_.empty());
  }
}

/// Who left still runs for a moment: waiting for what is refused for good would outlast it. What time mends,
/// and what keeps nobody who left, is waited for.
TEST_F(ServiceReconcilerTest, WhoLeftAndIsKeptByWhatIsRefusedForGoodIsHandedBackAtOnce) {
  struct Case {
    int status;
    std::vector<kube::Endpoint> endpoints;
    bool at_once;
    bool away_of_late = false;
  };
  for (const auto& [status, endpoints, at_once, away_of_late] :
       std::vector<Case>{{403, {endpoint(2)}, true},
                         {403, {endpoint(2)}, false, true},
                         {422, {endpoint(2)}, true},
                         {422, {endpoint(2)}, true, true},
                         {504, {endpoint(2)}, false},
                         {403, {endpoint(1), endpoint(2)}, false}}) {
    ServiceReconciler reconciler(*client_, {.away_of_late = [late = away_of_late] { return late; }});
    objects_.clear();
    service_.endpoints = {endpoint(1)};
    reconciler.reconcile(wanted(), 100 * kSecond);
    ASSERT_TRUE(objects_.contains(kEntry));
    refuse_ = status;
    refused_ = {"PUT"};
    service_.endpoints = endpoints;
    reconciler.reconcile(wanted(), 110 * kSecond);
    EXPECT_EQ(!objects_.contains(kEntry), at_once) << status << " of " << endpoints.size();
    refused_.clear();
  }
}

/// A write that is refused, then one that lets it leave, refused or not: the operator still reads why and
/// what was done, until it is taken again.
TEST_F(ServiceReconcilerTest, WhyAServiceIsHandedBackStaysNamedUntilItIsTakenAgain) {
  adopt();
  refuse_ = 403;
  refused_ = {"PUT"};
  service_.endpoints = {endpoint(2)};
  reconciler_.reconcile(wanted(), 110 * kSecond);
  ASSERT_FALSE(objects_.contains(kEntry));
  const auto what = [&] { return reconciler_.answer("shop/web", {}); };
  for (const MonotonicNs later : {0, 3, 29}) {
    reconciler_.reconcile(wanted(), (110 + later) * kSecond);
    EXPECT_THAT(reconciler_.trouble(), HasSubstr("shop/web was handed back to the plain Service: PUT"));
    EXPECT_THAT(reconciler_.trouble(), HasSubstr(": 403"));
    EXPECT_EQ(what().outcome, guard::Outcome::kRefused);
  }
  refused_.clear();
  reconciler_.reconcile(wanted(), 141 * kSecond);
  EXPECT_TRUE(objects_.contains(kEntry));
  EXPECT_EQ(reconciler_.trouble(), "");
}

TEST_F(ServiceReconcilerTest, WhatWasRefusedAndIsNotWantedAnyMoreIsNoTrouble) {
  adopt();
  refuse_ = 429;
  refused_ = {"PUT"};
  reconciler_.reconcile(wanted(2000), 110 * kSecond);
  EXPECT_THAT(reconciler_.trouble(), HasSubstr("429"));
  refused_.clear();
  reconciler_.reconcile(wanted(), 120 * kSecond);
  EXPECT_EQ(reconciler_.trouble(), "");
}

TEST_F(ServiceReconcilerTest, ADeposedLeadersWriteDoesNotLand) {
  adopt();
  ServiceReconciler successor(*client_, {});
  ASSERT_TRUE(successor.sweep(200 * kSecond).ok());
  service_.endpoints = {endpoint(1), endpoint(2)};
  successor.reconcile(wanted(), 200 * kSecond);
  const Json before = objects_;
  log();
  bool leads = false;
  Writer late(*client_, "");
  late.may_write = [&] { return leads; };
  Object held{.uid = "o1", .version = "1", .spec = Json::object()};
  Others others = Others::kNothing;
  Json object = objects_.at(kEntry);
  object["spec"]["endpoints"] = Json::array();
  EXPECT_FALSE(late.put(object, held, others).ok()) << "its Lease has run out";
  EXPECT_THAT(log(), IsEmpty());
  const kube::Request put{.method = "PUT",
                          .path = kEntry,
                          .body = R"({"metadata":{"resourceVersion":"1"},"spec":{"endpoints":[]}})"};
  EXPECT_EQ(client_->call(put)->status, 409) << "one that was under way";
  EXPECT_TRUE(late.remove("ServiceEntry", "shop", "web-ballast", "o1").ok());
  EXPECT_EQ(objects_, before);
}

TEST_F(ServiceReconcilerTest, WhatNobodyHereWroteIsRemoved) {
  adopt();
  objects_[std::string(kEntry) + "-late"] = objects_.at(kEntry);
  objects_[std::string(kEntry) + "-late"]["metadata"]["name"] = "web-ballast-late";
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_THAT(log(), IsEmpty()) << "it may have been removed this moment";
  reconciler_.reconcile(wanted(), 112 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  EXPECT_EQ(objects_.size(), 1U);
}

TEST_F(ServiceReconcilerTest, AnEntryOfAnotherBallastIsLeftAlone) {
  ServiceReconciler other(*client_, {.plan = {.lease = "other.lease"}});
  other.reconcile(wanted(), 100 * kSecond);
  ASSERT_THAT(log(), ElementsAre("POST entry"));
  ServiceReconciler mine(*client_, {.plan = {.lease = "mine.lease"}});
  const Json before = objects_;
  Wanted blind = wanted();
  blind.seen.clear();  // the sink does not tell of what is another's
  mine.reconcile(blind, 100 * kSecond);
  EXPECT_EQ(objects_, before);
  EXPECT_EQ(events_.back(), "WriteRefused");
  EXPECT_THAT(message_, HasSubstr("of another Ballast (other.lease)"));
  ASSERT_TRUE(mine.sweep(101 * kSecond).ok());
  EXPECT_EQ(objects_, before);
}

TEST_F(ServiceReconcilerTest, AServiceMadeAgainUnderItsNameIsAdoptedAnew) {
  adopt();
  const std::string first = kube::text_at(objects_.at(kEntry), {"metadata", "uid"});
  service_.uid = "s2";
  service_.created = "2026-11-28T10:00:05Z";
  created_ = service_.created;
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  reconciler_.reconcile(wanted(), 110 * kSecond + 2);
  EXPECT_THAT(log(), ElementsAre("POST entry", "DELETE entry")) << "not as old as the Service, to the second";
  created_ = "2026-11-28T10:00:06Z";
  reconciler_.reconcile(wanted(), 112 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST entry"));
  reconciler_.reconcile(wanted(), 114 * kSecond);
  EXPECT_THAT(events_, ElementsAre("Managed", "MadeAgain", "Managed"));
}

TEST_F(ServiceReconcilerTest, ServicesOfTheAmbientMeshAreToldSo) {
  behind_ztunnel_ = true;
  reconciler_.reconcile(wanted(), 100 * kSecond);
  EXPECT_THAT(events_, ElementsAre("Ambient"));
  EXPECT_THAT(message_, HasSubstr("istio.io/use-waypoint"));
  EXPECT_THAT(log(), IsEmpty());
}

/// A waypoint picks the pod, by the weights of the Service's own host; of a shadow it knows nothing.
TEST_F(ServiceReconcilerTest, AServiceWithAWaypointIsWeighedByItsOwnHostAlone) {
  behind_ztunnel_ = true;
  service_.waypoint = "waypoint";
  adopt();
  EXPECT_THAT(events_, ElementsAre("Managed"));
  service_.by = "route";
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  EXPECT_THAT(events_, ElementsAre("Managed", "Ambient"));
  service_.by = "";
  Wanted refuted = wanted();
  refuted.own_host = false;
  reconciler_.reconcile(refuted, 120 * kSecond);
  EXPECT_THAT(log(), IsEmpty());
}

/// Of two istiods one may be behind, so that each look sees another.
TEST_F(ServiceReconcilerTest, ThatIstiodIsBehindIsToldOnceInTenMinutes) {
  adopt();
  const auto at = [&](MonotonicNs second, bool stale) {
    Wanted now = wanted();
    now.stale = stale ? std::set<std::string>{"shop/web"} : std::set<std::string>{};
    reconciler_.reconcile(now, second * kSecond);
    return std::exchange(events_, {});
  };
  at(103, false);
  EXPECT_THAT(at(110, true), ElementsAre("StaleEndpoints"));
  EXPECT_THAT(at(111, true), IsEmpty());
  EXPECT_THAT(at(112, false), ElementsAre("EndpointsCurrent"));
  for (MonotonicNs second = 120; second < 700; second += 20) {
    EXPECT_THAT(at(second, second % 40 == 0), IsEmpty());
  }
  EXPECT_THAT(at(720, true), ElementsAre("StaleEndpoints"));
  EXPECT_FALSE(written().empty()) << "a deletion would not be heard of either";
}

TEST_F(ServiceReconcilerTest, EndpointsOfSomebodysOwnMakingAreToldThatNobodyMeasuresThem) {
  service_.endpoints[0].uid.clear();
  Wanted unmeasured = wanted();
  unmeasured.weights.clear();
  reconciler_.reconcile(unmeasured, 100 * kSecond);
  EXPECT_THAT(events_, ElementsAre("NoPods"));
  EXPECT_THAT(log(), IsEmpty());
}

/// In pages the API server would look through all pods of the namespace, in etcd.
TEST_F(ServiceReconcilerTest, ManyPodsAreListedFromTheCacheAndFewReadOneByOne) {
  service_.endpoints = {endpoint(1), endpoint(2)};
  reconciler_.reconcile(wanted(), 100 * kSecond);
  EXPECT_EQ(pod_reads_, 2);
  service_.endpoints.clear();
  for (int i = 1; i <= 40; ++i) {
    service_.endpoints.push_back(endpoint(i));
    pods_["u" + std::to_string(i)] = "v1";
  }
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_EQ(pod_reads_, 3);
  EXPECT_EQ(pods_target_, "/api/v1/namespaces/shop/pods?resourceVersion=0&labelSelector=app%3Dweb");
  EXPECT_EQ(written().size(), 40U);
}

TEST_F(ServiceReconcilerTest, LabelsWhoseChangesAreHeardOfAreReadAgainOnceAndAfterAGap) {
  adopt();
  Wanted now = wanted();
  const auto reads = [&](std::uint64_t heard, MonotonicNs second) {
    now.heard = heard == 0 ? std::map<std::string, std::uint64_t>{}
                           : std::map<std::string, std::uint64_t>{{"shop", heard}};
    const int before = pod_reads_;
    reconciler_.reconcile(now, second * kSecond);
    return pod_reads_ - before;
  };
  EXPECT_EQ(reads(1, 170), 1) << "what was not heard of when it was read first";
  EXPECT_EQ(reads(1, 240), 0);
  pods_answer_ = 504;
  EXPECT_EQ(reads(2, 310), 1) << "something may have been missed";
  pods_answer_ = 200;
  EXPECT_EQ(reads(2, 380), 1) << "it could not be read";
  EXPECT_EQ(reads(2, 450), 0);
  service_.endpoints.clear();
  for (int i = 1; i <= 40; ++i) {
    service_.endpoints.push_back(endpoint(i));
    pods_["u" + std::to_string(i)] = "v1";
  }
  now.services = {service_};
  EXPECT_EQ(reads(2, 460), 1) << "new pods, as the API server's cache has them";
  EXPECT_EQ(reads(2, 521), 1) << "of which it may not have had what was heard of before they were known";
  EXPECT_EQ(reads(2, 590), 0);
  EXPECT_EQ(reads(0, 660), 1) << "changes there are not heard of";
  EXPECT_EQ(reads(0, 730), 1);
}

TEST_F(ServiceReconcilerTest, MostChangesOfAPodAreNoNews) {
  adopt();
  std::map<std::string, PodFacts> told;
  take_metadata({{"metadata", {{"labels", {{"version", "v1"}}}}}}, told["u1"]);
  take_metadata({{"metadata", {{"labels", {{"version", "v2"}}}}}}, told["stranger"]);
  reconciler_.hear(told);
  EXPECT_FALSE(reconciler_.hear(told));
  told["u1"].labels = {{"version", "v2"}};
  EXPECT_TRUE(reconciler_.hear(told));
  EXPECT_FALSE(reconciler_.hear(told));
  told["u1"].ambient = true;
  EXPECT_TRUE(reconciler_.hear(told));
}

TEST_F(ServiceReconcilerTest, EndpointsAreAskedForWhenAServicesTurnComes) {
  std::vector<std::string> asked;
  std::optional<std::vector<kube::Endpoint>> there = std::vector<kube::Endpoint>{endpoint(1)};
  const auto bare = [&](std::uint32_t weight) {
    Wanted out = wanted(weight);
    out.services[0].endpoints.clear();
    out.fill = [&](kube::Service& service) {
      asked.push_back(service.key());
      service.endpoints = there.value_or(std::vector<kube::Endpoint>());
      return there.has_value();
    };
    return out;
  };
  reconciler_.reconcile(bare(1000), 100 * kSecond);
  EXPECT_EQ(written().size(), 1U);
  reconciler_.reconcile(bare(1700), 103 * kSecond);
  EXPECT_EQ(objects_[kEntry]["spec"]["endpoints"][0]["weight"], 1700);
  asked.clear();
  reconciler_.reconcile(bare(1700), 104 * kSecond);
  EXPECT_THAT(asked, ElementsAre("shop/web"));
  events_.clear();
  there.reset();
  reconciler_.reconcile(bare(1700), 105 * kSecond);
  EXPECT_FALSE(objects_.contains(kEntry)) << "it is not there any more";
  EXPECT_THAT(events_, IsEmpty());
}

TEST_F(ServiceReconcilerTest, ALargeServiceIsReadInPartsAndOthersDoNotWaitForIt) {
  kube::Service large = service_;
  large.name = "large";
  large.uid = "s2";
  large.endpoints.clear();
  constexpr int kNodes = 40;
  for (int i = 1; i <= kNodes; ++i) {
    large.endpoints.push_back(endpoint(i));
    large.endpoints.back().node = "node-" + std::to_string(i);
    pods_["u" + std::to_string(i)] = "v1";
  }
  Wanted both = wanted();
  both.services.insert(both.services.begin(), large);
  both.weights["shop/large"] = Weights{{{"10.0.0.1", 8080}, 1000}};
  const auto news = [] { return true; };  // membership changes all the time
  MonotonicNs now = 100 * kSecond;
  EXPECT_NE(reconciler_.reconcile(both, now, ~0ULL, news), 0U);
  EXPECT_TRUE(objects_.contains(kEntry)) << "the small one is taken in the first pass";
  EXPECT_EQ(node_reads_, 1);
  for (int i = 0; i < kNodes; ++i) {
    now += kSecond;
    both.seen = wanted().seen;
    reconciler_.reconcile(both, now, ~0ULL, news);
  }
  EXPECT_EQ(node_reads_, kNodes) << "each once";
  EXPECT_EQ(objects_.size(), 2U);
  EXPECT_THAT(events_, ElementsAre("Managed", "Managed")) << "nothing was late";
}

/// One list of pods may take seconds, and there may be five hundred to be read.
TEST_F(ServiceReconcilerTest, WhatIsKnownIsWrittenBeforeAnythingIsReadOfAnyService) {
  service_.endpoints = {endpoint(1), endpoint(2)};
  adopt();
  Wanted both = wanted();
  kube::Service first = service_;
  first.name = "first";
  first.uid = "s2";
  first.endpoints = {endpoint(3)};
  both.services.insert(both.services.begin(), first);
  both.weights["shop/first"] = Weights{{{"10.0.0.3", 8080}, 1000}};
  both.services[1].endpoints = {endpoint(1)};
  order_.clear();
  reconciler_.reconcile(both, 110 * kSecond);
  EXPECT_THAT(order_, ElementsAre("PUT entry", "read pods", "POST entry"));

  both.seen = wanted().seen;
  both.services[1].endpoints = {endpoint(2)};
  order_.clear();
  reconciler_.reconcile(both, 171 * kSecond);
  EXPECT_THAT(order_, ElementsAre("PUT entry", "read pods", "read pods"))
      << "again, as changes are not heard";
  EXPECT_THAT(log(), ElementsAre("PUT entry", "POST entry", "PUT entry"));
}

TEST_F(ServiceReconcilerTest, WhatIsReadAgainWaitsForNewsButNotForEver) {
  adopt();
  const int before = pod_reads_;
  reconciler_.reconcile(wanted(), 170 * kSecond, ~0ULL, [] { return true; });
  EXPECT_EQ(pod_reads_, before);
  EXPECT_NE(reconciler_.reconcile(wanted(), 219 * kSecond, ~0ULL, [] { return true; }), 0U) << "at once";
  EXPECT_EQ(pod_reads_, before);
  reconciler_.reconcile(wanted(), 221 * kSecond, ~0ULL, [] { return true; });
  EXPECT_EQ(pod_reads_, before + 1);
}

TEST_F(ServiceReconcilerTest, OfManyThatAreToBeReadAgainOneIsReadAtATimeWhileThereAreNews) {
  adopt();
  Wanted many = wanted();
  for (const char* name : {"a", "b", "c"}) {
    service_.name = name;
    service_.uid = name;
    many.services.push_back(service_);
    many.weights["shop/" + service_.name] = Weights{{{"10.0.0.1", 8080}, 1000}};
  }
  reconciler_.reconcile(many, 103 * kSecond);
  many.seen.clear();
  for (const auto& [path, object] : objects_) {
    many.seen[kube::text_at(object, {"kind"}) + " " + kube::key_of(object)] = owned_of(object);
  }
  for (int i = 1; i <= 4; ++i) {
    const int before = pod_reads_;
    reconciler_.reconcile(many, 300 * kSecond, ~0ULL, [] { return true; });
    EXPECT_EQ(pod_reads_, before + 1) << i;
  }
}

TEST_F(ServiceReconcilerTest, APassThatEndsEarlyIsGoneOnWith) {
  Wanted many = wanted();
  many.services.clear();
  for (const char* name : {"a", "b", "c"}) {
    service_.name = name;
    many.services.push_back(service_);
    many.weights["shop/" + service_.name] = Weights{{{"10.0.0.1", 8080}, 1000}};
  }
  for (std::size_t i = 1; i <= 3; ++i) {
    reconciler_.reconcile(many, 100 * kSecond, 0);
    EXPECT_EQ(objects_.size(), i) << "one in each pass, whose time is up when it begins";
  }
  service_.endpoints = {endpoint(2)};
  many.services[1].endpoints = service_.endpoints;
  for (int i = 0; i < 3; ++i) {
    reconciler_.reconcile(many, 101 * kSecond, 0);
  }
  EXPECT_EQ(log().size(), 4U) << "three made, and that of b, whose endpoint is another, written again";
}

TEST_F(ServiceReconcilerTest, TheRouteComesAfterTheShadowHasSettled) {
  service_.by = "route";
  EXPECT_EQ(reconciler_.reconcile(wanted(), 100 * kSecond), 101 * kSecond) << "when the route is due";
  EXPECT_THAT(log(), ElementsAre("POST entry"));
  reconciler_.reconcile(wanted(), 100 * kSecond + 1);
  EXPECT_THAT(log(), IsEmpty());
  reconciler_.reconcile(wanted(), 101 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST route"));
  EXPECT_THAT(events_, ElementsAre("Managed"));
}

TEST_F(ServiceReconcilerTest, AWeightIsOnePatchAndNoChangeIsNone) {
  adopt();
  reconciler_.reconcile(wanted(1500), 103 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PUT entry"));
  reconciler_.reconcile(wanted(1500), 104 * kSecond);
  EXPECT_THAT(log(), IsEmpty());
}

TEST_F(ServiceReconcilerTest, WeightsKeepToTheBudgetAndWhoWaitedLongestIsFirst) {
  ServiceReconciler reconciler(*client_, {.weights_per_s = 1, .weights_burst = 1});
  const auto both = [&](std::uint32_t weight) {
    Wanted out = wanted(weight);
    out.seen.clear();
    kube::Service other = service_;
    other.name = "api";
    out.services.push_back(other);
    out.weights["shop/api"] = Weights{{{"10.0.0.1", 8080}, weight}};
    return out;
  };
  const auto weight_of = [&](const char* name) {
    const std::string path = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/";
    return objects_[path + name + "-ballast"]["spec"]["endpoints"][0]["weight"].get<int>();
  };
  reconciler.reconcile(both(1000), 100 * kSecond);
  reconciler.reconcile(both(1000), 101 * kSecond);
  ASSERT_THAT(log(), ElementsAre("POST entry", "POST entry"));
  EXPECT_EQ(reconciler.reconcile(both(1100), 103 * kSecond), 104 * kSecond + 1) << "when the next may go";
  EXPECT_THAT(log(), ElementsAre("PUT entry"));
  const bool web_first = weight_of("web") == 1100;
  EXPECT_EQ(weight_of(web_first ? "api" : "web"), 1000);
  reconciler.reconcile(both(1200), 104 * kSecond + 1);
  EXPECT_THAT(log(), ElementsAre("PUT entry"));
  EXPECT_EQ(weight_of(web_first ? "api" : "web"), 1200) << "with the weight of now";
  Wanted more = both(1300);
  for (auto& service : more.services) {
    service.endpoints.push_back(endpoint(2));
  }
  reconciler.reconcile(more, 104 * kSecond + 2);
  EXPECT_THAT(log(), ElementsAre("PUT entry", "PUT entry")) << "membership has no budget";
}

TEST_F(ServiceReconcilerTest, ItTellsWhatBecameOfTheWeights) {
  using guard::Outcome;
  ServiceReconciler reconciler(*client_, {.apart_ns = 2 * kSecond});
  const auto outcome = [&](const Wanted& given) {
    return reconciler.answer("shop/web", given.weights.at("shop/web")).outcome;
  };
  EXPECT_EQ(outcome(wanted()), Outcome::kHeldBack) << "nothing was done yet";
  service_.by = "route";
  reconciler.reconcile(wanted(), 100 * kSecond);
  EXPECT_EQ(outcome(wanted()), Outcome::kHeldBack) << "no route leads to it yet";
  reconciler.reconcile(wanted(), 101 * kSecond);
  EXPECT_EQ(outcome(wanted()), Outcome::kWritten);
  reconciler.reconcile(wanted(1100), 102 * kSecond);
  EXPECT_EQ(outcome(wanted(1100)), Outcome::kHeldBack) << "Envoy would hold it back longer";
  reconciler.reconcile(wanted(1100), 103 * kSecond);
  EXPECT_EQ(outcome(wanted(1100)), Outcome::kWritten);
}

TEST_F(ServiceReconcilerTest, ByItsOwnHostTheWeightsAreInForceAsTheyAreWritten) {
  reconciler_.reconcile(wanted(1700), 100 * kSecond);
  EXPECT_EQ(reconciler_.answer("shop/web", wanted(1700).weights.at("shop/web")).outcome,
            guard::Outcome::kWritten);
  EXPECT_EQ(reconciler_.answer("shop/web", wanted(900).weights.at("shop/web")).outcome,
            guard::Outcome::kHeldBack);
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
  log();
  EXPECT_EQ(reconciler.reconcile(wanted(1100), 101 * kSecond), 102 * kSecond);
  EXPECT_THAT(log(), IsEmpty());
  reconciler.reconcile(wanted(1200), 102 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PUT entry"));
  service_.endpoints.push_back(endpoint(2));
  reconciler.reconcile(wanted(1200), 102 * kSecond + 1);
  EXPECT_THAT(log(), ElementsAre("PUT entry"));
}

TEST_F(ServiceReconcilerTest, AServiceWhoseLabelFlapsIsLeftAloneForAMinute) {
  MonotonicNs now = 100 * kSecond;
  const auto flap = [&] {
    service_.mode = "active";
    reconciler_.reconcile(wanted(), now += kSecond);
    const bool held = objects_.contains(kEntry);
    service_.mode = "off";
    reconciler_.reconcile(wanted(), now += kSecond);
    EXPECT_FALSE(objects_.contains(kEntry));
    return held;
  };
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(flap()) << i;
  }
  for (int i = 0; i < 10; ++i) {
    EXPECT_FALSE(flap()) << i;
  }
  EXPECT_THAT(events_, testing::Contains("Flapping").Times(1));
  EXPECT_LT(events_.size(), 12U);
  service_.mode = "active";
  reconciler_.reconcile(wanted(), now += 61 * kSecond);
  EXPECT_TRUE(objects_.contains(kEntry)) << "a minute later it is taken again";
}

TEST_F(ServiceReconcilerTest, WhatDoesNotFitTogetherInSlicesIsToldWhenItLasts) {
  adopt();
  service_.odd = {"10.0.0.1 is ready in one slice and not in another: not weighed"};
  reconciler_.reconcile(wanted(), 200 * kSecond);
  service_.odd.clear();
  reconciler_.reconcile(wanted(), 203 * kSecond);
  service_.odd = {"10.0.0.1 is ready in one slice and not in another: not weighed"};
  for (int i = 0; i < 10; ++i) {
    reconciler_.reconcile(wanted(), (204 + i) * kSecond);
  }
  EXPECT_THAT(events_, testing::Contains("OddEndpoints").Times(1));
  EXPECT_THAT(message_, HasSubstr("in another: not weighed"));
  EXPECT_TRUE(objects_.contains(kEntry)) << "and it goes on";
}

TEST_F(ServiceReconcilerTest, ASmallChangeWaitsLongerSoThatALargeOneNeedNot) {
  ServiceReconciler reconciler(*client_, {.apart_ns = kSecond, .small_apart_ns = 3 * kSecond});
  service_.endpoints.push_back(endpoint(2));
  const auto other = [&](std::uint32_t weight) {
    Wanted out = wanted();
    out.weights["shop/web"] = Weights{{{"10.0.0.1", 8080}, 1000}, {{"10.0.0.2", 8080}, weight}};
    return out;
  };
  reconciler.reconcile(other(1500), 100 * kSecond);
  reconciler.reconcile(other(1500), 101 * kSecond);
  log();
  reconciler.reconcile(other(1600), 102 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PUT entry")) << "what is left of the adoption";
  EXPECT_EQ(reconciler.reconcile(other(1700), 103 * kSecond), 105 * kSecond)
      << "when the next small one is due";
  EXPECT_FALSE(reconciler.hurry());
  EXPECT_THAT(log(), IsEmpty());
  reconciler.reconcile(other(2500), 103 * kSecond + 1);
  EXPECT_THAT(log(), ElementsAre("PUT entry"));
  reconciler.reconcile(other(4000), 103 * kSecond + 2);
  EXPECT_TRUE(reconciler.hurry()) << "a large one that waits for its time";
  EXPECT_THAT(log(), IsEmpty());
  reconciler.reconcile(other(2600), 104 * kSecond + 1);
  EXPECT_THAT(log(), ElementsAre("PUT entry")) << "what is left of a large one";
  reconciler.reconcile(other(1000), 105 * kSecond + 1);
  EXPECT_THAT(log(), ElementsAre("PUT entry")) << "back to equal weights";
}

TEST_F(ServiceReconcilerTest, SubsetsAreWeighedByTheRouteAloneAndRarely) {
  service_.by = "subset";
  service_.selector = {{"app", "web"}};
  service_.endpoints = {endpoint(1), endpoint(2)};
  pods_ = {{"u1", "v1"}, {"u2", "v2"}};
  const auto weighed = [&](std::uint32_t first) {
    Wanted out = wanted();
    out.weights["shop/web"] = Weights{{{"10.0.0.1", 8080}, first}, {{"10.0.0.2", 8080}, 1000}};
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
  EXPECT_THAT(log(), ElementsAre("POST route")) << "no shadow";
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
  log();
  reconciler_.reconcile(wanted(), 120 * kSecond);
  reconciler_.reconcile(wanted(), 122 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE route", "POST entry")) << "the annotation is gone";
  service_.mode = "off";
  reconciler_.reconcile(wanted(), 130 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
}

TEST_F(ServiceReconcilerTest, AReadyPodInNoSubsetLeavesTheRouteAsItIs) {
  service_.by = "subset";
  service_.selector = {{"app", "web"}};
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

/// Two versions of one pod each, weighed by the route, which is written.
class SubsetsTest : public ServiceReconcilerTest {
 protected:
  SubsetsTest() {
    service_.by = "subset";
    service_.endpoints = {endpoint(1), endpoint(2)};
    pods_ = {{"u1", "v1"}, {"u2", "v2"}};
    reconciler_.reconcile(versions(), 100 * kSecond);
    EXPECT_THAT(log(), ElementsAre("POST route"));
  }
  Wanted versions() {
    Wanted out = wanted();
    out.conflicting_routes = {{"DestinationRule", "shop", "theirs", {"web"}, {{"v1", {{"version", "v1"}}}}}};
    out.conflicting_routes[0].subsets.push_back({"v2", {{"version", "v2"}}});
    return out;
  }
  void until(int second) {
    for (MonotonicNs now = 110 * kSecond; now <= static_cast<MonotonicNs>(second) * kSecond;
         now += kSecond / 2) {
      reconciler_.reconcile(versions(), now);
    }
  }
};

TEST_F(SubsetsTest, ARouteToAVersionThatIsGoneIsHandedBackThoughAPodIsInNoSubset) {
  service_.endpoints = {endpoint(1), endpoint(3)};
  pods_ = {{"u1", "v1"}, {"u3", "v3"}};
  reconciler_.reconcile(versions(), 110 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE route")) << "half of the traffic would go to nobody";
  until(120);
  EXPECT_THAT(log(), IsEmpty());
  EXPECT_THAT(events_, ElementsAre("Managed", "PodInNoSubset"));
  pods_ = {{"u1", "v1"}, {"u3", "v2"}};
  EXPECT_EQ(reconciler_.reconcile(versions(), 200 * kSecond), 200 * kSecond)
      << "what was read again, at once";
  reconciler_.reconcile(versions(), 200 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST route"));
}

TEST_F(SubsetsTest, ARollingUpdateThroughAPodInNoSubsetKeepsTheRoute) {
  service_.endpoints.push_back(endpoint(3));
  pods_ = {{"u1", "v1"}, {"u2", "v2"}, {"u3", "v3"}};
  until(120);
  EXPECT_THAT(log(), IsEmpty());
}

TEST_F(SubsetsTest, ARouteToAVersionThatIsGoneIsHandedBackWhereItsChangeIsRefused) {
  service_.endpoints[1].ready = false;
  refused_ = {"PUT route"};
  until(114);
  EXPECT_THAT(log(), ElementsAre("DELETE route"));
  EXPECT_THAT(reconciler_.trouble(), HasSubstr("handed back"));
}

TEST_F(SubsetsTest, ARouteToAVersionThatIsGoneIsHandedBackWherePodsCannotBeRead) {
  service_.endpoints = {endpoint(1), endpoint(3)};
  pods_answer_ = 403;
  until(114);
  EXPECT_THAT(log(), ElementsAre("DELETE route"));
}

TEST_F(ServiceReconcilerTest, OptingOutGivesTheRouteBackFirst) {
  adopt_by_route();
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
  EXPECT_EQ(reconciler_.managed(), 0U);
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  EXPECT_THAT(events_, ElementsAre("Managed", "Released"));
  reconciler_.reconcile(wanted(), 120 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST entry"));
}

TEST_F(ServiceReconcilerTest, WithoutAReadyEndpointThePlainServiceAnswers) {
  adopt();
  service_.endpoints[0].ready = false;
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  EXPECT_THAT(events_, ElementsAre("Managed", "NoReadyEndpoint"));
}

TEST_F(ServiceReconcilerTest, AConflictingRouteThatAppearsMakesUsLeave) {
  adopt_by_route();
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
  Wanted blind = wanted();
  blind.seen.clear();
  reconciler_.reconcile(blind, 100 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST entry"));
  EXPECT_EQ(objects_[path], before);
  EXPECT_THAT(events_, ElementsAre("WriteRefused"));
}

TEST_F(ServiceReconcilerTest, ARefusedWriteIsToldAndTriedAgainLater) {
  refuse_ = 422;
  refused_ = {"POST"};
  EXPECT_GT(reconciler_.reconcile(wanted(), 100 * kSecond), 0U);
  EXPECT_THAT(events_, ElementsAre("WriteRefused"));
  refused_.clear();
  reconciler_.reconcile(wanted(), 105 * kSecond);
  EXPECT_THAT(log(), IsEmpty()) << "not in a hurry";
  reconciler_.reconcile(wanted(), 111 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST entry"));
}

TEST_F(ServiceReconcilerTest, WhatTheApiServerDoesNotAllowIsTroubleUntilItDoes) {
  EXPECT_EQ(reconciler_.trouble(), "");
  refused_ = {"POST"};
  reconciler_.reconcile(wanted(), 100 * kSecond);
  EXPECT_THAT(reconciler_.trouble(), HasSubstr("403 (permission missing"));
  EXPECT_THAT(events_, IsEmpty()) << "not the Service's fault";
  refused_.clear();
  reconciler_.reconcile(wanted(), 102 * kSecond);
  EXPECT_EQ(reconciler_.trouble(), "");
  EXPECT_THAT(log(), ElementsAre("POST entry"));
}

TEST_F(ServiceReconcilerTest, WhatAnotherWroteOverIsToldAndWrittenAgain) {
  adopt();
  const Json before = objects_.at(kEntry).at("spec");
  change(kEntry, {{"endpoints", Json::array()}, {"exportTo", {"."}}});
  reconciler_.reconcile(wanted(), 104 * kSecond);
  EXPECT_EQ(objects_.at(kEntry).at("spec"), before);
  EXPECT_THAT(events_, ElementsAre("Managed", "ChangedByOthers"));
  log();
  reconciler_.reconcile(wanted(), 105 * kSecond);
  EXPECT_THAT(log(), IsEmpty());
}

TEST_F(ServiceReconcilerTest, OurOwnWriteWhoseAnswerWasLostIsNotSomebodyElses) {
  adopt();
  hang_up_ = true;
  reconciler_.reconcile(wanted(2000), 110 * kSecond);
  EXPECT_EQ(objects_.at(kEntry).at("spec").at("endpoints")[0].at("weight"), 2000);
  EXPECT_THAT(events_, ElementsAre("Managed"));
  EXPECT_EQ(reconciler_.trouble(), "");
}

TEST_F(ServiceReconcilerTest, ADeletedEntryIsMadeAgainByTheNextWeight) {
  adopt();
  const Wanted stale = wanted(1500);
  objects_.clear();
  reconciler_.reconcile(stale, 103 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PUT entry", "POST entry"));
}

TEST_F(ServiceReconcilerTest, ADeletedEntryThatWasSeenIsMadeAgainAtOnce) {
  adopt();
  objects_.clear();
  reconciler_.reconcile(wanted(), 103 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST entry"));
  EXPECT_THAT(events_, ElementsAre("Managed", "ChangedByOthers"));
}

/// Its watch may not have told of what was written just before the API server went away.
TEST_F(ServiceReconcilerTest, WhatIsNotHeardOfAfterTheApiServerWasAwayIsNotSaidToBeRemoved) {
  reconciler_.reconcile(wanted(), 100 * kSecond);
  Wanted unheard = wanted();
  unheard.seen.clear();
  log();
  reconciler_.reconcile(unheard, 110 * kSecond);
  EXPECT_THAT(log(), IsEmpty());
  EXPECT_THAT(events_, ElementsAre("Managed"));
  objects_.clear();
  reconciler_.reconcile(unheard, 120 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST entry"));
  EXPECT_THAT(events_, ElementsAre("Managed", "ChangedByOthers"));
}

TEST_F(ServiceReconcilerTest, AnEventThatCouldNotBeWrittenIsWrittenLater) {
  events_answer_ = 403;
  adopt();
  EXPECT_THAT(events_, IsEmpty());
  EXPECT_THAT(reconciler_.trouble(), HasSubstr("/events: 403 (permission missing"));
  service_.mode = "off";
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_THAT(events_, IsEmpty());
  events_answer_ = 201;
  reconciler_.reconcile(wanted(), 125 * kSecond);
  EXPECT_THAT(events_, ElementsAre("Managed", "Released"));
  EXPECT_EQ(reconciler_.trouble(), "");
}

TEST_F(ServiceReconcilerTest, EventsThatANamespaceRefusesHoldBackNoOthers) {
  events_answer_ = 403;
  events_refused_in_ = "/shop/";
  Wanted both = wanted();
  kube::Service other = service_;
  other.ns = "trade";
  other.uid = "s2";
  both.services.push_back(other);
  both.weights["trade/web"] = both.weights.at("shop/web");
  reconciler_.reconcile(both, 100 * kSecond);
  EXPECT_THAT(events_, ElementsAre("Managed")) << "the other namespace's, though the first one's waits";
  EXPECT_THAT(reconciler_.trouble(), HasSubstr("/shop/events: 403"));
  both.services[0].mode = both.services[1].mode = "off";
  const int asked = event_calls_;
  reconciler_.reconcile(both, 101 * kSecond);
  EXPECT_THAT(events_, ElementsAre("Managed", "Released"));
  EXPECT_EQ(event_calls_ - asked, 1) << "who refused is not asked for each Event";
  events_refused_in_ = "/nowhere/";
  reconciler_.reconcile(both, 125 * kSecond);
  EXPECT_THAT(events_, ElementsAre("Managed", "Released", "Managed", "Released")) << "in their order";
  EXPECT_EQ(reconciler_.trouble(), "");
}

TEST_F(ServiceReconcilerTest, AnEventOfANamespaceThatEndsIsNoTrouble) {
  events_answer_ = 403;
  events_reason_ = R"({"reason":"Forbidden","details":{"causes":[{"reason":"NamespaceTerminating"}]}})";
  adopt();
  EXPECT_EQ(reconciler_.trouble(), "");
  events_answer_ = 201;
  service_.mode = "off";
  reconciler_.reconcile(wanted(), 125 * kSecond);
  EXPECT_THAT(events_, ElementsAre("Released")) << "the first was let go";
}

/// Of a namespace that has gone, or of a Service.
TEST_F(ServiceReconcilerTest, AnEventThatNobodyWillTakeIsNoTrouble) {
  events_answer_ = 404;
  adopt();
  EXPECT_EQ(reconciler_.trouble(), "");
  events_answer_ = 403;
  service_.mode = "off";
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_NE(reconciler_.trouble(), "");
  Wanted none = wanted();
  none.services.clear();
  reconciler_.reconcile(none, 125 * kSecond);
  EXPECT_EQ(reconciler_.trouble(), "");
}

TEST_F(ServiceReconcilerTest, WhoWritesAgainAndAgainIsToldOfNowAndThen) {
  adopt();
  const auto told = [&] { return std::count(events_.begin(), events_.end(), "ChangedByOthers"); };
  for (int i = 0; i < 5; ++i) {
    change(kEntry, {{"exportTo", {i % 2 == 0 ? "." : "*"}}});
    reconciler_.reconcile(wanted(), (110 + i) * kSecond);
    EXPECT_EQ(objects_.at(kEntry).at("spec").at("exportTo"), Json::array({"~"}))
        << "whether or not it is told";
  }
  EXPECT_EQ(told(), 1);
  change(kEntry, {{"exportTo", {"."}}});
  reconciler_.reconcile(wanted(), 116 * kSecond);
  EXPECT_EQ(told(), 2) << "and again, where it goes on";
  reconciler_.reconcile(wanted(), 117 * kSecond);
  objects_.erase(kEntry);
  reconciler_.reconcile(wanted(), 118 * kSecond);
  EXPECT_EQ(told(), 3) << "another thing than a change";
  EXPECT_THAT(message_, HasSubstr("was removed by somebody else"));
}

/// A watch by the label shows of it that it has gone.
class UnlabelledTest : public ServiceReconcilerTest {
 protected:
  UnlabelledTest() : owned_(*client_, {.plan = {.owner_name = kOwnerRole}}) {}
  void adopt_and_unlabel(const std::string& by = "") {
    service_.by = by;
    owned_.reconcile(wanted(), 100 * kSecond);
    owned_.reconcile(wanted(), 102 * kSecond);
    for (auto& [path, object] : objects_) {
      object["metadata"]["labels"].erase(kManagedByLabel);
      change(path, Json::object());
    }
    log();
  }
  ServiceReconciler owned_;
};

TEST_F(UnlabelledTest, WhatLostItsLabelIsGivenItBack) {
  for (const std::string by : {"", "route"}) {
    SCOPED_TRACE(by);
    events_.clear();
    adopt_and_unlabel(by);
    const Json before = objects_.at(kEntry).at("spec");
    owned_.reconcile(wanted(), 120 * kSecond);
    std::vector<std::string> patches = {"PUT entry"};
    if (!by.empty()) {
      patches.emplace_back("PUT route");
    }
    EXPECT_EQ(log(), patches);
    for (const auto& [path, object] : objects_) {
      EXPECT_TRUE(has_label(object)) << path;
    }
    EXPECT_EQ(objects_.at(kEntry).at("spec"), before);
    EXPECT_EQ(events_.back(), "ChangedByOthers");
    EXPECT_THAT(message_, HasSubstr("was changed by somebody else"));
    owned_.reconcile(wanted(), 121 * kSecond);
    EXPECT_THAT(log(), IsEmpty());
    service_.mode = "off";
    owned_.reconcile(wanted(), 122 * kSecond);
    owned_.reconcile(wanted(), 124 * kSecond);
    ASSERT_TRUE(objects_.empty());
    service_.mode = "active";
  }
}

/// A tool that watches our objects, an operator's note: theirs, and none of our business.
TEST_F(ServiceReconcilerTest, WhatOthersPutBesideOurMetadataStays) {
  adopt();
  Json& metadata = objects_.at(kEntry)["metadata"];
  const Json ours = metadata;
  metadata["labels"]["team"] = "shop";
  metadata["annotations"]["note"] = "looked at";
  metadata["finalizers"] = {"example.com/keeps"};
  metadata["ownerReferences"] = Json::array({{{"kind", "Application"}, {"name", "shop"}, {"uid", "a1"}}});
  metadata["resourceVersion"] = std::to_string(++version_);
  const Json theirs = metadata;
  for (const std::uint32_t weight : {2000, 3000, 4000}) {
    reconciler_.reconcile(wanted(weight), (100 + weight / 100) * kSecond);
    for (const char* key : {"labels", "annotations", "finalizers", "ownerReferences"}) {
      EXPECT_EQ(objects_.at(kEntry)["metadata"][key], theirs[key]) << key;
    }
    EXPECT_NE(objects_.at(kEntry)["metadata"]["resourceVersion"], theirs["resourceVersion"]) << "written";
  }
  // And what they took away again does not come back with us.
  Json& left = objects_.at(kEntry)["metadata"];
  left["labels"] = ours["labels"];
  left["annotations"] = ours["annotations"];
  left.erase("finalizers");
  left["resourceVersion"] = std::to_string(++version_);
  reconciler_.reconcile(wanted(5000), 150 * kSecond);
  EXPECT_EQ(left["labels"], ours["labels"]);
  EXPECT_EQ(left["annotations"], ours["annotations"]);
  EXPECT_FALSE(left.contains("finalizers"));
}

/// And one that may not be changed is not left in force as if it were somebody else's.
TEST_F(UnlabelledTest, WhatLostItsLabelIsHandedBackWhereItCannotBeWritten) {
  adopt_and_unlabel();
  refused_ = {"PUT"};
  service_.endpoints = {endpoint(2)};
  for (int i = 0; i < 40; ++i) {
    owned_.reconcile(wanted(), (1200 + i) * (kSecond / 10));
  }
  EXPECT_TRUE(objects_.empty());
  EXPECT_THAT(events_, testing::Contains("HandedBack"));
}

TEST_F(UnlabelledTest, WhatLostItsLabelIsOursToWhoeverComesAfter) {
  adopt_and_unlabel();
  Json copy = objects_.at(kEntry);
  copy["metadata"]["name"] = "mine";
  Json foreign = objects_.at(kEntry);
  foreign["metadata"].erase("ownerReferences");
  foreign["metadata"]["name"] = "foreign-ballast";
  const std::string folder = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/";
  objects_[folder + "mine"] = copy;
  objects_[folder + "foreign-ballast"] = foreign;
  ServiceReconciler successor(*client_, {});
  ASSERT_TRUE(successor.sweep(200 * kSecond).ok());
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  EXPECT_EQ(objects_.size(), 2U) << "a user's copy, and what no role of ours owns";
  EXPECT_FALSE(objects_.contains(kEntry));
}

/// istiod is asked about what is there, not about what somebody else has changed or removed meanwhile.
TEST_F(ServiceReconcilerTest, OnlyAnEntryThatIsThereAsWrittenSaysWhatIstiodDoesWithIt) {
  reconciler_.reconcile(wanted(), 100 * kSecond);
  EXPECT_TRUE(reconciler_.sample(110 * kSecond, "").is_null()) << "not seen yet";
  reconciler_.reconcile(wanted(), 110 * kSecond);
  EXPECT_FALSE(reconciler_.sample(110 * kSecond, "").is_null());
  for (const bool removed : {false, true}) {
    removed ? objects_.clear() : change(kEntry, {{"endpoints", Json::array()}});
    refused_ = {"PUT", "POST"};
    reconciler_.reconcile(wanted(), 111 * kSecond);
    EXPECT_TRUE(reconciler_.sample(113 * kSecond, "").is_null()) << "and cannot be written again";
    refused_.clear();
    reconciler_.reconcile(wanted(), 130 * kSecond);
    reconciler_.reconcile(wanted(), 131 * kSecond);
    EXPECT_FALSE(reconciler_.sample(140 * kSecond, "").is_null());
  }
}

class MergeWindowTest : public ServiceReconcilerTest {
 protected:
  MergeWindowTest() : fast_(*client_, {.merge_window = {.root_ns = "istio-system"}}) {}
  /// Hosts that the filter names; none where it is not there.
  std::set<std::string> hosts() {
    std::set<std::string> out;
    for (const Json& patch : kube::at(objects_[kFilter], {"spec", "configPatches"})) {
      out.insert(kube::text_at(patch, {"match", "cluster", "service"}));
    }
    std::erase_if(objects_, [](const auto& one) { return one.second.is_null(); });
    return out;
  }
  Wanted two(bool both = true) {
    Wanted out = wanted();
    if (both) {
      kube::Service other = service_;
      other.name = "api";
      other.uid = "s2";
      out.services.push_back(other);
      out.weights["shop/api"] = out.weights["shop/web"];
    }
    std::erase_if(out.seen, [](const auto& one) { return one.first.starts_with("EnvoyFilter"); });
    return out;
  }
  static constexpr const char* kFilter =
      "/apis/networking.istio.io/v1alpha3/namespaces/istio-system/envoyfilters/ballast-merge-window";
  ServiceReconciler fast_;
};

TEST_F(MergeWindowTest, HostsComeTogetherAndStayAWhileAfterTheyWent) {
  fast_.reconcile(two(false), 100 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST entry")) << "it waits for others that come";
  fast_.reconcile(two(), 100 * kSecond + kSecond / 2);
  fast_.reconcile(two(), 101 * kSecond);
  EXPECT_THAT(log(), ElementsAre("POST entry", "POST filter"));
  EXPECT_EQ(hosts(), (std::set<std::string>{"web.shop.svc.cluster.local", "api.shop.svc.cluster.local"}));
  fast_.reconcile(two(false), 110 * kSecond);
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  fast_.reconcile(two(false), 119 * kSecond);
  EXPECT_THAT(log(), IsEmpty());
  fast_.reconcile(two(false), 120 * kSecond);
  EXPECT_THAT(log(), ElementsAre("PUT filter"));
  EXPECT_EQ(hosts(), (std::set<std::string>{"web.shop.svc.cluster.local"}));
  EXPECT_TRUE(fast_.hand_back(130 * kSecond));
  EXPECT_TRUE(objects_.empty());
}

TEST_F(MergeWindowTest, WhatSomebodyElseMadeOfItIsWrittenOverAndAForeignOneIsLeftAlone) {
  fast_.reconcile(two(false), 100 * kSecond);
  fast_.reconcile(two(false), 101 * kSecond);
  change(kFilter, {{"configPatches", Json::array()}});
  fast_.reconcile(two(false), 131 * kSecond);
  EXPECT_EQ(hosts(), (std::set<std::string>{"web.shop.svc.cluster.local"}));
  objects_[kFilter]["metadata"]["labels"].erase(kManagedByLabel);
  change(kFilter, {{"configPatches", Json::array()}});
  fast_.reconcile(two(false), 161 * kSecond);
  EXPECT_EQ(hosts(), (std::set<std::string>{"web.shop.svc.cluster.local"})) << "ours, by its uid";
  EXPECT_TRUE(has_label(objects_[kFilter]));
  objects_[kFilter]["metadata"]["labels"].erase(kManagedByLabel);
  objects_[kFilter]["metadata"]["uid"] = "theirs";
  change(kFilter, {{"configPatches", Json::array()}});
  fast_.reconcile(two(false), 191 * kSecond);
  EXPECT_TRUE(hosts().empty());
  EXPECT_THAT(fast_.trouble(), HasSubstr("is not Ballast's"));
  EXPECT_TRUE(objects_.contains(kEntry)) << "weights go on";
}

TEST_F(MergeWindowTest, ARefusedFilterIsTroubleAndWeightsGoOn) {
  refused_ = {"POST filter"};
  fast_.reconcile(two(false), 100 * kSecond);
  fast_.reconcile(two(false), 101 * kSecond);
  EXPECT_THAT(fast_.trouble(), HasSubstr("403"));
  EXPECT_TRUE(objects_.contains(kEntry));
  refused_.clear();
  fast_.reconcile(two(false), 102 * kSecond);
  EXPECT_EQ(fast_.trouble(), "");
  EXPECT_EQ(hosts().size(), 1U);
}

TEST_F(MergeWindowTest, ARemovalThatFailedIsTriedAgain) {
  fast_.reconcile(two(false), 100 * kSecond);
  fast_.reconcile(two(false), 101 * kSecond);
  ASSERT_EQ(hosts().size(), 1U);
  service_.mode = "off";
  fast_.reconcile(two(false), 110 * kSecond);
  refused_ = {"DELETE filter"};
  fast_.reconcile(two(false), 120 * kSecond);
  EXPECT_THAT(fast_.trouble(), HasSubstr("403"));
  EXPECT_EQ(hosts().size(), 1U);
  refused_.clear();
  const MonotonicNs next = fast_.reconcile(two(false), 121 * kSecond);
  EXPECT_TRUE(hosts().empty());
  EXPECT_EQ(fast_.trouble(), "");
  EXPECT_EQ(next, 0U);
}

TEST_F(ServiceReconcilerTest, ASweepRemovesWhatAPredecessorLeft) {
  adopt_by_route();
  ServiceReconciler successor(*client_, {});
  ASSERT_TRUE(successor.sweep(200 * kSecond).ok());
  EXPECT_THAT(log(), ElementsAre("DELETE route"));
  EXPECT_FALSE(successor.hand_back(200 * kSecond + 1));
  EXPECT_TRUE(successor.hand_back(202 * kSecond));
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  EXPECT_TRUE(objects_.empty());
}

TEST_F(ServiceReconcilerTest, ASweepRemovesEntriesOfOwnHostsAtOnce) {
  adopt();
  ServiceReconciler successor(*client_, {});
  ASSERT_TRUE(successor.sweep(200 * kSecond).ok());
  EXPECT_THAT(log(), ElementsAre("DELETE entry"));
  EXPECT_EQ(successor.managed(), 0U);
}

TEST_F(ServiceReconcilerTest, ReleaseByHandWorksWithoutALeader) {
  adopt_by_route();
  const auto removed = release_by_hand(*client_, "ballast-system", "ballast-leader", "*");
  ASSERT_TRUE(removed.ok()) << removed.error().message;
  EXPECT_EQ(*removed, 2);
  EXPECT_THAT(written(), IsEmpty());
}

TEST_F(ServiceReconcilerTest, ReleaseByHandOutlastsAnApiServerThatIsBusy) {
  adopt();
  refused_ = {"GET"};
  refuse_ = 503;
  refusals_ = 3;
  const auto removed = release_by_hand(*client_, "ballast-system", "ballast-leader", "*");
  ASSERT_TRUE(removed.ok()) << removed.error().message;
  EXPECT_EQ(refusals_, 0);
  EXPECT_EQ(*removed, 1);
  EXPECT_THAT(written(), IsEmpty());
}

TEST_F(ServiceReconcilerTest, OfTwoReleasesAtOneTimeBothAreNoted) {
  const std::string lease = "/apis/coordination.k8s.io/v1/namespaces/ballast-system/leases/ballast-leader";
  for (const bool there : {true, false}) {
    objects_.clear();
    if (there) {
      objects_[lease] = {{"metadata", {{"resourceVersion", "1"}, {"generation", 1}}}, {"spec", {}}};
    }
    // Between our look at the Lease and our write.
    meanwhile_ = [&] {
      Json& metadata = objects_[lease]["metadata"];
      metadata["annotations"] = {{kReleasedAnnotation, "shop/other"}};
      metadata["resourceVersion"] = "2";
      metadata["generation"] = 1;
    };
    const auto removed = release_by_hand(*client_, "ballast-system", "ballast-leader", "shop/web");
    EXPECT_TRUE(removed.ok()) << removed.error().message;
    EXPECT_THAT(released(kube::at(objects_[lease], {"metadata", "annotations"})),
                ElementsAre("shop/other", "shop/web"));
  }
}

TEST(KeptTest, WhatIsKeptIsWhatItWasHoweverLong) {
  for (const int endpoints : {0, 3, 500}) {
    Json spec = {{"hosts", {"web.shop.svc.cluster.local"}}, {"endpoints", Json::array()}};
    for (int i = 0; i < endpoints; ++i) {
      spec["endpoints"].push_back({{"address", "10.0.0." + std::to_string(i)}, {"weight", 100 + i}});
    }
    const Kept kept(spec);
    EXPECT_EQ(kept.json(), spec);
    EXPECT_EQ(kept.endpoints(), static_cast<std::size_t>(endpoints));
    EXPECT_TRUE(kept == spec);
    Json other = spec;
    other["hosts"][0] = "api.shop.svc.cluster.local";
    EXPECT_FALSE(kept == other);
    EXPECT_FALSE(kept == Json());
  }
  EXPECT_TRUE(Kept().is_null());
  EXPECT_EQ(Kept(Json()).endpoints(), 0U);
}

}  // namespace
}  // namespace ballast::actuate::istio
