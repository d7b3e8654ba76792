// SPDX-License-Identifier: Apache-2.0
//
// The manifests before a real API server, and their rights: all of them are enough, none is too many.
#include <fmt/format.h>

#include <fstream>
#include <set>

#include "agent/actuate/istio/merge_window.h"
#include "agent/actuate/istio/writer.h"
#include "agent/identity/kubernetes_source.h"
#include "agent/kube/events.h"
#include "agent/kube/installation.h"
#include "core/spec/spec.h"
#include "model/cluster/authority.h"
#include "model/cluster/checkpoint_object.h"
#include "model/cluster/token_proof.h"
#include "model/policy/parameters.h"
#include "whole_test.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr const char* kRoles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ballast";
constexpr const char* kWriterRoles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ballast-writer";
constexpr const char* kLeaseRoles =
    "/apis/rbac.authorization.k8s.io/v1/namespaces/ballast-system/roles/ballast-writer";
constexpr const char* kNodeLeaseRoles =
    "/apis/rbac.authorization.k8s.io/v1/namespaces/ballast-system/roles/ballast";
constexpr const char* kGlobalRoles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ballast-global";
constexpr const char* kGlobalObjectRoles =
    "/apis/rbac.authorization.k8s.io/v1/namespaces/ballast-system/roles/ballast-global";
using Roles = std::vector<std::string>;

constexpr const char* kMergeWindowRoles =
    "/apis/rbac.authorization.k8s.io/v1/namespaces/istio-system/roles/ballast-merge-window";

class RightsTest : public WholeTest {
 protected:
  /// With all that can be chosen, so that every right is there.
  const char* overlay() const override { return "istio-fast"; }
  void SetUp() override {
    WholeTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    plane()->unbind_both();
  }
  void TearDown() override {
    if (plane() != nullptr) {
      plane()->bind_both();
    }
    WholeTest::TearDown();
  }
  /// What the next overlay does not bring and `kubectl apply` does not take away.
  static void TearDownTestSuite() {
    if (!missing() && plane() != nullptr) {
      plane()->status_of("DELETE", kMergeWindowRoles);
      plane()->status_of("DELETE",
                         "/apis/rbac.authorization.k8s.io/v1/namespaces/istio-system/rolebindings/"
                         "ballast-merge-window");
    }
  }
  struct Right {
    std::string group;
    std::string resource;
    std::string verb;
    std::string name;  ///< the one object that it is for; empty: all
    std::string ns;    ///< in which it is looked for
    std::string text() const { return verb + " " + resource; }
    auto operator<=>(const Right&) const = default;
  };
  static std::string namespace_of(const std::string& role) {
    return role == kLeaseRoles || role == kNodeLeaseRoles || role == kGlobalObjectRoles ? "ballast-system"
           : role == kMergeWindowRoles                                                  ? "istio-system"
                                                                                        : "shop";
  }

  /// Every single right that the manifests give, whichever and however many roles give it.
  static std::set<Right> rights(const Roles& roles) {
    std::set<Right> all;
    for (const std::string& role : roles) {
      const Json object = plane()->must("GET", role);
      for (const Json& rule : kube::at(object, {"rules"})) {
        for (const Json& resource : rule.at("resources")) {
          for (const Json& verb : rule.at("verbs")) {
            const std::string name =
                rule.contains("resourceNames") ? rule.at("resourceNames").at(0).get<std::string>() : "";
            all.insert({rule.at("apiGroups").at(0), resource, verb, name, namespace_of(role)});
          }
        }
      }
    }
    return all;
  }
  /// Rules without one right.
  static Json without(const Json& rules, const Right& right) {
    Json left = Json::array();
    for (const Json& rule : rules) {
      for (const Json& resource : rule.at("resources")) {
        Json verbs = Json::array();
        for (const Json& verb : rule.at("verbs")) {
          if (resource != right.resource || verb != right.verb) {
            verbs.push_back(verb);
          }
        }
        if (!verbs.empty()) {
          Json& kept = left.emplace_back(rule);
          kept["resources"] = Json::array({resource});
          kept["verbs"] = verbs;
        }
      }
    }
    return left;
  }
  bool allowed(const Right& right, const std::string& account = "ballast-global") {
    const Json answer = plane()->must("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews",
                                      {{"spec",
                                        {{"user", "system:serviceaccount:ballast-system:" + account},
                                         {"resourceAttributes",
                                          {{"group", right.group},
                                           {"resource", right.resource},
                                           {"verb", right.verb},
                                           {"name", right.name},
                                           {"namespace", right.ns}}}}}});
    return kube::at(answer, {"status", "allowed"}) == true;
  }

  static constexpr const char* kShop = "/apis/networking.istio.io/v1/namespaces/shop/";
  static long status_of_route() {
    return plane()->status_of("GET", std::string(kShop) + "virtualservices/routed-ballast");
  }
  /// A Service that goes by route, whose endpoint names no pod.
  void add_routed(const Json& selector = Json::object()) {
    plane()->must(
        "POST", "/api/v1/namespaces/shop/services",
        {{"metadata",
          {{"name", "routed"},
           {"labels", {{"ballast.dev/mode", "active"}}},
           {"annotations", {{"ballast.dev/by", "route"}}}}},
         {"spec", {{"selector", selector}, {"ports", Json::array({{{"name", "http"}, {"port", 80}}})}}}});
    plane()->must(
        "POST", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
        {{"metadata", {{"name", "routed-1"}, {"labels", {{"kubernetes.io/service-name", "routed"}}}}},
         {"addressType", "IPv4"},
         {"ports", Json::array({{{"name", "http"}, {"port", 8080}, {"protocol", "TCP"}}})},
         {"endpoints", Json::array({{{"addresses", {"192.0.2.7"}}, {"conditions", {{"ready", true}}}}})}});
  }

  /// One life of what talks to the API server: who is on the node, adoption by own host and by route, a
  /// change of weight, another writer, a release by hand, handing back. What was refused on the way, or ""
  /// when nothing was.
  std::string life(bool released_by_hand = true) {
    plane()->status_of("DELETE", kLease);
    std::string refused;
    const auto noted = [&](const std::string& trouble) {
      refused = refused.empty() && trouble.find(": 403") != std::string::npos ? trouble : refused;
      return !refused.empty();
    };
    identity::KubernetesOptions who{.api = api(), .node = ""};  // of no node
    auto pods = identity::KubernetesSource::create(who, clock_);
    actuate::IstioOptions options{.api = api()};
    options.lease.holder = "rights";
    options.lease.duration_s = 3;  // renewed three times in two seconds
    options.active = true;
    options.quiet = milliseconds(20);
    options.apart = milliseconds(20);
    options.settle = milliseconds(50);
    options.istio_fast = true;
    options.istiod.clear();
    auto sink = actuate::IstioSink::create(std::move(options));
    EXPECT_TRUE(pods.ok() && sink.ok());
    const auto stands = [&](auto done) {
      eventually([&] { return noted((*pods)->trouble()) || noted((*sink)->trouble()) || done(); },
                 seconds(5));
      return refused.empty();
    };
    EXPECT_TRUE((*sink)->publish(weights({1, 1})).ok());
    EXPECT_TRUE((*sink)->publish(weights_of("routed", {"192.0.2.7"}, {1})).ok());
    bool whole = stands([&] {
      return (*pods)->synced() && entry_status() == 200 && status_of_route() == 200 &&
             plane()->status_of("GET", kMergeWindow) == 200;
    });
    if (whole) {
      const auto changed = weights({2, 1});
      EXPECT_TRUE((*sink)->publish(changed).ok());
      whole = stands([&] { return written() == expected(changed); });
    }
    if (whole) {
      // Somebody else's changes, which are looked at and written over.
      for (const char* object : {"serviceentries/web-ballast", "virtualservices/routed-ballast"}) {
        plane()->status_of("PATCH", std::string(kShop) + object, {{"spec", {{"exportTo", {"."}}}}},
                           kube::kMergePatch);
      }
      plane()->status_of("PATCH", kMergeWindow, {{"spec", {{"priority", 1}}}}, kube::kMergePatch);
      whole = stands([&] {
        return kube::at(plane()->must("GET", kMergeWindow), {"spec", "priority"}) == -1000 &&
               !kube::at(plane()->must("GET", std::string(kShop) + "serviceentries/web-ballast"), {"spec"})
                    .contains("exportTo") &&
               !kube::at(plane()->must("GET", std::string(kShop) + "virtualservices/routed-ballast"),
                         {"spec"})
                    .contains("exportTo");
      });
    }
    // A watch that is refused says so after its list, an Event after its write, a renewal in its time.
    whole = whole && (eventually([&] { return noted((*pods)->trouble()) || noted((*sink)->trouble()); },
                                 milliseconds(900)),
                      refused.empty());
    if (whole && released_by_hand) {
      auto client = kube::Client::create(api());
      const auto released =
          actuate::istio::release_by_hand(**client, "ballast-system", "ballast-leader", "shop/web");
      noted(released ? "" : released.error().message);
    }
    if (refused.empty()) {
      (*sink)->flush();
      noted((*sink)->trouble());
    }
    return refused;
  }
  /// A node's: whose the pods are, whether it is being uninstalled, and where `dead` says so what a dead
  /// writer left.
  std::string life_of_a_node(bool dead) {
    plane()->status_of("DELETE", kLease);
    if (dead) {
      const fs::path ours = std::exchange(token_, plane()->account_token("ballast-global"));
      actuate::IstioOptions options{.api = api()};
      options.lease.holder = "dead";
      options.lease.duration_s = 3;
      options.active = true;
      options.settle = milliseconds(50);
      options.istiod.clear();
      auto writer = actuate::IstioSink::create(std::move(options));
      EXPECT_TRUE((*writer)->publish(weights({2, 1})).ok());
      EXPECT_TRUE((*writer)->publish(weights_of("routed", {"192.0.2.7"}, {1})).ok());
      EXPECT_TRUE(eventually([&] { return entry_status() == 200 && status_of_route() == 200; }));
      token_ = ours;  // and its end leaves everything
    }
    identity::KubernetesOptions who{.api = api(), .node = node_->name(), .own_alone = true};
    auto pods = identity::KubernetesSource::create(who, clock_);
    auto installation = kube::Installation::follow({.api = api(), .ns = "ballast-system"});
    actuate::IstioOptions options{.api = api()};
    options.lease.holder = "node";
    options.lease.duration_s = 3;
    options.istiod.clear();
    auto sink = actuate::IstioSink::create(std::move(options));
    EXPECT_TRUE(pods.ok() && installation.ok() && sink.ok());
    std::string refused;
    const auto said = [&] {
      for (const std::string& trouble :
           {(*pods)->trouble(), (*installation)->trouble(), (*sink)->trouble()}) {
        refused = trouble.find(": 403") != std::string::npos ? trouble : refused;
      }
      return !refused.empty();
    };
    EXPECT_TRUE(eventually(
        [&] {
          return said() || ((*pods)->synced() && (*installation)->seen() && entry_status() == 404 &&
                            status_of_route() == 404);
        },
        seconds(20)));
    // A watch that is refused says so after its list.
    eventually(said, milliseconds(900));
    EXPECT_FALSE((*sink)->leading());
    if (refused.empty()) {
      // What a start that failed says.
      const auto client = kube::Client::create(api());
      const Status told =
          kube::post_event(**client, {.kind = "Pod", .ns = "ballast-system", .name = "ballastd-1"}, true,
                           "NotStarted", "a test");
      refused = told ? "" : told.error().message;
    }
    return refused;
  }
  /// What ballast-global keeps.
  static void forget_global() {
    for (const char* object : {"secrets/ballast-ca", "configmaps/ballast-ca", "configmaps/ballast-checkpoint",
                               "configmaps/ballast-checkpoint-forecast-1"}) {
      plane()->status_of("DELETE", std::string("/api/v1/namespaces/ballast-system/") + object);
    }
  }
  /// One of ballast-global: its authority made and renewed, its states begun and saved, and a caller looked
  /// at. What was refused on the way, or "" when nothing was.
  std::string life_of_global() {
    forget_global();
    const auto client = kube::Client::create(api());
    EXPECT_TRUE(client.ok());
    // One that lasts so much longer than what is there makes a successor.
    for (const int years : {1, 10}) {
      const auto authority =
          cluster::Authority::open(**client, {.ns = "ballast-system",
                                              .names = {"ballast-global"},
                                              .life = std::chrono::hours(24 * 365 * years)});
      if (!authority) {
        return authority.error().message;
      }
    }
    for (const char* name : {"ballast-checkpoint", "ballast-checkpoint-forecast-1"}) {
      cluster::CheckpointObject store(
          **client, "ballast-system", "rights", [] { return true; }, spec::kParameters, name);
      const auto state = store.load(policy::initial(1));
      if (!state) {
        return state.error().message;
      }
      for (int saved = 0; saved < 2; ++saved) {
        if (const Status written = store.save(*state); !written) {
          return written.error().message;
        }
      }
    }
    cluster::TokenProof proof(**client, {.account = "system:serviceaccount:ballast-system:ballast"});
    std::ifstream file(plane()->account_token("ballast", "ballast-system", "ballast"));
    const std::string token{std::istreambuf_iterator<char>(file), {}};
    const auto node = proof.node_of(token);
    EXPECT_FALSE(node.ok());
    // The token is of no pod here: that is what it finds where it may ask.
    return node.error().message.find("on which node its pod runs") != std::string::npos
               ? ""
               : node.error().message;
  }
  std::map<std::string, std::uint32_t> written() {
    std::map<std::string, std::uint32_t> out;
    for (const Json& endpoint : entry_endpoints("web")) {
      out[kube::text_at(endpoint, {"address"})] = kube::at(endpoint, {"weight"}).get<std::uint32_t>();
    }
    return out;
  }
  kube::ClientOptions api() {
    kube::ClientOptions options = plane()->options(token_);
    options.retry_budget = milliseconds(1000);
    return options;
  }

  fs::path token_;
  SystemClock clock_;
};

TEST_F(RightsTest, TheApiServerTakesEveryOverlay) {
  std::size_t overlays = 0;
  for (const auto& entry : fs::directory_iterator(repository() / "deploy/daemonset/overlays")) {
    const Ended dry = plane()->kubectl({"apply", "--dry-run=server", "-k", entry.path().string()});
    EXPECT_EQ(dry.code, 0) << entry.path() << "\n" << dry.output;
    EXPECT_THAT(dry.output, HasSubstr("daemonset.apps/ballastd"));
    ++overlays;
  }
  const Ended job = plane()->kubectl(
      {"apply", "--dry-run=server", "-k", (repository() / "deploy/daemonset/uninstall").string()});
  EXPECT_EQ(job.code, 0) << job.output;
  // With an own registry, all that is started comes from there: also what uninstalls.
  for (const auto& entry : fs::directory_iterator(repository() / "examples/registry")) {
    const Ended dry = plane()->kubectl({"apply", "--dry-run=server", "-k", entry.path().string()});
    EXPECT_EQ(dry.code, 0) << entry.path() << "\n" << dry.output;
    const Ended made = plane()->kubectl({"kustomize", entry.path().string()});
    EXPECT_THAT(made.output, HasSubstr("image: registry.example/ballast:"));
    EXPECT_THAT(made.output, testing::Not(HasSubstr("localhost/"))) << entry.path();
    ++overlays;
  }
  std::printf("overlays taken by the API server: %zu, and the uninstall job\n", overlays);
}

TEST_F(RightsTest, EveryRightIsNeededAndAllAreEnough) {
  start_web(2);
  add_routed();
  token_ = plane()->account_token("ballast-global");
  EXPECT_EQ(life(), "") << "with all rights";
  EXPECT_EQ(entry_status(), 404);
  EXPECT_EQ(status_of_route(), 404);
  std::size_t needed = 0;
  std::map<std::string, Json> roles;
  const Roles of_writer = {kWriterRoles, kLeaseRoles, kMergeWindowRoles};
  for (const std::string& role : of_writer) {
    roles[role] = plane()->must("GET", role).at("rules");
  }
  const std::set<Right> all = rights(of_writer);
  for (const Right& right : all) {
    for (const auto& [role, rules] : roles) {
      plane()->must("PATCH", role, {{"rules", without(rules, right)}}, kube::kMergePatch);
    }
    EXPECT_TRUE(eventually([&] { return !allowed(right); })) << right.text();
    // Two seconds each: only where it is the one that needs the right.
    const std::string refused =
        life(right.verb == "delete" || right.verb == "update" || right.verb == "patch");
    EXPECT_THAT(refused, HasSubstr("403 (permission missing")) << "nobody needs: " << right.text();
    // Its own words: 'cannot VERB resource "RESOURCE"'.
    EXPECT_THAT(refused, HasSubstr(fmt::format("cannot {} resource \"{}\"", right.verb, right.resource)));
    needed += refused.empty() ? 0 : 1;
    for (const auto& [role, rules] : roles) {
      plane()->must("PATCH", role, {{"rules", rules}}, kube::kMergePatch);
    }
    EXPECT_TRUE(eventually([&] { return allowed(right); })) << right.text();
    for (const char* kind : {"virtualservices", "serviceentries"}) {
      plane()->status_of("DELETE", std::string("/apis/networking.istio.io/v1/namespaces/shop/") + kind);
    }
    plane()->status_of("DELETE", kMergeWindow);
  }
  plane()->status_of("DELETE", "/api/v1/namespaces/shop/services/routed");
  plane()->status_of("DELETE", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/routed-1");
  std::printf("rights in the manifests: %zu, of which a life without is refused and named: %zu\n", all.size(),
              needed);
}

/// A node writes nothing, and takes back what is left where no writer lives.
TEST_F(RightsTest, EveryRightOfANodeIsNeededAndAllAreEnough) {
  start_web(2);
  add_routed({{"app", "routed"}});
  token_ = plane()->account_token("ballast");
  EXPECT_EQ(life_of_a_node(true), "") << "with all rights";
  EXPECT_EQ(entry_status(), 404);
  EXPECT_EQ(status_of_route(), 404);
  const Right create{"networking.istio.io", "serviceentries", "create", "", "shop"};
  EXPECT_FALSE(allowed(create, "ballast"));
  std::map<std::string, Json> roles;
  for (const char* role : {kRoles, kNodeLeaseRoles}) {
    roles[role] = plane()->must("GET", role).at("rules");
  }
  for (const Right& right : rights({kRoles, kNodeLeaseRoles})) {
    for (const auto& [role, rules] : roles) {
      plane()->must("PATCH", role, {{"rules", without(rules, right)}}, kube::kMergePatch);
    }
    EXPECT_TRUE(eventually([&] { return !allowed(right, "ballast"); })) << right.text();
    const std::string refused = life_of_a_node(right.group == "networking.istio.io");
    EXPECT_THAT(refused, HasSubstr(fmt::format("cannot {} resource \"{}\"", right.verb, right.resource)));
    for (const auto& [role, rules] : roles) {
      plane()->must("PATCH", role, {{"rules", rules}}, kube::kMergePatch);
    }
    EXPECT_TRUE(eventually([&] { return allowed(right, "ballast"); })) << right.text();
    for (const char* kind : {"virtualservices", "serviceentries"}) {
      plane()->status_of("DELETE", std::string("/apis/networking.istio.io/v1/namespaces/shop/") + kind);
    }
  }
  plane()->status_of("DELETE", "/api/v1/namespaces/shop/services/routed");
  plane()->status_of("DELETE", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/routed-1");
}

/// Pods and Services of every kind, and what Kubernetes' own controller makes of them.
TEST_F(RightsTest, WhoIsBehindAServiceIsAsKubernetesOwnControllerSays) {
  if (const Status own = node_->leave_slices_to_the_controller(); !own) {
    GTEST_SKIP() << "*** SKIPPED: " << own.error().message;
  }
  const std::string all_pods = "/api/v1/namespaces/shop/pods";
  const std::string all_services = "/api/v1/namespaces/shop/services";
  const auto port = [](const char* name, int number, const char* protocol = "TCP") {
    return Json{{"name", name}, {"containerPort", number}, {"protocol", protocol}};
  };
  std::vector<std::string> made;
  const auto pod = [&](const std::string& name, const Json& ports, const Json& status, bool host = false,
                       const Json& init = Json::array()) {
    plane()->must("POST", all_pods,
                  {{"metadata", {{"name", name}, {"labels", {{"app", "kinds"}, {"pod", name}}}}},
                   {"spec",
                    {{"nodeName", node_->name()},
                     {"hostNetwork", host},
                     {"initContainers", init},
                     {"containers", Json::array({{{"name", "side"}, {"image", "side"}},
                                                 {{"name", "app"}, {"image", "app"}, {"ports", ports}}})}}}});
    plane()->must("PATCH", all_pods + "/" + name + "/status", {{"status", status}}, kube::kMergePatch);
    made.push_back(all_pods + "/" + name);
  };
  const auto status = [](const std::string& address, bool ready, const char* phase = "Running") {
    return Json{{"phase", phase},
                {"podIP", address},
                {"podIPs", Json::array({{{"ip", address}}})},
                {"conditions", Json::array({{{"type", "Ready"}, {"status", ready ? "True" : "False"}}})}};
  };
  const Json http = Json::array({port("http", 8080)});
  pod("ready", http, status("192.0.2.1", true));
  pod("unready", http, status("192.0.2.2", false));
  pod("ending", http, status("192.0.2.3", true));
  plane()->must("DELETE", all_pods + "/ending", {{"gracePeriodSeconds", 300}});
  pod("done", http, status("192.0.2.4", false, "Succeeded"));
  pod("pending", http, {{"phase", "Pending"}});
  pod("host", Json::array({{{"name", "http"}, {"containerPort", 7070}, {"hostPort", 7070}}}),
      status("192.0.2.6", true), true);
  pod("by-udp", Json::array({port("http", 53, "UDP"), port("admin", 8081)}), status("192.0.2.7", true));
  pod("nameless", Json::array(), status("192.0.2.8", true));
  pod("by-sidecar", Json::array(), status("192.0.2.9", true), false,
      Json::array({{{"name", "ends"}, {"image", "i"}, {"ports", Json::array({port("http", 1)})}},
                   {{"name", "stays"},
                    {"image", "i"},
                    {"restartPolicy", "Always"},
                    {"ports", Json::array({port("http", 9090)})}}}));
  Json both = status("192.0.2.10", true);
  both["podIPs"].push_back({{"ip", "2001:db8::a"}});
  pod("both", http, both);
  const auto service = [&](const std::string& name, Json spec) {
    spec["selector"] = spec.contains("selector") ? spec["selector"] : Json{{"app", "kinds"}};
    plane()->must(
        "POST", all_services,
        {{"metadata", {{"name", name}, {"labels", {{"ballast.dev/mode", "active"}}}}}, {"spec", spec}});
    made.push_back(all_services + "/" + name);
  };
  const auto of = [](const char* name, int number, const Json& target) {
    return Json{{"name", name}, {"port", number}, {"targetPort", target}};
  };
  service("by-number", {{"ports", Json::array({of("http", 80, 8080)})}});
  service("by-name", {{"ports", Json::array({of("http", 80, "http"), of("admin", 81, 8082)})}});
  service("by-name-alone", {{"ports", Json::array({of("http", 80, "http")})}});
  service("without-target", {{"ports", Json::array({{{"port", 80}}})}});
  service("early", {{"publishNotReadyAddresses", true}, {"ports", Json::array({of("http", 80, "http")})}});
  service("headless", {{"clusterIP", "None"}, {"ports", Json::array({of("db", 5432, 5433)})}});
  service("portless", {{"clusterIP", "None"}});
  service("one",
          {{"selector", {{"app", "kinds"}, {"pod", "both"}}}, {"ports", Json::array({of("h", 80, "http")})}});
  service("nobody", {{"selector", {{"app", "other"}}}, {"ports", Json::array({of("h", 80, "http")})}});
  service("outside", {{"type", "ExternalName"}, {"externalName", "example.org"}});

  using Known = std::map<std::string, std::string>;
  const auto told = [](const std::vector<kube::Endpoint>& endpoints) {
    Known out;
    for (const kube::Endpoint& endpoint : endpoints) {
      std::string& text = out[endpoint.uid + " " + endpoint.address];
      text += endpoint.ready ? "ready" : "not ready";
      for (const auto& [name, number] : *endpoint.ports) {
        text += " " + name + "=" + std::to_string(number);
      }
    }
    return out;
  };
  std::vector<identity::KubernetesPod> pods;
  const Json listed = plane()->must("GET", all_pods);
  for (const Json& one : kube::at(listed, {"items"})) {
    pods.push_back(identity::parse_pod(one));
  }
  token_ = plane()->account_token("ballast-global");
  const auto client = kube::Client::create(api());
  ASSERT_TRUE(client.ok());
  {
    kube::Catalog catalog(**client);
    EXPECT_TRUE(eventually([&] {
      const auto services = catalog.services();
      return services.size() == 10 && std::all_of(services.begin(), services.end(), [&](const auto& one) {
               return told(one.endpoints) == told(identity::endpoints_of(one, pods));
             });
    }));
    std::size_t compared = 0;
    for (const kube::Service& one : catalog.services()) {
      EXPECT_EQ(told(identity::endpoints_of(one, pods)), told(one.endpoints)) << one.name;
      compared += one.endpoints.size();
    }
    EXPECT_EQ(compared, 7 * 8 + 1U) << "all that have an address, but the one that is done";
    (*client)->stop();
  }
  for (const std::string& path : made) {
    plane()->status_of("DELETE", path, {{"gracePeriodSeconds", 0}});
  }
}

/// By labels and selectors as by EndpointSlices, which its account may not read.
TEST_F(RightsTest, ANodeKnowsItsPodsWithoutEndpointSlices) {
  if (const Status own = node_->leave_slices_to_the_controller(); !own) {
    GTEST_SKIP() << "*** SKIPPED: " << own.error().message;
  }
  start_web(2);
  const std::string first = node_->pods()[0];
  const std::string unready = node_->add_pod("web", {.ready = false});
  node_->add_service("api", "shadow");
  node_->add_pod("api");
  const auto layout = lab::detect_cgroup_layout();
  ASSERT_TRUE(layout.ok());
  const auto source = [&](const char* account, bool own_alone) {
    token_ = plane()->account_token(account);
    auto made = identity::KubernetesSource::create(
        {.api = api(), .node = node_->name(), .cgroup_root = layout->v2, .own_alone = own_alone}, clock_);
    EXPECT_TRUE(made.ok());
    return std::move(*made);
  };
  const auto by_slices = source("ballast-global", false);
  const auto by_labels = source("ballast", true);
  const auto services = [](identity::KubernetesSource& from) {
    std::map<std::string, std::string> out;
    for (const identity::Pod& pod : from.pods()) {
      if (pod.local && pod.declared && pod.container == "app") {
        out[pod.pod] = pod.service + " " + pod.address + ":" + std::to_string(pod.port);
      }
    }
    return out;
  };
  const auto same_with = [&](const std::string& pod, bool in) {
    return eventually([&] {
      const auto found = services(*by_labels);
      return found.size() == 4 && (found.at(pod) != " :0") == in && found == services(*by_slices);
    });
  };
  EXPECT_TRUE(same_with(unready, false)) << by_labels->trouble();
  EXPECT_EQ(services(*by_labels).at(first), "web " + node_->address(first) + ":8080");
  node_->set_ready(unready, true);
  EXPECT_TRUE(same_with(unready, true));
  node_->set_ready(first, false);
  EXPECT_TRUE(same_with(first, false));
  EXPECT_EQ(by_labels->trouble(), "");
  const Right list{"discovery.k8s.io", "endpointslices", "list", "", "shop"};
  EXPECT_FALSE(allowed(list, "ballast"));

  // Of a Service without a selector the slices alone tell: said, until the account may read them there.
  add_routed();
  EXPECT_TRUE(eventually([&] {
    return by_labels->trouble().find("cannot list resource \"endpointslices\"") != std::string::npos;
  })) << by_labels->trouble();
  const std::string roles = "/apis/rbac.authorization.k8s.io/v1/namespaces/shop/";
  plane()->must("POST", roles + "roles",
                {{"metadata", {{"name", "slices"}}},
                 {"rules", Json::array({{{"apiGroups", {"discovery.k8s.io"}},
                                         {"resources", {"endpointslices"}},
                                         {"verbs", {"list", "watch"}}}})}});
  plane()->must(
      "POST", roles + "rolebindings",
      {{"metadata", {{"name", "slices"}}},
       {"roleRef", {{"apiGroup", "rbac.authorization.k8s.io"}, {"kind", "Role"}, {"name", "slices"}}},
       {"subjects",
        Json::array({{{"kind", "ServiceAccount"}, {"name", "ballast"}, {"namespace", "ballast-system"}}})}});
  EXPECT_TRUE(eventually([&] { return by_labels->trouble().empty() && by_labels->synced(); }, seconds(30)))
      << by_labels->trouble();
  for (const std::string& made :
       {roles + "roles/slices", roles + "rolebindings/slices",
        std::string("/api/v1/namespaces/shop/services/routed"),
        std::string("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/routed-1")}) {
    plane()->status_of("DELETE", made);
  }
}

/// Who applies gradients: its certificate, its state, and who calls it.
TEST_F(RightsTest, EveryRightOfTheGlobalNetworkIsNeededAndAllAreEnough) {
  token_ = plane()->account_token("ballast-global");
  EXPECT_EQ(life_of_global(), "") << "with all rights";
  const Roles of_global = {kGlobalRoles, kGlobalObjectRoles};
  std::map<std::string, Json> roles;
  for (const std::string& role : of_global) {
    roles[role] = plane()->must("GET", role).at("rules");
  }
  const std::set<Right> all = rights(of_global);
  EXPECT_EQ(all.size(), 7U);
  for (const Right& right : all) {
    for (const auto& [role, rules] : roles) {
      plane()->must("PATCH", role, {{"rules", without(rules, right)}}, kube::kMergePatch);
    }
    EXPECT_TRUE(eventually([&] { return !allowed(right); })) << right.text();
    const std::string refused = life_of_global();
    EXPECT_THAT(refused, HasSubstr("403 (permission missing")) << "nobody needs: " << right.text();
    EXPECT_THAT(refused, HasSubstr(fmt::format("cannot {} resource \"{}\"", right.verb, right.resource)));
    for (const auto& [role, rules] : roles) {
      plane()->must("PATCH", role, {{"rules", rules}}, kube::kMergePatch);
    }
    EXPECT_TRUE(eventually([&] { return allowed(right); })) << right.text();
  }
  forget_global();
}

/// The account of an agent goes before its pod, and what it then may ask says nothing any more.
TEST_F(RightsTest, AnAgentWhoseRightsWereDeletedKnowsIt) {
  token_ = plane()->account_token("ballast");
  auto installation = kube::Installation::follow({.api = api(), .ns = "ballast-system"});
  ASSERT_TRUE(installation.ok());
  ASSERT_TRUE(eventually([&] { return (*installation)->seen(); })) << (*installation)->trouble();
  EXPECT_EQ((*installation)->going(), "") << "all is there";
  const Ended gone = plane()->uninstall(overlay());
  EXPECT_EQ(gone.code, 0) << gone.output;
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_THAT((*installation)->going(), HasSubstr("the ServiceAccount ballast-global was deleted"))
      << (*installation)->trouble();
  EXPECT_LT(seconds_since(begun), 5);
  const Ended again = plane()->install(overlay());
  EXPECT_EQ(again.code, 0) << again.output;
}

/// Membership fails open: whatever the writer may not do any more, proxies lose a pod that died no more than
/// five seconds later than one of a Service that nobody manages, and no request fails for it afterwards.
TEST_F(RightsTest, WhicheverVerbIsRefusedAPodThatLeftIsGone) {
  constexpr seconds kLate{5};
  const std::string other_host = "other.shop.svc.cluster.local";
  node_->add_service("other", "");
  const std::string other = node_->add_pod("other", {.cpus = 0});
  node_->add_pod("other", {.cpus = 0});
  start_web(3);
  const auto pods = node_->pods();
  const std::string leaving =
      *std::find_if(pods.begin(), pods.end(), [](const std::string& pod) { return pod.starts_with("web-"); });
  std::vector<std::string> addresses;
  for (const std::string& pod : pods) {
    if (pod.starts_with("web-")) {
      addresses.push_back(node_->address(pod));
    }
  }
  token_ = plane()->account_token("ballast-global");
  const Json rules = plane()->must("GET", kWriterRoles).at("rules");
  load_ = start_light_load(1500);
  for (const bool by_route : {false, true}) {
    plane()->must("PATCH", "/api/v1/namespaces/shop/services/web",
                  {{"metadata", {{"annotations", {{"ballast.dev/by", by_route ? Json("route") : Json()}}}}}},
                  kube::kMergePatch);
    // Where the traffic goes now.
    const auto members = [&] { return proxy_->weights(routed_to_shadow() ? kShadow : kWeb); };
    for (const char* verb : {"update", "create", "delete", "get", "list", "watch"}) {
      SCOPED_TRACE(std::string(by_route ? "by route, " : "by own host, ") + verb);
      actuate::IstioOptions options{.api = api()};
      options.lease.holder = verb;
      options.active = true;
      options.istiod.clear();
      auto sink = actuate::IstioSink::create(std::move(options));
      ASSERT_TRUE(sink.ok());
      ASSERT_TRUE((*sink)->publish(weights_of("web", addresses, {3, 1, 1})).ok());
      ASSERT_TRUE(eventually([&] {
        return entry_status() == 200 && (by_route ? routed_to_shadow() : weighted()) && members().size() == 3;
      })) << (*sink)->trouble();
      const auto refuse = [&](const Json& from) {
        Json fewer = from;
        for (const char* kind : {"serviceentries", "virtualservices"}) {
          fewer = without(fewer, {"networking.istio.io", kind, verb, "", "shop"});
        }
        return fewer;
      };
      const auto may = [&] {
        return allowed({"networking.istio.io", "serviceentries", verb, "", "shop"}) ||
               allowed({"networking.istio.io", "virtualservices", verb, "", "shop"});
      };
      plane()->must("PATCH", kWriterRoles, {{"rules", refuse(rules)}}, kube::kMergePatch);
      EXPECT_TRUE(eventually([&] { return !may(); }));
      if (std::string(verb) == "list" || std::string(verb) == "watch") {
        // Streams that are open go on; all have ended by then and were refused.
        std::this_thread::sleep_for(seconds(7));
      }
      const lab::LoadSnapshot before = load_->snapshot();
      node_->end_process(other);
      node_->end_process(leaving);
      node_->set_ready(other, false);
      node_->set_ready(leaving, false);
      const auto begun = std::chrono::steady_clock::now();
      double plainly = 0;
      double ours = 0;
      eventually(
          [&] {
            if (plainly == 0 && !proxy_->weights(other_host).contains(node_->address(other))) {
              plainly = seconds_since(begun);
            }
            if (ours == 0 && !members().empty() && !members().contains(node_->address(leaving))) {
              ours = seconds_since(begun);
            }
            return plainly > 0 && ours > 0;
          },
          seconds(60));
      const lab::LoadSnapshot meanwhile = load_->snapshot();
      ASSERT_GT(plainly, 0);
      EXPECT_GT(ours, 0) << (*sink)->trouble();
      EXPECT_LE(ours, plainly + static_cast<double>(kLate.count())) << (*sink)->trouble();
      // What was under way may end yet.
      std::this_thread::sleep_for(milliseconds(300));
      const std::uint64_t failed_late = load_->failed_so_far();
      std::this_thread::sleep_for(seconds(1));
      EXPECT_EQ(load_->failed_so_far(), failed_late) << "they fail yet";
      EXPECT_GT(load_->snapshot().done, meanwhile.done + 20) << "there is load";
      std::printf("%s refused, %s: gone from Envoy after %.2f s, plainly after %.2f s; %lu requests failed\n",
                  verb, by_route ? "by route" : "by own host", ours, plainly,
                  meanwhile.errors - before.errors);
      plane()->must("PATCH", kWriterRoles, {{"rules", rules}}, kube::kMergePatch);
      EXPECT_TRUE(eventually(may));
      (*sink)->flush();
      EXPECT_EQ(entry_status(), 404) << (*sink)->trouble();
      EXPECT_EQ(route_status(), 404) << (*sink)->trouble();
      sink->reset();
      node_->restart_in_place(other);
      node_->restart_in_place(leaving);
      node_->set_ready(other, true);
      node_->set_ready(leaving, true);
      EXPECT_TRUE(
          eventually([&] { return !routed_to_shadow() && plain() && proxy_->weights(kWeb).size() == 3; }));
    }
  }
  load_->stop();
}

/// Who may write nothing any more cannot hand back: it stops leading, and the nodes do, each of which may.
TEST_F(RightsTest, WhereEveryWriteIsRefusedTheNodesHandBack) {
  constexpr int kLeaseS = 4;
  start_web(2);
  const std::string leaving = node_->pods()[0];
  const auto make = [&](const char* account, const char* holder) {
    token_ = plane()->account_token(account);
    actuate::IstioOptions options{.api = api()};
    options.lease.holder = holder;
    options.lease.duration_s = kLeaseS;
    options.active = account == std::string("ballast-global");
    options.istiod.clear();
    auto sink = actuate::IstioSink::create(std::move(options));
    EXPECT_TRUE(sink.ok());
    return std::move(*sink);
  };
  const auto node = make("ballast", "node");
  const Json rules = plane()->must("GET", kWriterRoles).at("rules");
  Json reads = rules;
  const Right create{"networking.istio.io", "serviceentries", "create", "", "shop"};
  for (const char* resource : {"serviceentries", "virtualservices"}) {
    for (const char* verb : {"create", "update", "delete"}) {
      reads = without(reads, {"networking.istio.io", resource, verb, "", "shop"});
    }
  }
  // Without the rights to read it hears of nothing either, which it takes for deafness after ten seconds.
  struct Arm {
    const char* what;
    Json left;
    bool ends;
    int bound_s;
  };
  for (const Arm& arm :
       {Arm{"writes", reads, false, kLeaseS + 7}, Arm{"all", Json::array(), false, 10 + kLeaseS + 7},
        Arm{"writes, and it ends", reads, true, kLeaseS + 7}}) {
    SCOPED_TRACE(arm.what);
    const auto writer = make("ballast-global", "writer");
    ASSERT_TRUE(writer->publish(weights({3, 1})).ok());
    ASSERT_TRUE(eventually([&] { return weighted() && proxy_->weights(kWeb).size() == 2; }));
    plane()->must("PATCH", kWriterRoles, {{"rules", arm.left}}, kube::kMergePatch);
    EXPECT_TRUE(eventually([&] { return !allowed(create); }));
    const auto begun = std::chrono::steady_clock::now();
    node_->set_ready(leaving, false);
    if (arm.ends) {
      writer->flush();
    }
    EXPECT_TRUE(eventually([&] {
      writer->renew({"shop", "web"});
      return !proxy_->weights(kWeb).contains(node_->address(leaving));
    })) << writer->trouble();
    const double took_s = seconds_since(begun);
    std::printf("every right gone (%s) -> a pod that left is gone from the client's Envoy: %.1f s\n",
                arm.what, took_s);
    EXPECT_LE(took_s, arm.bound_s);
    EXPECT_EQ(entry_status(), 404);
    EXPECT_TRUE(eventually([&] { return plain(); }));
    EXPECT_EQ(node->trouble(), "");
    plane()->must("PATCH", kWriterRoles, {{"rules", rules}}, kube::kMergePatch);
    EXPECT_TRUE(eventually([&] { return allowed(create); }));
    node_->set_ready(leaving, true);
    if (!arm.ends) {
      EXPECT_TRUE(eventually([&] {
        writer->renew({"shop", "web"});
        return weighted() && proxy_->weights(kWeb).size() == 2;
      })) << "and begins anew when it may";
    }
    writer->flush();
    EXPECT_EQ(entry_status(), 404) << writer->trouble();
    EXPECT_TRUE(eventually([&] { return plain() && proxy_->weights(kWeb).size() == 2; }));
  }
}

/// What a writer that died left, and somebody took the label from, is ours to whoever comes after.
TEST_F(RightsTest, WhatLostItsLabelIsSweptAndReleased) {
  start_web(2);
  const std::string entry = std::string(kShop) + "serviceentries/web-ballast";
  for (const bool by_hand : {false, true}) {
    SCOPED_TRACE(by_hand);
    plane()->status_of("DELETE", kLease);
    token_ = plane()->account_token("ballast-global");
    actuate::IstioOptions options{.api = api()};
    options.lease.holder = "dies";
    options.lease.duration_s = 3;
    options.active = true;
    options.istiod.clear();
    auto writer = actuate::IstioSink::create(options);
    ASSERT_TRUE(writer.ok());
    ASSERT_TRUE((*writer)->publish(weights({3, 1})).ok());
    ASSERT_TRUE(eventually([&] { return managed() && weighted(); }));
    writer->reset();  // and leaves everything
    plane()->must("PATCH", entry, {{"metadata", {{"labels", {{"app.kubernetes.io/managed-by", "Helm"}}}}}},
                  kube::kMergePatch);
    if (by_hand) {
      auto client = kube::Client::create(api());
      const auto released =
          actuate::istio::release_by_hand(**client, "ballast-system", "ballast-leader", "*");
      ASSERT_TRUE(released.ok()) << released.error().message;
      EXPECT_EQ(*released, 1);
    } else {
      token_ = plane()->account_token("ballast");
      options.api = api();
      options.lease.holder = "node";
      options.active = false;
      const auto node = actuate::IstioSink::create(options);
      EXPECT_TRUE(eventually([&] { return entry_status() == 404; })) << (*node)->trouble();
    }
    EXPECT_EQ(entry_status(), 404);
    EXPECT_TRUE(eventually([&] { return plain(); }));
  }
}

/// Whatever its rights say: the policy of the manifests, by the account's own token.
TEST_F(RightsTest, ThePolicyHoldsTheWriterToItsOwnObjects) {
  token_ = plane()->account_token("ballast-global");
  auto client = kube::Client::create(api());
  ASSERT_TRUE(client.ok());
  const auto call = [&](const char* method, const std::string& path, const Json& body) {
    const auto reply =
        (*client)->call({.method = method, .path = path, .body = body.is_null() ? "" : body.dump()});
    return reply ? reply->status : 0;
  };
  /// Puts what is there, with this changed; again where istiod wrote its status in between.
  const auto change = [&](const std::string& path, const Json& what) {
    long status = 409;
    for (int tries = 0; status == 409 && tries < 20; ++tries) {
      Json object = plane()->must("GET", path);
      object.merge_patch(what);
      status = call("PUT", path, object);
    }
    return status;
  };
  const auto entry = [](const std::string& name, const Json& labels, const std::string& host) {
    return Json{{"apiVersion", "networking.istio.io/v1"},
                {"kind", "ServiceEntry"},
                {"metadata", {{"name", name}, {"namespace", "shop"}, {"labels", labels}}},
                {"spec",
                 {{"hosts", {host}},
                  {"resolution", "STATIC"},
                  {"ports", Json::array({{{"number", 80}, {"name", "http"}, {"protocol", "HTTP"}}})}}}};
  };
  const std::string all = std::string(kShop) + "serviceentries";
  const Json ours = {{"app.kubernetes.io/managed-by", "ballast"}, {"ballast.dev/service", "web"}};
  // A policy is in force a moment after it is there.
  EXPECT_TRUE(eventually([&] {
    return call("POST", all + "?dryRun=All", entry("early", Json::object(), "a.example.com")) == 422;
  }));
  EXPECT_EQ(call("POST", all, entry("web-ballast", ours, "api.shop.svc.cluster.local")), 422)
      << "another's host";
  EXPECT_EQ(call("POST", all, entry("web", ours, "web.shop.svc.cluster.local")), 422) << "another's name";
  EXPECT_EQ(call("POST", all, entry("web-ballast", ours, "web.shop.svc.cluster.local")), 201);
  EXPECT_EQ(change(all + "/web-ballast", {{"spec", {{"hosts", {"a.example.com"}}}}}), 422);
  EXPECT_EQ(change(all + "/web-ballast", {{"spec", {{"exportTo", {"."}}}}}), 200);
  EXPECT_EQ(call("DELETE", all + "/web-ballast", nullptr), 200);
  const std::string filters = "/apis/networking.istio.io/v1alpha3/namespaces/istio-system/envoyfilters";
  Json filter = actuate::istio::merge_window_filter({"web.shop.svc.cluster.local"}, "istio-system", {});
  EXPECT_EQ(call("POST", filters + "?dryRun=All", filter), 201);
  Json other = filter;
  other["metadata"]["name"] = "ballast-other";
  EXPECT_EQ(call("POST", filters, other), 422) << "another name";
  other = filter;
  other["spec"]["configPatches"][0]["patch"]["value"]["connect_timeout"] = "1s";
  EXPECT_EQ(call("POST", filters, other), 422) << "says more";
  other = filter;
  other["spec"]["configPatches"][0]["applyTo"] = "LISTENER";
  EXPECT_EQ(call("POST", filters, other), 422) << "of listeners";
  other = filter;
  other["spec"]["configPatches"][0]["match"]["cluster"].erase("service");
  EXPECT_EQ(call("POST", filters, other), 422) << "of every cluster";
  plane()->must("POST", all, entry("theirs", {{"app", "x"}}, "a.example.com"));
  EXPECT_EQ(call("DELETE", all + "/theirs", nullptr), 422) << "a foreign object";
  EXPECT_EQ(change(all + "/theirs", {{"metadata", {{"labels", ours}}}}), 422) << "nor made ours first";
  EXPECT_EQ(plane()->status_of("GET", all + "/theirs"), 200);
  // What somebody took the label from is ours by its owner, to be given the label back or deleted.
  const Json owner = {{"apiVersion", "rbac.authorization.k8s.io/v1"},
                      {"kind", "ClusterRole"},
                      {"name", "ballast-writer"},
                      {"uid", plane()->must("GET", kWriterRoles).at("metadata").at("uid")}};
  const auto owned = [&](const std::string& name) {
    Json object = entry(name, {{"ballast.dev/service", "web"}}, "web.shop.svc.cluster.local");
    object["metadata"]["ownerReferences"] = Json::array({owner});
    return object;
  };
  plane()->must("POST", all, owned("web-ballast"));
  EXPECT_EQ(change(all + "/web-ballast", {{"spec", {{"exportTo", {"."}}}}}), 422) << "not without it";
  EXPECT_EQ(change(all + "/web-ballast", {{"metadata", {{"labels", ours}}}}), 200);
  EXPECT_EQ(call("DELETE", all + "/web-ballast", nullptr), 200);
  plane()->must("POST", all, owned("web-ballast"));
  EXPECT_EQ(call("DELETE", all + "/web-ballast", nullptr), 200);
  plane()->must("POST", all, owned("copied"));
  EXPECT_EQ(call("DELETE", all + "/copied", nullptr), 422) << "a user's copy under another name";
  EXPECT_EQ(change(all + "/copied", {{"metadata", {{"labels", ours}}}}), 422);
  EXPECT_EQ(call("POST", all, owned("new-ballast")), 422) << "nothing is made by it";
  // The same of routes.
  const auto route = [](const std::string& name, const Json& labels, const std::string& host) {
    return Json{{"apiVersion", "networking.istio.io/v1"},
                {"kind", "VirtualService"},
                {"metadata", {{"name", name}, {"namespace", "shop"}, {"labels", labels}}},
                {"spec",
                 {{"hosts", {host}},
                  {"http", Json::array({{{"route", Json::array({{{"destination", {{"host", host}}}}})}}})}}}};
  };
  const std::string routes = std::string(kShop) + "virtualservices";
  const std::string host = "web.shop.svc.cluster.local";
  EXPECT_EQ(call("POST", routes, route("web-ballast", ours, "api.shop.svc.cluster.local")), 422)
      << "another's host";
  EXPECT_EQ(call("POST", routes, route("web", ours, host)), 422) << "another's name";
  EXPECT_EQ(call("POST", routes, route("web-ballast", {{"app", "x"}}, host)), 422) << "not said to be ours";
  plane()->must("POST", routes, route("theirs", {{"app", "x"}}, host));
  EXPECT_EQ(change(routes + "/theirs", {{"spec", {{"exportTo", {"."}}}}}), 422) << "a foreign route";
  EXPECT_EQ(change(routes + "/theirs", {{"metadata", {{"labels", ours}}}}), 422) << "nor made ours first";
  EXPECT_EQ(call("DELETE", routes + "/theirs", nullptr), 422) << "a foreign route";
  EXPECT_EQ(kube::at(plane()->must("GET", routes + "/theirs"), {"spec"}),
            route("theirs", {}, host).at("spec"));
  EXPECT_EQ(call("POST", routes, route("web-ballast", ours, host)), 201);
  EXPECT_EQ(change(routes + "/web-ballast", {{"spec", {{"hosts", {"a.example.com"}}}}}), 422);
  EXPECT_EQ(change(routes + "/web-ballast", {{"spec", {{"exportTo", {"."}}}}}), 200);
  EXPECT_EQ(call("DELETE", routes + "/web-ballast", nullptr), 200);
  // A node's account may delete ours, and write nothing, whatever its rights.
  plane()->must("POST", all, entry("web-ballast", ours, "web.shop.svc.cluster.local"));
  token_ = plane()->account_token("ballast");
  client = kube::Client::create(api());
  plane()->must(
      "POST", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
      {{"metadata", {{"name", "generous"}}},
       {"roleRef",
        {{"apiGroup", "rbac.authorization.k8s.io"}, {"kind", "ClusterRole"}, {"name", "ballast-writer"}}},
       {"subjects",
        Json::array({{{"kind", "ServiceAccount"}, {"name", "ballast"}, {"namespace", "ballast-system"}}})}});
  EXPECT_TRUE(eventually([&] {
    return change(all + "/web-ballast", {{"spec", {{"exportTo", {"."}}}}}) == 422;
  }));
  plane()->status_of("DELETE", "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/generous");
  EXPECT_EQ(call("DELETE", all + "/theirs", nullptr), 422) << "a foreign object";
  EXPECT_EQ(call("DELETE", all + "/web-ballast", nullptr), 200);
}

/// `kubectl delete -k` of the whole, with nothing done before: the rights go while all is managed, by own
/// host and by route, and the garbage collector takes what their owner left.
TEST_F(RightsTest, DeletingAllAtOnceLeavesNothingOfOurs) {
  auto collector = plane()->start_controller("garbage-collector-controller");
  if (!collector) {
    GTEST_SKIP() << "*** SKIPPED: " << collector.error().message;
  }
  start_web(2);
  add_routed();
  token_ = plane()->account_token("ballast-global");
  actuate::IstioOptions options{.api = api()};
  options.lease.holder = "uninstalled";
  options.active = true;
  options.istio_fast = true;
  options.istiod.clear();
  auto sink = actuate::IstioSink::create(std::move(options));
  ASSERT_TRUE(sink.ok());
  ASSERT_TRUE((*sink)->publish(weights({3, 1})).ok());
  ASSERT_TRUE((*sink)->publish(weights_of("routed", {"192.0.2.7"}, {1})).ok());
  ASSERT_TRUE(eventually([&] {
    return weighted() && entry_status() == 200 && status_of_route() == 200 &&
           plane()->status_of("GET", kMergeWindow) == 200;
  })) << (*sink)->trouble();
  const auto left = [&] {
    std::string names;
    for (const char* kind : {"v1/serviceentries", "v1/virtualservices", "v1alpha3/envoyfilters"}) {
      const Json all = plane()->must("GET", std::string("/apis/networking.istio.io/") + kind +
                                                "?labelSelector=app.kubernetes.io/managed-by=ballast");
      for (const Json& object : kube::at(all, {"items"})) {
        names += std::string(kind) + kube::key_of(object) + " ";
      }
    }
    return names;
  };
  EXPECT_THAT(left(), testing::AllOf(HasSubstr("serviceentriesshop/web"),
                                     HasSubstr("virtualservicesshop/routed"), HasSubstr("envoyfilters")));
  const auto begun = std::chrono::steady_clock::now();
  const Ended gone = plane()->uninstall(overlay());
  EXPECT_EQ(gone.code, 0) << gone.output;
  EXPECT_TRUE(eventually([&] { return left().empty(); })) << left();
  std::printf("kubectl delete -k begun -> nothing of ours in the cluster: %.1f s\n", seconds_since(begun));
  EXPECT_TRUE(eventually([&] { return plain(); }));
  (*sink)->flush();
  EXPECT_EQ(left(), "");
  plane()->status_of("DELETE", "/api/v1/namespaces/shop/services/routed");
  plane()->status_of("DELETE", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/routed-1");
  const Ended again = plane()->install(overlay());
  EXPECT_EQ(again.code, 0) << again.output;
}

}  // namespace
}  // namespace ballast::mesh
