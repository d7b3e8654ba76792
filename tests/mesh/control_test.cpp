// SPDX-License-Identifier: Apache-2.0
//
// Weights, membership and the way back through a real API server, istiod and Envoy.
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <set>
#include <thread>
#include <tuple>

#include "agent/actuate/istio/writer.h"
#include "agent/kube/watch.h"
#include "load.h"
#include "mesh_test.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::Contains;

double ms_since(steady_clock::time_point begun) {
  return std::chrono::duration<double, std::milli>(steady_clock::now() - begun).count();
}

TEST_F(MeshTest, AWeightIsInEnvoyAndEveryPushIsEds) {
  start_web(3);
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({1, 1, 1})).ok());
  ASSERT_TRUE(eventually([&] { return weighted() && proxy_->weights(kWeb).size() == 3; }));
  EXPECT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  std::this_thread::sleep_for(seconds(2));  // what the adoption pushed has been pushed

  const char* asked = std::getenv("BALLAST_MESH_CHANGES");
  const int changes = asked != nullptr ? std::atoi(asked) : 6;
  const auto others = [&] {
    auto taken = proxy_->taken();
    taken.erase("eds");
    return taken;
  };
  const auto before = others();
  for (const auto& [type, count] : before) {
    EXPECT_GT(count, 0) << type << ": it has been given some";
  }
  const double eds = plane()->pushes("eds");
  const double merged = proxy_->stat("cluster_manager.cluster_updated_via_merge");
  std::vector<double> taken;
  for (int i = 0; static_cast<int>(taken.size()) < changes; ++i) {
    // By a quarter and more: a small change may wait for seconds before it is written.
    const auto guarded = weights({(i % 2 == 0 ? 1.0 : 1.4) + 0.01 * (i % 11), 1, 1.0 + 0.03 * (i % 7)});
    if (expected(guarded) == proxy_->weights(kWeb)) {
      continue;
    }
    const auto begun = steady_clock::now();
    ASSERT_TRUE(sink_->publish(guarded).ok());
    ASSERT_TRUE(
        eventually([&] { return proxy_->weights(kWeb) == expected(guarded); }, seconds(60), milliseconds(2)));
    taken.push_back(ms_since(begun));
    // Istiod's quiet of 100 ms comes to it: Envoy's second is over, and so are the 1.1 s from write to write.
    std::this_thread::sleep_for(milliseconds(1040));
  }
  std::printf("weight written -> in Envoy: p50 %.0f ms, p99 %.0f ms, of %zu changes; eds pushes %.0f\n",
              quantile(taken, 0.5), quantile(taken, 0.99), taken.size(), plane()->pushes("eds") - eds);
  figure("weight_changes", static_cast<double>(taken.size()));
  figure("weight_p50_ms", quantile(taken, 0.5));
  figure("weight_p99_ms", quantile(taken, 0.99));
  if (changes >= 100) {
    EXPECT_LE(quantile(taken, 0.5), 120);
    EXPECT_LE(quantile(taken, 0.99), 160);
  }
  EXPECT_GE(plane()->pushes("eds") - eds, static_cast<double>(taken.size()) * 0.5);
  EXPECT_EQ(proxy_->stat("cluster_manager.cluster_updated_via_merge"), merged)
      << "Envoy held weights back from its workers";
  EXPECT_EQ(others(), before) << "pushes while only weights changed";
}

TEST_F(MeshTest, TrafficSplitsAsTheWeightsSay) {
  start_web(3);
  sink_ = make_sink("a");
  const auto guarded = weights({4, 2, 1});
  ASSERT_TRUE(sink_->publish(guarded).ok());
  ASSERT_TRUE(eventually([&] { return weighted() && proxy_->weights(kWeb) == expected(guarded); }));
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  // A push of the adoption that is still to come makes the cluster anew, with counters at zero.
  std::this_thread::sleep_for(seconds(2));
  const auto before = proxy_->requests(kWeb);
  constexpr int kRequests = 700;
  for (int i = 0; i < kRequests; ++i) {
    ASSERT_EQ(proxy_->get(kWeb), 200);
  }
  auto after = proxy_->requests(kWeb);
  double sum = 0;
  for (const auto& [address, weight] : expected(guarded)) {
    sum += weight;
  }
  for (const auto& [address, weight] : expected(guarded)) {
    const double share = weight / sum;
    const double got = static_cast<double>(after[address] - before.at(address));
    // Weighted least-request with one request at a time is EDF, which is tighter than binomial.
    const double bound = 2.576 * std::sqrt(kRequests * share * (1 - share)) + 1;
    std::printf("split %s: %.0f of %d requests at share %.3f\n", address.c_str(), got, kRequests, share);
    EXPECT_NEAR(got, kRequests * share, bound);
  }
}

TEST_F(MeshTest, MembershipFollowsTheSlicesWithoutTheLoop) {
  start_web(2);
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({3, 1})).ok());
  ASSERT_TRUE(eventually([&] { return weighted() && proxy_->weights(kWeb).size() == 2; }));
  const std::string first = node_->pods()[0];
  const std::string address = node_->address(first);

  // A pod that is in the slice and not in our entry yet is in the cluster with a weight of 1: as good as
  // away.
  const auto late = [&](const char* what, auto change, std::size_t count) {
    const auto begun = steady_clock::now();
    change();
    EXPECT_TRUE(eventually([&] { return weighted() && proxy_->weights(kWeb).size() == count; }, seconds(60),
                           milliseconds(5)));
    std::printf("%s: in Envoy, weighted, after %.0f ms\n", what, ms_since(begun));
  };
  late(
      "pod not ready", [&] { node_->set_ready(first, false); }, 1);
  EXPECT_FALSE(proxy_->weights(kWeb).contains(address));
  late(
      "pod ready again", [&] { node_->set_ready(first, true); }, 2);
  EXPECT_GT(proxy_->weights(kWeb)[address], proxy_->weights(kWeb)[node_->address(node_->pods()[1])])
      << "with the weight that it had";
  late(
      "pod added", [&] { node_->add_pod("web", {.cpus = 0}); }, 3);
  late(
      "pod deleted", [&] { node_->remove_pod(first); }, 2);
  EXPECT_EQ(proxy_->get(kWeb), 200);
}

/// How far a quantile of so many samples is from the truth, as one standard deviation: by the samples that
/// are one deviation of a rank away on both sides, whatever the distribution is.
double deviation_of_quantile(const std::vector<double>& values, double q) {
  const double ranks = std::sqrt(q * (1 - q) / static_cast<double>(values.size()));
  return (quantile(values, std::min(1.0, q + ranks)) - quantile(values, std::max(0.0, q - ranks))) / 2;
}

/// What the barest writer of an entry could do: it knows beforehand which pod will leave, and when it hears
/// of it from where the others hear, it puts what it has ready, in the form that is cheapest for the API
/// server.
class BareWriter {
 public:
  BareWriter(ControlPlane& plane, Json spec) : plane_(plane), spec_(std::move(spec)) {
    const Json made = plane_.must("POST", kEntries, object());
    version_ = kube::text_at(made, {"metadata", "resourceVersion"});
    auto client = kube::Client::create(plane_.options(plane_.admin_token()));
    EXPECT_TRUE(client.ok());
    client_ = std::move(*client);
    watch_ = std::make_unique<kube::Watch>(
        *client_,
        kube::WatchOptions{.path = "/api/v1/namespaces/shop/pods",
                           .query = "",
                           .metadata_only = true,
                           .changes_only = true,
                           .prompt = true},
        kube::WatchHandler{[this](const Json& pod) {
                             if (!kube::text_at(pod, {"metadata", "deletionTimestamp"}).empty()) {
                               put();
                             }
                           },
                           [](const std::string&) {}, [] {}});
    EXPECT_TRUE(eventually([&] { return watch_->synced(); }));
  }
  ~BareWriter() {
    client_->stop();
    watch_.reset();
    plane_.must("DELETE", kEntries + "/bare");
  }
  BareWriter(const BareWriter&) = delete;
  BareWriter& operator=(const BareWriter&) = delete;

  /// Written at once, or with the next pod that leaves.
  void write(const std::set<std::string>& addresses, bool at_once) {
    {
      const std::lock_guard lock(mutex_);
      Json one = spec_.at("endpoints").at(0);
      Json endpoints = Json::array();
      for (const std::string& address : addresses) {
        one["address"] = address;
        one["weight"] = 100 + endpoints.size();
        endpoints.push_back(one);
      }
      spec_["endpoints"] = std::move(endpoints);
      Json body = object();
      body["metadata"]["resourceVersion"] = version_;
      body["metadata"]["managedFields"] = Json::array({Json::object()});
      ready_ = body.dump();
    }
    if (at_once) {
      put();
    }
  }

 private:
  inline static const std::string kEntries = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries";
  Json object() const {
    return {{"apiVersion", "networking.istio.io/v1"},
            {"kind", "ServiceEntry"},
            {"metadata",
             {{"name", "bare"}, {"labels", {{"networking.istio.io/enable-autoallocate-ip", "false"}}}}},
            {"spec", spec_}};
  }
  void put() {
    const std::lock_guard lock(mutex_);
    if (ready_.empty()) {
      return;  // a pod's last words
    }
    const auto reply = client_->call({.method = "PUT",
                                      .path = kEntries + "/bare?fieldValidation=Ignore",
                                      .body = std::exchange(ready_, ""),
                                      .accept = kube::kMetadata});
    EXPECT_TRUE(reply.ok() && reply->ok()) << (reply ? reply->body : reply.error().message);
    version_ = reply ? kube::text_at(reply->json(), {"metadata", "resourceVersion"}) : "";
  }

  ControlPlane& plane_;
  std::mutex mutex_;
  Json spec_;
  std::string version_;
  std::string ready_;  ///< empty: nothing to write
  std::unique_ptr<kube::Client> client_;
  std::unique_ptr<kube::Watch> watch_;
};

/// The way of a leaving pod from the API server to Envoy: of the same Service with Ballast, plain, and with
/// the barest write of an entry in Ballast's place, in blocks that take turns. Each pod leaves alone, and its
/// time begins when it is asked to end, of which Kubernetes' controller of slices hears as we do.
TEST_F(MeshTest, ALeavingPodIsGoneWhenTheBarestWriterHasTakenItOut) {
  const char* asked = std::getenv("BALLAST_MESH_LEAVES");
  const std::size_t leaves = asked != nullptr ? static_cast<std::size_t>(std::atoi(asked)) : 6;
  const std::size_t block = std::clamp<std::size_t>(leaves / 2, 1, 10);
  if (const Status own = node_->leave_slices_to_the_controller(); !own) {
    GTEST_SKIP() << "*** SKIPPED: " << own.error().message;
  }
  start_web(3, {.cpus = 0, .serve = false});
  ASSERT_TRUE(eventually([&] { return plain() && proxy_->weights(kWeb).size() == 3; }));
  std::unique_ptr<BareWriter> bare;
  const auto addresses = [&] {
    std::set<std::string> out;
    for (const std::string& pod : node_->pods()) {
      out.insert(node_->address(pod));
    }
    return out;
  };
  const auto leave_ms = [&]() -> double {
    const std::string pod = node_->pods()[0];
    const std::string address = node_->address(pod);
    if (bare != nullptr) {
      auto stay = addresses();
      stay.erase(address);
      bare->write(stay, false);
    }
    steady_clock::time_point gone{};
    std::thread watcher([&] {
      // Before istiod has waited (100 ms) nothing can have come, and each look takes from the processor on
      // which the others write.
      std::this_thread::sleep_for(milliseconds(90));
      const bool left =
          eventually([&] { return !proxy_->weights(kWeb).contains(address); }, seconds(60), milliseconds(2));
      EXPECT_TRUE(left);
      gone = steady_clock::now();
    });
    const auto begun = steady_clock::now();
    node_->end_pods({pod});
    watcher.join();
    node_->add_pod("web", {.cpus = 0, .serve = false});
    return std::chrono::duration<double, std::milli>(gone - begun).count();
  };
  enum Arm { kPlain, kBallast, kBare };
  std::vector<double> taken[3];
  Json spec;
  for (int turn = 0; taken[kBare].size() < leaves; ++turn) {
    const Arm arm = static_cast<Arm>(turn % 3);
    if (arm == kBallast) {
      sink_ = make_sink("a");
    } else if (arm == kBare) {
      bare = std::make_unique<BareWriter>(*plane(), spec);
    }
    for (std::size_t i = 0; i < block && taken[arm].size() < leaves; ++i) {
      // Each time: what nobody decides any more is handed back.
      ASSERT_TRUE(arm != kBallast || sink_->publish(weights({3, 2, 1})).ok());
      if (arm == kBare) {
        bare->write(addresses(), true);
      }
      ASSERT_TRUE(eventually([&] {
        return proxy_->weights(kWeb).size() == 3 && (arm == kPlain ? plain() : weighted());
      })) << (sink_ != nullptr ? sink_->trouble() : "");
      std::this_thread::sleep_for(seconds(1));  // what came back is at rest in istiod
      taken[arm].push_back(leave_ms());
    }
    if (arm == kBallast) {
      spec = plane()
                 ->must("GET", "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast")
                 .at("spec");
      sink_->flush();
      sink_.reset();
    }
    bare.reset();
  }
  for (const double q : {0.5, 0.9}) {
    const double ours = quantile(taken[kBallast], q);
    const double without = quantile(taken[kPlain], q);
    const double least = quantile(taken[kBare], q);
    // What chance makes once in a hundred times, of two quantiles that are the same in truth.
    const double spare =
        2.33 * std::hypot(deviation_of_quantile(taken[kBallast], q), deviation_of_quantile(taken[kBare], q));
    const std::string name = "leave_p" + std::to_string(std::lround(100 * q)) + "_ms";
    std::printf(
        "a pod leaves -> gone in Envoy, of %zu: p%.0f %.0f ms with Ballast, %.0f ms with the barest write of "
        "an "
        "entry, %.0f ms without, spare %.0f ms\n",
        leaves, 100 * q, ours, least, without, spare);
    figure(name, ours);
    figure(name + "_bare", least);
    figure(name + "_plain", without);
    figure(name + "_spare", spare);
    // A few tell nothing within a debounce of istiod's, 100 ms.
    EXPECT_LE(ours, least + (leaves >= 100 ? spare : std::max(spare, 100.0)));
  }
}

/// A pod that is taken out by its label (a quarantine, a database's role) and comes back with others.
TEST_F(MeshTest, LabelsThatChangeWhileAPodIsInNoSliceAreItsEndpoints) {
  if (const Status own = node_->leave_slices_to_the_controller(); !own) {
    GTEST_SKIP() << "*** SKIPPED: " << own.error().message;
  }
  start_web(2, {.cpus = 0, .serve = false});
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({3, 2})).ok());
  ASSERT_TRUE(eventually([&] { return weighted() && proxy_->weights(kWeb).size() == 2; }));
  const std::string pod = node_->pods()[0];
  const auto label = [&](const Json& labels) {
    plane()->must("PATCH", "/api/v1/namespaces/shop/pods/" + pod, {{"metadata", {{"labels", labels}}}},
                  kube::kMergePatch);
  };
  const auto version = [&]() -> std::string {
    sink_->renew({"shop", "web"});
    const Json entry =
        plane()->must("GET", "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast");
    for (const Json& endpoint : kube::at(entry, {"spec", "endpoints"})) {
      if (kube::text_at(endpoint, {"address"}) == node_->address(pod)) {
        return kube::text_at(endpoint, {"labels", "version"});
      }
    }
    return "in no entry";
  };
  EXPECT_EQ(version(), "v1");
  label({{"app", "away"}});
  ASSERT_TRUE(eventually([&] { return proxy_->weights(kWeb).size() == 1; }));
  EXPECT_EQ(version(), "in no entry");
  label({{"app", "web"}, {"version", "v2"}});
  EXPECT_TRUE(eventually([&] { return version() == "v2"; }, seconds(10))) << version();
}

TEST_F(MeshTest, EndpointsBringTheirPodsLabelsAccountsAndLocalities) {
  start_web(1);
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({1})).ok());
  ASSERT_TRUE(eventually([&] { return managed(); }));
  const Json entry =
      plane()->must("GET", "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast");
  const Json& endpoint = kube::at(entry, {"spec", "endpoints"}).at(0);
  EXPECT_EQ(kube::text_at(endpoint, {"locality"}), "r1/z1/");
  EXPECT_EQ(kube::text_at(endpoint, {"serviceAccount"}), "web");
  EXPECT_EQ(kube::text_at(endpoint, {"labels", "version"}), "v1");
  EXPECT_EQ(kube::at(endpoint, {"ports", "http"}), 8080);
}

TEST_F(MeshTest, HandingBackLeavesEverythingAsItWasFound) {
  start_web(2);
  std::this_thread::sleep_for(milliseconds(300));
  const Json before = service();
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({3, 1})).ok());
  ASSERT_TRUE(eventually([&] { return weighted() && proxy_->get(kWeb) == 200; }));
  int failed = 0;
  std::thread client([&] {
    for (int i = 0; i < 150; ++i) {
      failed += proxy_->get(kWeb) == 200 ? 0 : 1;
      std::this_thread::sleep_for(milliseconds(20));
    }
  });
  sink_->flush();
  client.join();
  EXPECT_EQ(failed, 0) << "requests failed while the Service was handed back";
  EXPECT_EQ(service(), before) << "field by field";
  EXPECT_EQ(entry_status(), 404);
  EXPECT_TRUE(eventually([&] { return plain(); }));
}

TEST_F(MeshTest, WhatCannotBeManagedIsToldByAnEventAndLeftAlone) {
  const std::string services = "/api/v1/namespaces/shop/services";
  const auto with = [&](const char* name, const char* mode, Json spec) {
    plane()->must("POST", services,
                  {{"metadata", {{"name", name}, {"labels", {{"ballast.dev/mode", mode}}}}},
                   {"spec", std::move(spec)}});
  };
  const Json http = Json::array({{{"name", "http"}, {"port", 80}}});
  const Json mixed =
      Json::array({{{"name", "http"}, {"port", 80}}, {{"name", "dns"}, {"port", 53}, {"protocol", "UDP"}}});
  with("bad-mode", "on", {{"selector", {{"app", "x"}}}, {"ports", http}});
  with("no-pods", "active", {{"selector", {{"app", "nobody"}}}, {"ports", http}});
  with("mixed", "active", {{"selector", {{"app", "x"}}}, {"ports", mixed}});
  with("headless", "active", {{"clusterIP", "None"}, {"selector", {{"app", "x"}}}, {"ports", http}});
  with("external", "active", {{"type", "ExternalName"}, {"externalName", "example.com"}});
  plane()->must("PATCH", services + "/mixed",
                {{"metadata", {{"annotations", {{"ballast.dev/by", "route"}}}}}}, kube::kMergePatch);
  const Json before = service("mixed");
  sink_ = make_sink("a");
  const std::map<std::string, std::string> wanted = {{"bad-mode", "BadMode"},
                                                     {"no-pods", "NoReadyEndpoint"},
                                                     {"mixed", "MixedProtocols"},
                                                     {"headless", "Headless"},
                                                     {"external", "ExternalName"}};
  for (const auto& [name, reason] : wanted) {
    // Kubernetes' own Events may be there before.
    std::ignore = eventually([&, &of = name, &wants = reason] {
      const auto said = reasons(of);
      return std::find(said.begin(), said.end(), wants) != said.end();
    });
    EXPECT_THAT(reasons(name), Contains(reason)) << name;
  }
  EXPECT_EQ(service("mixed"), before);
  for (const auto& [name, reason] : wanted) {
    plane()->status_of("DELETE", std::string(services).append("/").append(name));
  }
}

/// A Service with ready endpoints that need not be there: what is written for it is looked at, not used.
void add_on_paper(const std::string& name, const Json& families, const std::map<std::string, Json>& slices) {
  const Json labels = {{"app", "paper"}, {"ballast.dev/mode", "active"}};
  plane()->must("POST", "/api/v1/namespaces/shop/services",
                {{"metadata", {{"name", name}, {"labels", labels}}},
                 {"spec",
                  {{"selector", {{"app", name}}},
                   {"ipFamilies", families},
                   {"ipFamilyPolicy", families.size() > 1 ? "RequireDualStack" : "SingleStack"},
                   {"ports", Json::array({{{"name", "http"}, {"port", 80}}})}}}});
  for (const auto& [family, addresses] : slices) {
    Json endpoints = Json::array();
    for (const Json& address : addresses) {
      endpoints.push_back({{"addresses", Json::array({address})}, {"conditions", {{"ready", true}}}});
    }
    const std::string slice = name.substr(0, 40) + (family == "IPv4" ? "-4" : "-6");
    plane()->must("POST", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
                  {{"metadata",
                    {{"name", slice}, {"labels", {{"app", "paper"}, {"kubernetes.io/service-name", name}}}}},
                   {"addressType", family},
                   {"ports", Json::array({{{"name", "http"}, {"port", 8080}, {"protocol", "TCP"}}})},
                   {"endpoints", endpoints}});
  }
}

TEST_F(MeshTest, TheLongestNameIpv6AndDualStackAreManaged) {
  const std::string longest(63, 'l');
  add_on_paper(longest, {"IPv4"}, {{"IPv4", {"192.0.2.1"}}});
  add_on_paper("six", {"IPv6"}, {{"IPv6", {"2001:db8::1", "2001:db8::2"}}});
  add_on_paper("both", {"IPv4", "IPv6"}, {{"IPv4", {"192.0.2.4"}}, {"IPv6", {"2001:db8::4"}}});
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights_of(longest, {"192.0.2.1"}, {1})).ok());
  ASSERT_TRUE(sink_->publish(weights_of("six", {"2001:db8::1", "2001:db8::2"}, {3, 1})).ok());
  ASSERT_TRUE(sink_->publish(weights_of("both", {"192.0.2.4"}, {1})).ok());
  for (const auto& name : {longest, std::string("six"), std::string("both")}) {
    EXPECT_TRUE(eventually([&] {
      const auto found = reasons(name);
      return std::find(found.begin(), found.end(), "Managed") != found.end();
    })) << name;
  }
  EXPECT_EQ(kube::text_at(entry_endpoints(longest).at(0), {"address"}), "192.0.2.1");
  const Json six = entry_endpoints("six");
  ASSERT_EQ(six.size(), 2U);
  EXPECT_EQ(kube::text_at(six.at(0), {"address"}), "2001:db8::1");
  EXPECT_GT(kube::at(six.at(0), {"weight"}), kube::at(six.at(1), {"weight"}));
  ASSERT_EQ(entry_endpoints("both").size(), 1U) << "the Service's first family, as its clusterIP";
  EXPECT_EQ(kube::text_at(entry_endpoints("both").at(0), {"address"}), "192.0.2.4");
  EXPECT_TRUE(eventually([&] { return proxy_->weights("six.shop.svc.cluster.local").size() == 2; }))
      << "istiod took it and Envoy has it";
  for (const char* path :
       {"/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=app%3Dpaper",
        "/api/v1/namespaces/shop/services?labelSelector=app%3Dpaper"}) {
    plane()->status_of("DELETE", path);
  }
}

/// Istio's own webhook refuses what it takes for wrong. As Istio is installed it sees all that we write: here
/// entries of own hosts, of a shadow host and of a Service that is split, the route, what is left where
/// deleting is refused, and the EnvoyFilter.
TEST_F(MeshTest, IstiosOwnValidationTakesAllThatIsWritten) {
  plane()->istiod().stop(seconds(5));
  ASSERT_TRUE(plane()->start_istiod(false, {}, true).ok());
  const std::string istio = "/apis/networking.istio.io/v1/namespaces/shop/";
  // The CRD's own schema lets a port of no protocol through.
  const Json wrong = {{"apiVersion", "networking.istio.io/v1"},
                      {"kind", "ServiceEntry"},
                      {"metadata", {{"name", "wrong"}}},
                      {"spec",
                       {{"hosts", {"a.example.com"}},
                        {"resolution", "STATIC"},
                        {"ports", Json::array({{{"number", 80}, {"name", "http"}, {"protocol", "NONE"}}})}}}};
  const auto refused =
      plane()->admin().call({.method = "POST", .path = istio + "serviceentries", .body = wrong.dump()});
  ASSERT_TRUE(refused.ok());
  EXPECT_EQ(refused->status, 400);
  EXPECT_THAT(refused->body, testing::HasSubstr("admission webhook")) << "it is asked";

  start_web(3);
  std::vector<std::string> many;
  Json slices;
  for (int i = 0; i < 600; ++i) {
    many.push_back("198.51." + std::to_string(i / 250) + "." + std::to_string(1 + i % 250));
    slices.push_back(many.back());
  }
  add_on_paper("split", {"IPv4"}, {{"IPv4", slices}});
  add_on_paper("routed", {"IPv4"}, {{"IPv4", {"192.0.2.7", "192.0.2.8"}}});
  plane()->must("PATCH", "/api/v1/namespaces/shop/services/routed",
                {{"metadata", {{"annotations", {{"ballast.dev/by", "route"}}}}}}, kube::kMergePatch);
  sink_ = make_sink("a", true, 10, true);
  for (const double first : {3.0, 5.0}) {  // posted, and then put
    const auto guarded = weights({first, 2, 1});
    ASSERT_TRUE(sink_->publish(guarded).ok());
    std::vector<double> shares(many.size(), 1);
    shares[0] = first;
    ASSERT_TRUE(sink_->publish(weights_of("split", many, shares)).ok());
    ASSERT_TRUE(sink_->publish(weights_of("routed", {"192.0.2.7", "192.0.2.8"}, {first, 1})).ok());
    EXPECT_TRUE(eventually([&] { return proxy_->weights(kWeb) == expected(guarded); })) << sink_->trouble();
  }
  EXPECT_TRUE(eventually([&] {
    return managed() && managed("split") && managed("routed") &&
           plane()->status_of("GET", istio + "virtualservices/routed-ballast") == 200 &&
           plane()->status_of("GET", kMergeWindow) == 200;
  })) << sink_->trouble();
  const Json page = plane()->must("GET", istio + "serviceentries");
  std::size_t of_split = 0;
  for (const Json& entry : kube::at(page, {"items"})) {
    of_split += kube::text_at(entry, {"metadata", "name"}).starts_with("split") ? 1 : 0;
  }
  EXPECT_EQ(of_split, 2U) << "600 endpoints";
  EXPECT_EQ(sink_->trouble(), "");
  actuate::istio::Writer writer(plane()->admin(), "ballast-system.ballast-leader");
  for (const auto& [kind, name] :
       {std::pair("VirtualService", "routed-ballast"), std::pair("ServiceEntry", "routed-ballast"),
        std::pair("ServiceEntry", "web-ballast")}) {
    const Status emptied = writer.disarm(kind, "shop", name, "routed.shop.svc.cluster.local");
    EXPECT_TRUE(emptied.ok()) << kind << " " << name << ": " << (emptied.ok() ? "" : emptied.error().message);
  }
  sink_->flush();
  for (const char* path :
       {"/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=app%3Dpaper",
        "/api/v1/namespaces/shop/services?labelSelector=app%3Dpaper"}) {
    plane()->status_of("DELETE", path);
  }
  plane()->istiod().stop(seconds(5));
  ASSERT_TRUE(plane()->start_istiod().ok());
}

/// How often a second the API server lets agents that do not lead look at the Lease, four at once.
double looks_per_s(const std::string& lease) {
  constexpr int kSeconds = 2;
  std::atomic<int> looks{0};
  std::vector<std::thread> agents;
  for (int i = 0; i < 4; ++i) {
    agents.emplace_back([&] {
      const auto client = kube::Client::create(plane()->options(plane()->admin_token()));
      const auto end = steady_clock::now() + seconds(kSeconds);
      while (steady_clock::now() < end) {
        const auto reply = (*client)->call({.path = lease + "?resourceVersion=0"});
        looks += reply && reply->status == 200 ? 1 : 0;
      }
    });
  }
  for (auto& agent : agents) {
    agent.join();
  }
  return looks / static_cast<double>(kSeconds);
}

TEST_F(MeshTest, ManyServicesKeepToTheBudgetOfWrites) {
  const char* asked = std::getenv("BALLAST_MESH_SERVICES");
  const int services = asked != nullptr ? std::atoi(asked) : 120;
  constexpr double kSeconds = 6;
  const auto name = [](int i) { return "many-" + std::to_string(i); };
  const auto addresses = [](int i) {
    std::vector<std::string> list;
    for (int j = 0; j < 10; ++j) {
      list.push_back("198." + std::to_string(18 + i / 250) + "." + std::to_string(i % 250) + "." +
                     std::to_string(j + 1));
    }
    return list;
  };
  for (int i = 0; i < services; ++i) {
    add_on_paper(name(i), {"IPv4"}, {{"IPv4", addresses(i)}});
  }
  sink_ = make_sink("a", true, 10);
  const auto publish = [&](double tilt) {
    for (int i = 0; i < services; ++i) {
      std::vector<double> shares(10, 1);
      shares[0] = tilt;
      ASSERT_TRUE(sink_->publish(weights_of(name(i), addresses(i), shares)).ok());
    }
  };
  publish(1);
  const auto routes = [&] {
    const Json page = plane()->must("GET", "/apis/networking.istio.io/v1/namespaces/shop/serviceentries");
    return kube::at(page, {"items"}).size();
  };
  ASSERT_TRUE(eventually([&] { return routes() == static_cast<std::size_t>(services); }, seconds(120),
                         milliseconds(500)));
  std::this_thread::sleep_for(seconds(4));  // istiod's and Envoy's part of the adoption, and a full budget
  const double writes = static_cast<double>(sink_->writes());
  const double eds = plane()->pushes("eds");
  const double cds = plane()->pushes("cds");
  const double bytes = proxy_->stat("cluster.xds-grpc.upstream_cx_rx_bytes_total");
  const auto begun = steady_clock::now();
  for (int i = 0; ms_since(begun) < kSeconds * 1000; ++i) {
    publish(1.2 + 0.1 * (i % 5));
    std::this_thread::sleep_for(milliseconds(500));
  }
  const double took_s = ms_since(begun) / 1000;
  const double wrote = static_cast<double>(sink_->writes()) - writes;
  std::printf(
      "%d services of 10 endpoints, every weight new every 0.5 s for %.1f s: %.0f writes a second (budget "
      "50 and 100 at once), %.1f EDS and %.1f CDS pushes a second, %.1f KB a second to a proxy\n",
      services, took_s, wrote / took_s, (plane()->pushes("eds") - eds) / took_s,
      (plane()->pushes("cds") - cds) / took_s,
      (proxy_->stat("cluster.xds-grpc.upstream_cx_rx_bytes_total") - bytes) / took_s / 1000);
  const double looks = looks_per_s(kLease);
  std::printf("looks at the Lease from the API server's cache: %.0f a second (5,000 agents need 1,000)\n",
              looks);
  EXPECT_GT(looks, 0);
  figure("lease_looks_per_s", looks);
  figure("services", services);
  figure("writes_per_s", wrote / took_s);
  figure("eds_pushes_per_s", (plane()->pushes("eds") - eds) / took_s);
  figure("kb_per_s_and_proxy",
         (proxy_->stat("cluster.xds-grpc.upstream_cx_rx_bytes_total") - bytes) / took_s / 1000);
  EXPECT_GT(wrote, 50);
  EXPECT_LE(wrote, 100 + 50 * (took_s + 1));
  EXPECT_GT(plane()->pushes("eds") - eds, 2) << "istiod was never left the quiet that it waits for";
  EXPECT_EQ(plane()->pushes("cds"), cds);
  sink_->flush();
  for (const char* path :
       {"/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices?labelSelector=app%3Dpaper",
        "/api/v1/namespaces/shop/services?labelSelector=app%3Dpaper"}) {
    plane()->status_of("DELETE", path);
  }
}

TEST_F(MeshTest, AnotherWriterOnOurObjectsIsUndone) {
  start_web(2);
  sink_ = make_sink("a");
  const auto guarded = weights({3, 1});
  ASSERT_TRUE(sink_->publish(guarded).ok());
  ASSERT_TRUE(eventually([&] { return weighted(); }));
  const std::string entry = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast";
  const Json written =
      plane()->must("PATCH", entry, {{"spec", {{"endpoints", Json::array({{{"address", "10.77.9.9"}}})}}}},
                    kube::kMergePatch);
  EXPECT_TRUE(eventually([&] { return entry_endpoints("web").size() == 2; }));
  EXPECT_TRUE(eventually([&] { return proxy_->weights(kWeb) == expected(guarded); }));
  const auto told = [&] {
    const auto all = reasons("web");
    return std::count(all.begin(), all.end(), "ChangedByOthers");
  };
  EXPECT_TRUE(eventually([&] { return told() == 1; }));
  plane()->must("DELETE", entry);
  EXPECT_TRUE(eventually([&] { return entry_endpoints("web").size() == 2; })) << "made again";
  EXPECT_NE(plane()->must("GET", entry).at("metadata").at("uid"), written.at("metadata").at("uid"));
  EXPECT_TRUE(eventually([&] { return proxy_->weights(kWeb) == expected(guarded); }))
      << "by its own host still: that somebody removed it says nothing of istiod";
  EXPECT_TRUE(eventually([&] { return told() == 2; })) << "of each thing that was done";
  // Without the label that ours are watched by it is no stranger: it is ours by its uid and its owner.
  const std::string uid = entry_uid();
  plane()->must("PATCH", entry, {{"metadata", {{"labels", {{"app.kubernetes.io/managed-by", nullptr}}}}}},
                kube::kMergePatch);
  EXPECT_TRUE(eventually([&] {
    const Json now = plane()->must("GET", entry);
    return kube::text_at(now, {"metadata", "labels", "app.kubernetes.io/managed-by"}) == "ballast";
  }));
  EXPECT_EQ(entry_uid(), uid);
  EXPECT_TRUE(eventually([&] { return told() == 3; }));
  EXPECT_EQ(proxy_->weights(kWeb), expected(guarded));
  const auto said = reasons("web");
  EXPECT_EQ(std::count(said.begin(), said.end(), "HandedBack"), 0);
  const auto again = weights({1, 3});
  ASSERT_TRUE(sink_->publish(again).ok());
  EXPECT_TRUE(eventually([&] { return proxy_->weights(kWeb) == expected(again); })) << "it does not freeze";
}

/// istiod goes by whichever slice it comes upon first: such an address is left to it.
TEST_F(MeshTest, AnAddressOfTwoSlicesThatDisagreeIsInNoEntry) {
  start_web(2);
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({3, 1})).ok());
  ASSERT_TRUE(eventually([&] { return weighted() && entry_endpoints("web").size() == 2; }));
  const std::string slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
  const std::string disputed = node_->address(node_->pods()[0]);
  plane()->must(
      "POST", slices,
      {{"metadata", {{"name", "web-left-behind"}, {"labels", {{"kubernetes.io/service-name", "web"}}}}},
       {"addressType", "IPv4"},
       {"ports", Json::array({{{"name", "http"}, {"port", 8080}, {"protocol", "TCP"}}})},
       {"endpoints", Json::array({{{"addresses", {disputed}}, {"conditions", {{"ready", false}}}}})}});
  const auto stands = [&] {
    const Json endpoints = entry_endpoints("web");
    return std::any_of(endpoints.begin(), endpoints.end(), [&](const Json& endpoint) {
      return kube::text_at(endpoint, {"address"}) == disputed;
    });
  };
  EXPECT_TRUE(eventually([&] { return !stands(); }));
  EXPECT_EQ(entry_endpoints("web").size(), 1U);
  EXPECT_TRUE(eventually([&] {
    sink_->renew({"shop", "web"});
    const auto said = reasons("web");
    return std::find(said.begin(), said.end(), "OddEndpoints") != said.end();
  }));
  EXPECT_EQ(proxy_->get(kWeb), 200);
  EXPECT_FALSE(stands());
  plane()->must("DELETE", slices + "/web-left-behind");
  EXPECT_TRUE(eventually([&] { return stands(); }));
}

/// A pod that has no address yet is in no slice: it is nobody's endpoint, and no reason to wait.
TEST_F(MeshTest, APodWithoutAnAddressIsNoEndpoint) {
  start_web(2);
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({3, 1})).ok());
  ASSERT_TRUE(eventually([&] { return managed() && weighted(); }));
  const std::string pods = "/api/v1/namespaces/shop/pods";
  plane()->must("POST", pods,
                {{"metadata", {{"name", "pending"}, {"labels", {{"app", "web"}}}}},
                 {"spec", {{"containers", Json::array({{{"name", "web"}, {"image", "none"}}})}}}});
  const auto guarded = weights({1, 3});
  ASSERT_TRUE(sink_->publish(guarded).ok());
  EXPECT_TRUE(eventually([&] { return proxy_->weights(kWeb) == expected(guarded); }));
  EXPECT_EQ(entry_endpoints("web").size(), 2U);
  EXPECT_EQ(sink_->trouble(), "");
  plane()->must("DELETE", pods + "/pending?gracePeriodSeconds=0");
}

TEST_F(MeshTest, OfTwoBallastsTheFirstKeepsTheServiceAndTheOtherSaysSo) {
  start_web(2);
  sink_ = make_sink("a");
  const auto guarded = weights({3, 1});
  ASSERT_TRUE(sink_->publish(guarded).ok());
  ASSERT_TRUE(eventually([&] { return managed() && proxy_->weights(kWeb) == expected(guarded); }));
  const std::string entry = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast";
  const Json before = plane()->must("GET", entry);
  auto load = Load::start(50, 8, 0.3);
  ASSERT_NE(load, nullptr);
  actuate::IstioOptions options;
  options.api = plane()->options(plane()->admin_token());
  options.lease.holder = "b";
  options.lease.name = "another-leader";
  options.active = true;
  options.istiod.clear();
  auto other = actuate::IstioSink::create(options);
  ASSERT_TRUE(other.ok());
  ASSERT_TRUE((*other)->publish(weights({1, 3})).ok());
  EXPECT_TRUE(eventually([&] {
    const auto said = reasons("web");
    return std::find(said.begin(), said.end(), "WriteRefused") != said.end();
  }));
  (*other)->flush();  // what it hands back is none of the first's
  const auto out = load->wait();
  EXPECT_GT(out.requests, 100U);
  EXPECT_EQ(out.failed, 0U);
  EXPECT_EQ(plane()->must("GET", entry), before);
  EXPECT_EQ(proxy_->weights(kWeb), expected(guarded));
  plane()->status_of("DELETE",
                     "/apis/coordination.k8s.io/v1/namespaces/ballast-system/leases/another-leader");
}

TEST_F(MeshTest, ALabelThatFlapsUnderLoadFailsNoRequest) {
  start_web(2);
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({3, 1})).ok());
  ASSERT_TRUE(eventually([&] { return managed() && weighted(); }));
  auto load = Load::start(50, 16, 0.3);
  ASSERT_NE(load, nullptr);
  for (int i = 0; i < 12; ++i) {
    plane()->must("PATCH", "/api/v1/namespaces/shop/services/web",
                  {{"metadata", {{"labels", {{"ballast.dev/mode", i % 2 == 0 ? "off" : "active"}}}}}},
                  kube::kMergePatch);
    sink_->renew({"shop", "web"});
    std::this_thread::sleep_for(seconds(1));
  }
  EXPECT_TRUE(eventually([&] {
    const auto said = reasons("web");
    return std::find(said.begin(), said.end(), "Flapping") != said.end();
  }));
  EXPECT_TRUE(eventually([&] { return plain(); })) << "left alone for a minute";
  const auto out = load->wait();
  EXPECT_GT(out.requests, 100U);
  EXPECT_EQ(out.failed, 0U);
}

/// While there is none of the name plain Istio fails requests, too; of the new one none does.
TEST_F(MeshTest, AServiceMadeAgainUnderLoadIsTakenAnew) {
  start_web(2);
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({3, 1})).ok());
  ASSERT_TRUE(eventually([&] { return managed() && weighted(); }));
  const auto entry = [] {
    return plane()->must("GET", "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast");
  };
  const std::string first = kube::text_at(entry(), {"metadata", "uid"});
  auto load = Load::start(50, 4, 0.3);
  ASSERT_NE(load, nullptr);
  std::this_thread::sleep_for(seconds(1));
  const Json before = service();
  plane()->must("DELETE", "/api/v1/namespaces/shop/services/web");
  plane()->must("POST", "/api/v1/namespaces/shop/services",
                {{"metadata", {{"name", "web"}, {"labels", kube::at(before, {"metadata", "labels"})}}},
                 {"spec", kube::at(before, {"spec"})}});
  const auto made = steady_clock::now();
  EXPECT_TRUE(eventually([&] {
    sink_->renew({"shop", "web"});
    const auto said = reasons("web");
    return std::count(said.begin(), said.end(), "Managed") == 2 && managed() && weighted() &&
           kube::text_at(entry(), {"metadata", "uid"}) != first;
  }));
  std::printf("taken anew after %.1f s\n", std::chrono::duration<double>(steady_clock::now() - made).count());
  EXPECT_EQ(load->wait().failed, 0U) << "the API server had both within milliseconds";
  EXPECT_THAT(reasons("web"), testing::Not(Contains("ChangedByOthers")));
}

/// What the operator set at istiod is found by how soon istiod tells of a weight.
TEST_F(MeshTest, TheLoopsProfileIsFoundByMeasuring) {
  start_web(2);
  const auto profile_of = [&](const auto& done) {
    sink_ = make_sink("a");
    EXPECT_TRUE(sink_->publish(weights({3, 1})).ok());
    EXPECT_TRUE(eventually([&] { return weighted(); }));
    for (int i = 0; i < 60 && !done(sink_->loop_profile()); ++i) {
      EXPECT_TRUE(sink_->publish(weights({i % 2 == 0 ? 1.0 : 3.0, 1})).ok());
      std::this_thread::sleep_for(milliseconds(1300));
    }
    std::string profile = sink_->loop_profile();
    std::printf("%s; the turn's delay %.0f ms\n", profile.c_str(), sink_->acknowledgement_delay_s() * 1e3);
    sink_->flush();
    sink_.reset();
    return profile;
  };
  const auto restart = [&](const std::vector<std::string>& env) {
    plane()->istiod().signal(SIGKILL);
    plane()->istiod().wait(seconds(5));
    ASSERT_TRUE(plane()->start_istiod(false, env).ok());
  };
  const auto measured = [](const std::string& profile) {
    return profile.find(" ms to istiod") != std::string::npos;
  };
  const std::string as_it_comes = profile_of(measured);
  EXPECT_THAT(as_it_comes, testing::StartsWith("istio, "));
  EXPECT_THAT(as_it_comes, testing::Not(testing::HasSubstr("debounce")));
  EXPECT_TRUE(measured(as_it_comes)) << as_it_comes;
  ASSERT_NO_FATAL_FAILURE(restart({"PILOT_ENABLE_EDS_DEBOUNCE=false"}));
  // On a busy machine many are late: the first that is not tells.
  const std::string quick = profile_of(
      [](const std::string& profile) { return profile.find("no EDS debounce") != std::string::npos; });
  EXPECT_THAT(quick, testing::StartsWith("istio, no EDS debounce"));
  ASSERT_NO_FATAL_FAILURE(restart({}));
}

}  // namespace
}  // namespace ballast::mesh
