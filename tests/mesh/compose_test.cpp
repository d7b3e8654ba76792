// SPDX-License-Identifier: Apache-2.0
//
// By its own host a Service is weighed whatever else says how its traffic goes: every cluster, listener and
// route of client, gateway and pod stays as it was, only endpoints move.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <functional>
#include <iterator>
#include <ostream>
#include <sstream>
#include <thread>
#include <tuple>

#include "mesh_test.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kGatewayPort = 8070;
constexpr const char* kIstio = "/apis/networking.istio.io/v1/namespaces/shop/";
constexpr const char* kGatewayApi = "/apis/gateway.networking.k8s.io/v1/namespaces/shop/";

class ComposeTest : public MeshTest {
 protected:
  void SetUp() override {
    MeshTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    make(std::string(kIstio) + "gateways", "networking.istio.io/v1", "Gateway", "edge",
         {{"selector", {{"istio", "ingressgateway"}}},
          {"servers",
           Json::array({{{"port", {{"number", kGatewayPort}, {"name", "http"}, {"protocol", "HTTP"}}},
                         {"hosts", {"*"}}}})}});
    // The pod's own proxy has no certificates here, and would wait for them.
    make("/apis/security.istio.io/v1/namespaces/shop/peerauthentications", "security.istio.io/v1",
         "PeerAuthentication", "plain", {{"mtls", {{"mode", "DISABLE"}}}});
    auto gateway = Proxy::start_gateway(*plane());
    ASSERT_TRUE(gateway.ok()) << gateway.error().message;
    gateway_ = std::move(*gateway);
  }
  void TearDown() override {
    sink_.reset();
    gateway_.reset();
    sidecar_.reset();
    more_sidecars_.clear();
    for (auto path = made_.rbegin(); path != made_.rend(); ++path) {
      plane()->status_of("DELETE", *path);
    }
    MeshTest::TearDown();
  }
  /// An object of the user's, gone with the test.
  void make(const std::string& collection, const char* version, const char* kind, const std::string& name,
            const Json& spec) {
    plane()->must("POST", collection,
                  {{"apiVersion", version}, {"kind", kind}, {"metadata", {{"name", name}}}, {"spec", spec}});
    made_.push_back(collection + "/" + name);
  }
  void make_istio(const char* plural, const char* kind, const std::string& name, const Json& spec) {
    make(std::string(kIstio) + plural, "networking.istio.io/v1", kind, name, spec);
  }
  void start(int pods) {
    start_web(pods);
    start_sidecar();
  }
  /// Of the first pod.
  void start_sidecar(const std::string& more_addresses = "") {
    auto sidecar =
        Proxy::start_sidecar(*plane(), node_->pods()[0], node_->address(node_->pods()[0]) + more_addresses);
    ASSERT_TRUE(sidecar.ok()) << sidecar.error().message;
    sidecar_ = std::move(*sidecar);
  }
  /// A second node, in zone z2.
  void make_node_b() {
    plane()->must(
        "POST", "/api/v1/nodes",
        {{"metadata",
          {{"name", "node-b"},
           {"labels", {{"topology.kubernetes.io/region", "r1"}, {"topology.kubernetes.io/zone", "z2"}}}}}});
    made_.push_back("/api/v1/nodes/node-b");
  }
  using Config = std::map<std::string, Json>;
  std::vector<Config> configs() {
    return {proxy_->everything(), gateway_->everything(), sidecar_->everything()};
  }
  /// As it is when nothing has moved for a while.
  std::vector<Config> settled() {
    auto last = configs();
    auto moved = std::chrono::steady_clock::now();
    const auto end = moved + seconds(60);
    for (auto now = moved; now < end && now - moved < still_; now = std::chrono::steady_clock::now()) {
      std::this_thread::sleep_for(milliseconds(500));
      if (auto is = configs(); is != last) {
        last = std::move(is);
        moved = std::chrono::steady_clock::now();
      }
    }
    return last;
  }
  /// `untouched`: and was it never anything else in between?
  static void expect_same(const std::vector<Config>& is, const std::vector<Config>& was, const char* when,
                          bool untouched = true) {
    static constexpr const char* kWho[] = {"client", "gateway", "pod"};
    for (std::size_t i = 0; i < was.size(); ++i) {
      EXPECT_GT(was[i].size(), 3U) << kWho[i] << ": nothing to compare " << when;
      for (const auto& [name, all] : was[i]) {
        ASSERT_TRUE(is[i].contains(name)) << kWho[i] << ": " << name << " has gone " << when;
        const Json& config = untouched ? all : all.at("config");
        const Json& now = untouched ? is[i].at(name) : is[i].at(name).at("config");
        EXPECT_EQ(now, config) << kWho[i] << ": " << name << " " << when << "\n"
                               << Json::diff(config, now).dump();
      }
      EXPECT_EQ(is[i].size(), was[i].size()) << kWho[i] << " " << when;
    }
  }
  std::vector<const Proxy*> proxies() const { return {proxy_.get(), gateway_.get(), sidecar_.get()}; }
  /// Of a Service's own pods, or of all where there is one Service.
  void publish(const std::vector<std::string>& services, const std::vector<double>& shares) {
    for (const std::string& service : services) {
      std::vector<std::string> addresses;
      for (const auto& pod : node_->pods()) {
        if (pod.starts_with(service + "-") || services.size() == 1) {
          addresses.push_back(node_->address(pod));
        }
      }
      ASSERT_TRUE(sink_->publish(weights_of(service, addresses, shares)).ok());
    }
  }

  /// The heart of it: adopts and moves weights; `services` are managed, over the node's pods.
  void weigh(const std::vector<Config>& before, const std::vector<std::string>& services,
             const std::vector<double>& shares, int changes = 5) {
    std::size_t configured = 0;
    for (const Config& config : before) {
      configured += config.size();
    }
    sink_ = make_sink("a");
    publish(services, shares);
    for (const std::string& service : services) {
      const std::string host = service + ".shop.svc.cluster.local";
      EXPECT_TRUE(eventually([&] {
        const auto weights = proxy_->weights(host);
        return !weights.empty() && weights.begin()->second > 1;
      })) << service;
    }
    expect_same(settled(), before, "once adopted");
    // What is new in kind is a push of everything, that changes nothing; a weight is endpoints alone.
    std::map<std::string, double> pushes;
    for (const char* type : {"cds", "lds", "rds", "eds"}) {
      pushes[type] = plane()->pushes(type);
    }
    const auto updates = [&] {
      std::vector<double> all;
      for (const Proxy* one : {proxy_.get(), gateway_.get()}) {
        for (const char* of : {"cluster_manager.cds", "listener_manager.lds", "http..*.rds..*"}) {
          all.push_back(one->stat(std::string(of) + ".update_success"));
        }
      }
      return all;
    };
    const auto updates_before = updates();
    EXPECT_GT(*std::min_element(updates_before.begin(), updates_before.end() - 1), 0);
    for (int i = 0; i < changes; ++i) {
      std::vector<double> moved = shares;
      moved[0] *= 1.5 + 0.3 * i;
      publish(services, moved);
      std::this_thread::sleep_for(milliseconds(1300));
    }
    publish(services, shares);
    expect_same(settled(), before, "after weights moved");
    EXPECT_EQ(updates(), updates_before) << "client and gateway are told of endpoints alone";
    // istiod recomputes the proxy of a pod whose own endpoint changed (pushPodProxyUpdates), by any
    // ServiceEntry.
    const Json entries = plane()->must("GET", std::string(kIstio) + "serviceentries");
    const auto most = (changes + 1.0) * static_cast<double>(entries.at("items").size());
    for (const char* type : {"cds", "lds", "rds"}) {
      // The writer's own look at istiod asks for clusters, once.
      const double looks = std::string(type) == "cds" ? 1 : 0;
      EXPECT_LE(plane()->pushes(type) - pushes[type], most + looks)
          << type << ": more than one for each change of an entry, to the pod's own";
    }
    EXPECT_GE(plane()->pushes("eds") - pushes["eds"], std::min(changes, 3));
    std::printf("%zu clusters, listeners and routes of three proxies, as they were; eds pushes %.0f\n",
                configured, plane()->pushes("eds") - pushes["eds"]);
  }
  void hand_back(const std::vector<Config>& before, const std::vector<std::string>& hosts = {kWeb},
                 bool untouched = true) {
    sink_->flush();
    expect_same(settled(), before, "after it was handed back", untouched);
    for (const std::string& host : hosts) {
      for (std::size_t i = 0; i < before.size(); ++i) {
        // A Service that is not exported to the gateway's namespace is nothing there.
        const bool sees = before[i].contains("cluster outbound|80||" + host);
        EXPECT_TRUE(sees || i == 1) << host;
        EXPECT_TRUE(!sees || plain(*proxies()[i], host)) << host;
      }
    }
  }
  void roll_out(const std::string& collection, const char* version, const char* kind,
                const std::function<Json(int)>& spec);
  struct Asked {
    std::string subset{};
    int port = 80;
    int requests = 600;
  };
  /// Requests of `get`, counted at the cluster, whose pods have these shares in the order of their names:
  /// within the binomial interval of 99 % of the weights. How many came to it.
  double expect_split(const Proxy& proxy, const std::string& host, const std::vector<double>& shares,
                      const Asked& asked, const std::function<int()>& get) {
    const auto before = proxy.requests(host, asked.port, asked.subset);
    int failed = 0;
    for (int i = 0; i < asked.requests; ++i) {
      failed += get() == 200 ? 0 : 1;
    }
    EXPECT_EQ(failed, 0) << host;
    auto after = proxy.requests(host, asked.port, asked.subset);
    std::vector<std::pair<std::string, double>> got;
    double sum = 0;
    double all = 0;
    for (const auto& pod : node_->pods()) {
      if (const auto one = before.find(node_->address(pod)); one != before.end()) {
        got.emplace_back(pod, static_cast<double>(after[one->first] - one->second));
        all += got.back().second;
      }
    }
    EXPECT_EQ(got.size(), shares.size()) << host << " " << asked.subset;
    for (const double share : shares) {
      sum += share;
    }
    for (std::size_t i = 0; i < std::min(shares.size(), got.size()); ++i) {
      const double share = shares[i] / sum;
      EXPECT_NEAR(got[i].second, all * share, 2.576 * std::sqrt(all * share * (1 - share)) + 1)
          << got[i].first;
      std::printf("%s %s: %.0f of %.0f at share %.3f\n", host.c_str(), got[i].first.c_str(), got[i].second,
                  all, share);
    }
    return all;
  }

  milliseconds still_{2000};
  std::unique_ptr<Proxy> gateway_;
  std::unique_ptr<Proxy> sidecar_;                     ///< of the first pod
  std::vector<std::unique_ptr<Proxy>> more_sidecars_;  ///< of further pods
  std::vector<std::string> made_;
};

/// That a process has used so far.
double cpu_seconds(pid_t pid) {
  std::ifstream stat(fmt::format("/proc/{}/stat", pid));
  std::string text((std::istreambuf_iterator<char>(stat)), {});
  std::istringstream fields(text.substr(text.rfind(')') + 2));
  double user = 0;
  double system = 0;
  std::string skipped;
  for (int i = 0; i < 11; ++i) {
    fields >> skipped;
  }
  fields >> user >> system;
  return (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

/// Every managed pod has a sidecar, as in a mesh. A change of weights is endpoints alone to who calls. To the
/// pods' own proxies istiod, since summer 2026 (pushPodProxyUpdates), sends all that they have once more: it
/// tells a proxy to compute anew what any ServiceEntry's endpoint of its address says, were it the weight
/// alone, and there is no form of an entry that it does not do it for. An istiod that lets no ServiceEntry
/// select pods (PILOT_ENABLE_SERVICEENTRY_SELECT_PODS=false) does not do it.
TEST_F(ComposeTest, WhatAChangeOfWeightsPushesToWhomWhereEveryPodHasASidecar) {
  for (const bool selects : {true, false}) {
    SCOPED_TRACE(selects ? "as istiod comes" : "PILOT_ENABLE_SERVICEENTRY_SELECT_PODS=false");
    if (!selects) {
      plane()->istiod().stop(seconds(5));
      ASSERT_TRUE(plane()->start_istiod(false, {"PILOT_ENABLE_SERVICEENTRY_SELECT_PODS=false"}).ok());
    } else {
      ASSERT_NO_FATAL_FAILURE(start(3));
      for (int i = 1; i < 3; ++i) {
        const std::string pod = node_->pods()[static_cast<std::size_t>(i)];
        auto sidecar = Proxy::start_sidecar(*plane(), pod, node_->address(pod), {}, i);
        ASSERT_TRUE(sidecar.ok()) << sidecar.error().message;
        more_sidecars_.push_back(std::move(*sidecar));
      }
    }
    const std::vector<std::pair<std::string, const Proxy*>> proxies = {{"client", proxy_.get()},
                                                                       {"gateway", gateway_.get()},
                                                                       {"pod 1", sidecar_.get()},
                                                                       {"pod 2", more_sidecars_[0].get()},
                                                                       {"pod 3", more_sidecars_[1].get()}};
    ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200 && plain(); }));
    sink_ = make_sink("a");
    ASSERT_TRUE(sink_->publish(weights({4, 2, 1})).ok());
    ASSERT_TRUE(eventually([&] { return weighted() && managed(); }));
    const auto configured = settled();
    std::map<std::string, std::map<std::string, double>> before;
    for (const auto& [who, proxy] : proxies) {
      before[who] = proxy->taken();
      EXPECT_GT(before[who].at("cds"), 0) << who;
      EXPECT_GT(before[who].at("lds"), 0) << who;
    }
    EXPECT_GT(before["client"].at("rds"), 0);
    const double cpu_s = cpu_seconds(plane()->istiod().pid());
    constexpr int kChanges = 10;
    for (int i = 0; i < kChanges; ++i) {
      const auto guarded = weights({i % 2 == 0 ? 6.0 : 4.0, 2, 1});
      ASSERT_TRUE(sink_->publish(guarded).ok());
      ASSERT_TRUE(eventually([&] { return proxy_->weights(kWeb) == expected(guarded); }));
      std::this_thread::sleep_for(milliseconds(1200));
    }
    std::printf("%d changes of weights: istiod used %.3f s of CPU a change\n", kChanges,
                (cpu_seconds(plane()->istiod().pid()) - cpu_s) / kChanges);
    expect_same(settled(), configured, "after weights moved");
    for (const auto& [who, proxy] : proxies) {
      auto pushed = proxy->taken();
      for (auto& [kind, count] : pushed) {
        count -= before[who].at(kind);
      }
      std::printf("%s: %.0f CDS, %.0f LDS, %.0f RDS, %.0f EDS\n", who.c_str(), pushed["cds"], pushed["lds"],
                  pushed["rds"], pushed["eds"]);
      EXPECT_GE(pushed["eds"], kChanges) << who;
      // Since summer 2026 istiod tells the proxy of a pod of each change of an entry's endpoint at its
      // address.
      if (!selects || istiod_is_before() || !who.starts_with("pod")) {
        EXPECT_EQ(pushed["cds"] + pushed["lds"] + pushed["rds"], 0) << who;
      } else {
        EXPECT_LE(pushed["cds"], kChanges + 1) << who << ": no more than one for each change";
      }
    }
    sink_->flush();
    sink_.reset();
  }
  plane()->istiod().stop(seconds(5));
  ASSERT_TRUE(plane()->start_istiod().ok());
}

TEST_F(ComposeTest, APlainService) {
  ASSERT_NO_FATAL_FAILURE(start(3));
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  const auto before = settled();
  weigh(before, {"web"}, {4, 2, 1});
  EXPECT_EQ(expect_split(*proxy_, kWeb, {4, 2, 1}, {}, [&] { return proxy_->get(kWeb); }), 600);
  hand_back(before);
}

TEST_F(ComposeTest, AUsersVirtualServiceAndDestinationRuleWithSubsets) {
  ASSERT_NO_FATAL_FAILURE(start(2));
  for (int i = 0; i < 2; ++i) {
    node_->add_pod("web", {.cpus = 0, .labels = {{"version", "v2"}}});
  }
  make_istio("destinationrules", "DestinationRule", "users-own",
             {{"host", "web"},
              {"trafficPolicy", {{"loadBalancer", {{"simple", "LEAST_REQUEST"}}}}},
              {"subsets", Json::array({{{"name", "v1"}, {"labels", {{"version", "v1"}}}},
                                       {{"name", "v2"}, {"labels", {{"version", "v2"}}}}})}});
  const auto to = [](const char* subset) {
    return Json::array({{{"destination", {{"host", "web"}, {"subset", subset}}}}});
  };
  make_istio(
      "virtualservices", "VirtualService", "users-own",
      {{"hosts", {"web"}},
       {"http", Json::array({{{"match", Json::array({{{"headers", {{"x-canary", {{"exact", "yes"}}}}}}})},
                              {"route", to("v2")}},
                             {{"retries", {{"attempts", 2}, {"perTryTimeout", "2s"}}},
                              {"timeout", "5s"},
                              {"route", to("v1")}}})}});
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  const auto before = settled();
  weigh(before, {"web"}, {7, 3, 5, 2});
  EXPECT_EQ(expect_split(*proxy_, kWeb, {7, 3}, {.subset = "v1"}, [&] { return proxy_->get(kWeb); }), 600);
  EXPECT_EQ(expect_split(*proxy_, kWeb, {5, 2}, {.subset = "v2"},
                         [&] { return proxy_->get(kWeb, 80, "x-canary: yes\r\n"); }),
            600);
  hand_back(before);
}

TEST_F(ComposeTest, AnHttpRouteOnTheService) {
  if (plane()->status_of("GET", std::string(kGatewayApi) + "httproutes") != 200) {
    GTEST_SKIP() << "*** SKIPPED: the Gateway API's CRDs are not there";
  }
  ASSERT_NO_FATAL_FAILURE(start(3));
  make(
      std::string(kGatewayApi) + "httproutes", "gateway.networking.k8s.io/v1", "HTTPRoute", "users-own",
      {{"parentRefs", Json::array({{{"group", ""}, {"kind", "Service"}, {"name", "web"}, {"port", 80}}})},
       {"rules",
        Json::array({{{"filters",
                       Json::array({{{"type", "ResponseHeaderModifier"},
                                     {"responseHeaderModifier",
                                      {{"set", Json::array({{{"name", "x-routed"}, {"value", "yes"}}})}}}}})},
                      {"backendRefs", Json::array({{{"name", "web"}, {"port", 80}}})}}})}});
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  const auto before = settled();
  weigh(before, {"web"}, {3, 2, 1});
  int routed = 0;
  const auto get = [&] {
    const auto reply = proxy_->ask(kWeb);
    routed += reply.head.find("\r\nx-routed: yes") == std::string::npos ? 0 : 1;
    return reply.status;
  };
  EXPECT_EQ(expect_split(*proxy_, kWeb, {3, 2, 1}, {}, get), 600);
  EXPECT_EQ(routed, 600) << "by the user's route";
  hand_back(before);
}

TEST_F(ComposeTest, AnIngressGatewayWithAVirtualServiceOfItsOwn) {
  ASSERT_NO_FATAL_FAILURE(start(3));
  make_istio("virtualservices", "VirtualService", "edge",
             {{"hosts", {"shop.example.com"}},
              {"gateways", {"edge"}},
              {"http", Json::array({{{"route", Json::array({{{"destination", {{"host", "web"}}}}})}}})}});
  const auto through = [&] { return gateway_->get("shop.example.com", kGatewayPort); };
  ASSERT_TRUE(eventually([&] { return through() == 200 && proxy_->get(kWeb) == 200; }));
  const auto before = settled();
  weigh(before, {"web"}, {4, 2, 1});
  EXPECT_EQ(expect_split(*gateway_, kWeb, {4, 2, 1}, {}, through), 600);
  hand_back(before);
}

/// What a user has of Istio's beside a Service of three pods, of which the last is another version, with
/// another hash of Argo Rollouts' and in another zone; and where requests to the Service have to end.
struct Own {
  const char* name;
  struct Object {
    const char* plural;
    const char* kind;
    Json spec;
  };
  std::vector<Object> objects;
  std::string subset{};        ///< whose cluster takes the requests
  std::vector<double> shares;  ///< of its pods
  double of = 1;               ///< the part of the requests that it takes
  std::string mirror{};        ///< the subset that gets each of them too
  bool fault = false;          ///< a request with x-fault is refused by the user's own fault
  bool only_here = false;      ///< the Service is of its own namespace alone
};
std::ostream& operator<<(std::ostream& out, const Own& own) {
  return out << own.name;
}

Json to_web(const std::string& subset = "") {
  Json destination = {{"host", "web"}};
  if (!subset.empty()) {
    destination["subset"] = subset;
  }
  return Json::array({{{"destination", destination}}});
}
Json subsets(const std::string& label, const std::vector<std::pair<const char*, const char*>>& of) {
  Json all = Json::array();
  for (const auto& [name, value] : of) {
    all.push_back({{"name", name}, {"labels", {{label, value}}}});
  }
  return all;
}
const Json kOutliers = {{"consecutive5xxErrors", 5}, {"interval", "10s"}, {"baseEjectionTime", "30s"}};
/// Of web, for all of its host.
Json rule(const Json& policy) {
  return {{"host", "web"}, {"trafficPolicy", policy}};
}

std::vector<Own> owns() {
  const Json canary_route =
      Json::array({{{"destination", {{"host", "web"}, {"subset", "stable"}}}, {"weight", 80}},
                   {{"destination", {{"host", "web"}, {"subset", "canary"}}}, {"weight", 20}}});
  return {
      {.name = "Mirror",
       .objects = {{"destinationrules",
                    "DestinationRule",
                    {{"host", "web"}, {"subsets", subsets("version", {{"v1", "v1"}, {"v2", "v2"}})}}},
                   {"virtualservices",
                    "VirtualService",
                    {{"hosts", {"web"}},
                     {"http", Json::array({{{"route", to_web("v1")},
                                            {"mirror", {{"host", "web"}, {"subset", "v2"}}},
                                            {"mirrorPercentage", {{"value", 100}}}}})}}}},
       .subset = "v1",
       .shares = {4, 2},
       .mirror = "v2"},
      {.name = "Fault",
       .objects = {{"virtualservices",
                    "VirtualService",
                    {{"hosts", {"web"}},
                     {"http",
                      Json::array(
                          {{{"match", Json::array({{{"headers", {{"x-fault", {{"exact", "yes"}}}}}}})},
                            {"fault", {{"abort", {{"httpStatus", 418}, {"percentage", {{"value", 100}}}}}}},
                            {"route", to_web()}},
                           {{"fault", {{"delay", {{"fixedDelay", "1ms"}, {"percentage", {{"value", 50}}}}}}},
                            {"route", to_web()}}})}}}},
       .shares = {4, 2, 1},
       .fault = true},
      {.name = "Delegate",
       .objects = {{"virtualservices", "VirtualService", {{"http", Json::array({{{"route", to_web()}}})}}},
                   {"virtualservices",
                    "VirtualService",
                    {{"hosts", {"web"}},
                     {"http", Json::array({{{"match", Json::array({{{"uri", {{"prefix", "/"}}}}})},
                                            {"delegate", {{"name", "own-0"}, {"namespace", "shop"}}}}})}}}},
       .shares = {4, 2, 1}},
      {.name = "OutlierDetection",
       .objects = {{"destinationrules", "DestinationRule", rule({{"outlierDetection", kOutliers}})}},
       // Istio's own: with it the zones come in an order.
       .shares = {4, 2, 0}},
      {.name = "Warmup",
       .objects = {{"destinationrules", "DestinationRule",
                    rule({{"loadBalancer",
                           {{"simple", "LEAST_REQUEST"}, {"warmup", {{"duration", "1s"}}}}}})}},
       .shares = {4, 2, 1}},
      {.name = "SidecarScope",
       .objects = {{"sidecars", "Sidecar", {{"egress", Json::array({{{"hosts", {"./*"}}}})}}}},
       .shares = {4, 2, 1}},
      {.name = "ArgoRolloutsSubsets",
       .objects = {{"destinationrules",
                    "DestinationRule",
                    {{"host", "web"},
                     {"subsets", subsets("rollouts-pod-template-hash", {{"stable", "a"}, {"canary", "b"}})}}},
                   {"virtualservices",
                    "VirtualService",
                    {{"hosts", {"web"}},
                     {"http", Json::array({{{"name", "primary"}, {"route", canary_route}}})}}}},
       .subset = "stable",
       .shares = {4, 2},
       .of = 0.8},
      {.name = "ExportTo",
       .objects =
           {{"destinationrules",
             "DestinationRule",
             {{"host", "web"}, {"exportTo", {"."}}, {"subsets", subsets("version", {{"v1", "v1"}})}}},
            {"virtualservices",
             "VirtualService",
             {{"hosts", {"web"}}, {"exportTo", {"."}}, {"http", Json::array({{{"route", to_web("v1")}}})}}}},
       .subset = "v1",
       .shares = {4, 2},
       .only_here = true},
      {.name = "LocalityFailover",
       .objects = {{"destinationrules", "DestinationRule",
                    rule(
                        {{"outlierDetection", kOutliers},
                         {"loadBalancer",
                          {{"localityLbSetting",
                            {{"enabled", true}, {"failoverPriority", {"topology.kubernetes.io/zone"}}}}}}})}},
       .shares = {4, 2, 0}},
      {.name = "LocalityDistribute",
       .objects =
           {{"destinationrules", "DestinationRule",
             rule({{"outlierDetection", kOutliers},
                   {"loadBalancer",
                    {{"localityLbSetting",
                      {{"enabled", true},
                       {"distribute", Json::array({{{"from", "r1/z1/*"},
                                                    {"to", {{"r1/z1/*", 60}, {"r1/z2/*", 40}}}}})}}}}}})}},
       .shares = {40, 20, 40}},
  };
}

class ComposeWithTest : public ComposeTest, public testing::WithParamInterface<Own> {};

TEST_P(ComposeWithTest, WhatTheUserHas) {
  const Own& own = GetParam();
  still_ = seconds(1);
  make_node_b();
  ASSERT_NO_FATAL_FAILURE(start_web(2, {.cpus = 0, .labels = {{"rollouts-pod-template-hash", "a"}}}));
  node_->add_pod(
      "web",
      {.cpus = 0, .labels = {{"version", "v2"}, {"rollouts-pod-template-hash", "b"}}, .node = "node-b"});
  ASSERT_NO_FATAL_FAILURE(start_sidecar());
  if (own.only_here) {
    plane()->must("PATCH", "/api/v1/namespaces/shop/services/web",
                  {{"metadata", {{"annotations", {{"networking.istio.io/exportTo", "."}}}}}},
                  kube::kMergePatch);
  }
  for (std::size_t i = 0; i < own.objects.size(); ++i) {
    make_istio(own.objects[i].plural, own.objects[i].kind, "own-" + std::to_string(i), own.objects[i].spec);
  }
  const auto faulty = [&] { return proxy_->get(kWeb, 80, "x-fault: yes\r\n"); };
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200 && (!own.fault || faulty() == 418); }));
  ASSERT_TRUE(eventually([&] {
    return gateway_->weights(kWeb).empty() == own.only_here &&
           (own.subset.empty() || !proxy_->requests(kWeb, 80, own.subset).empty());
  }));
  const auto before = settled();
  weigh(before, {"web"}, {4, 2, 1}, 1);
  const auto mirrored = [&] {
    double sum = 0;
    for (const auto& [address, requests] : proxy_->requests(kWeb, 80, own.mirror)) {
      sum += static_cast<double>(requests);
    }
    return sum;
  };
  constexpr int kRequests = 500;
  const double at_first = mirrored();
  const double came = expect_split(*proxy_, kWeb, own.shares, {.subset = own.subset, .requests = kRequests},
                                   [&] { return proxy_->get(kWeb); });
  EXPECT_NEAR(came, kRequests * own.of, 2.576 * std::sqrt(kRequests * own.of * (1 - own.of)));
  if (!own.mirror.empty()) {
    EXPECT_TRUE(eventually([&] { return mirrored() - at_first == kRequests; })) << mirrored() - at_first;
  }
  EXPECT_TRUE(!own.fault || faulty() == 418);
  hand_back(before);
}

INSTANTIATE_TEST_SUITE_P(Users, ComposeWithTest, testing::ValuesIn(owns()),
                         [](const auto& tested) { return std::string(tested.param.name); });

/// A Service whose requests the user's route leads to two others, 80:20 and half way 60:40, by the `spec`
/// of the canary's share.
void ComposeTest::roll_out(const std::string& collection, const char* version, const char* kind,
                           const std::function<Json(int)>& spec) {
  for (const char* name : {"web", "web-primary", "web-canary"}) {
    node_->add_service(name, std::string(name) == "web" ? "" : "active");
  }
  node_->add_pod("web-primary", {.cpus = 0});
  node_->add_pod("web-primary", {.cpus = 0});
  node_->add_pod("web-canary", {.cpus = 0});
  ASSERT_NO_FATAL_FAILURE(start_sidecar());
  make(collection, version, kind, "web", spec(20));
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  const auto before = settled();
  const std::vector<std::string> both = {"web-primary", "web-canary"};
  const std::vector<std::string> hosts = {"web-primary.shop.svc.cluster.local",
                                          "web-canary.shop.svc.cluster.local"};
  weigh(before, both, {3, 1});
  // Of the requests that Flagger's split sends to the primary, its pods have their share of the weights.
  const auto expect_both = [&](double canary) {
    constexpr int kRequests = 500;
    const double primary =
        expect_split(*proxy_, hosts[0], {3, 1}, {.requests = kRequests}, [&] { return proxy_->get(kWeb); });
    EXPECT_NEAR(primary, kRequests * (1 - canary), 2.576 * std::sqrt(kRequests * canary * (1 - canary)) + 1)
        << "Flagger's split is Flagger's";
  };
  expect_both(0.2);
  // The roll-out goes on while it is weighed: its route alone is another, and ours says nothing to it.
  plane()->must("PATCH", collection + "/web", {{"spec", spec(40)}}, kube::kMergePatch);
  std::vector<Config> halfway;
  ASSERT_TRUE(eventually([&] { return (halfway = settled()) != before; }));
  for (std::size_t i = 0; i < before.size(); ++i) {
    for (const auto& [name, config] : before[i]) {
      ASSERT_TRUE(halfway[i].contains(name)) << name;
      EXPECT_TRUE(name.starts_with("route_config ") || halfway[i].at(name) == config) << name;
    }
  }
  expect_both(0.4);
  publish(both, {1, 3});
  ASSERT_TRUE(eventually([&] {
    const auto weights = proxy_->weights(hosts[0]);
    return weights.size() == 2 && weights.begin()->second < weights.rbegin()->second;
  }));
  expect_same(settled(), halfway, "after weights moved under the new split");
  hand_back(halfway, hosts);
}

TEST_F(ComposeTest, FlaggersPairInTheMiddleOfARollOut) {
  for (const char* host : {"web-primary", "web-canary"}) {
    make_istio("destinationrules", "DestinationRule", host, {{"host", host}});
  }
  roll_out(std::string(kIstio) + "virtualservices", "networking.istio.io/v1", "VirtualService",
           [](int canary) -> Json {
             Json all = Json::array();
             for (const auto& [host, weight] :
                  {std::pair("web-primary", 100 - canary), std::pair("web-canary", canary)}) {
               all.push_back({{"destination", {{"host", host}}}, {"weight", weight}});
             }
             return {{"hosts", {"web"}}, {"http", Json::array({{{"route", all}}})}};
           });
}

TEST_F(ComposeTest, AnHttpRouteWithWeightedBackends) {
  if (plane()->status_of("GET", std::string(kGatewayApi) + "httproutes") != 200) {
    GTEST_SKIP() << "*** SKIPPED: the Gateway API's CRDs are not there";
  }
  still_ = seconds(1);
  roll_out(std::string(kGatewayApi) + "httproutes", "gateway.networking.k8s.io/v1", "HTTPRoute",
           [](int canary) -> Json {
             const Json parent = {{"group", ""}, {"kind", "Service"}, {"name", "web"}, {"port", 80}};
             Json all = Json::array();
             for (const auto& [name, weight] :
                  {std::pair("web-primary", 100 - canary), std::pair("web-canary", canary)}) {
               all.push_back({{"name", name}, {"port", 80}, {"weight", weight}});
             }
             return {{"parentRefs", Json::array({parent})}, {"rules", Json::array({{{"backendRefs", all}}})}};
           });
}

/// Through a Gateway of the Gateway API whose proxies are the user's own.
TEST_F(ComposeTest, AnHttpRouteThroughAGateway) {
  if (plane()->status_of("GET", std::string(kGatewayApi) + "httproutes") != 200) {
    GTEST_SKIP() << "*** SKIPPED: the Gateway API's CRDs are not there";
  }
  still_ = seconds(1);
  constexpr int kPort = 8071;
  constexpr int kServicePort = 8072;  // there the client's own proxy listens, as for any Service
  const std::string system = "/api/v1/namespaces/istio-system/services";
  const std::string slices = "/apis/discovery.k8s.io/v1/namespaces/istio-system/endpointslices";
  // The proxies are found by their Service.
  plane()->must(
      "POST", system,
      {{"metadata", {{"name", "edge"}}},
       {"spec",
        {{"selector", {{"istio", "ingressgateway"}}},
         {"ports", Json::array({{{"name", "http"}, {"port", kServicePort}, {"targetPort", kPort}}})}}}});
  made_.push_back(system + "/edge");
  plane()->must(
      "POST", slices,
      {{"metadata", {{"name", "edge-1"}, {"labels", {{"kubernetes.io/service-name", "edge"}}}}},
       {"addressType", "IPv4"},
       {"ports", Json::array({{{"name", "http"}, {"port", kPort}, {"protocol", "TCP"}}})},
       {"endpoints", Json::array({{{"addresses", {"10.77.0.3"}}, {"conditions", {{"ready", true}}}}})}});
  made_.push_back(slices + "/edge-1");
  make(
      "/apis/gateway.networking.k8s.io/v1/namespaces/istio-system/gateways", "gateway.networking.k8s.io/v1",
      "Gateway", "edge",
      {{"gatewayClassName", "istio"},
       {"addresses", Json::array({{{"type", "Hostname"}, {"value", "edge.istio-system.svc.cluster.local"}}})},
       {"listeners", Json::array({{{"name", "http"},
                                   {"port", kServicePort},
                                   {"protocol", "HTTP"},
                                   {"allowedRoutes", {{"namespaces", {{"from", "All"}}}}}}})}});
  gateway_.reset();  // istiod looks for a proxy's Services when it comes
  auto gateway = Proxy::start_gateway(*plane());
  ASSERT_TRUE(gateway.ok()) << gateway.error().message;
  gateway_ = std::move(*gateway);
  ASSERT_NO_FATAL_FAILURE(start(3));
  make(std::string(kGatewayApi) + "httproutes", "gateway.networking.k8s.io/v1", "HTTPRoute", "edge",
       {{"parentRefs", Json::array({{{"kind", "Gateway"}, {"name", "edge"}, {"namespace", "istio-system"}}})},
        {"hostnames", {"shop.example.com"}},
        {"rules", Json::array({{{"backendRefs", Json::array({{{"name", "web"}, {"port", 80}}})}}})}});
  const auto through = [&] { return gateway_->get("shop.example.com", kPort); };
  ASSERT_TRUE(eventually([&] { return through() == 200 && proxy_->get(kWeb) == 200; }));
  const auto before = settled();
  weigh(before, {"web"}, {4, 2, 1}, 1);
  EXPECT_EQ(expect_split(*gateway_, kWeb, {4, 2, 1}, {}, through), 600);
  hand_back(before);
}

/// Who relabels running pods moves them from one subset to another: Argo Rollouts does.
TEST_F(ComposeTest, ARelabelledPodGoesToItsSubsetAtOnce) {
  start_web(2);
  node_->add_pod("web", {.cpus = 0, .labels = {{"version", "v2"}}});
  make_istio("destinationrules", "DestinationRule", "users-own",
             {{"host", "web"}, {"subsets", subsets("version", {{"v1", "v1"}, {"v2", "v2"}})}});
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({4, 2, 1})).ok());
  ASSERT_TRUE(eventually([&] { return managed() && weighted(); }));
  const std::string moves = node_->pods()[1];
  const auto weight_in = [&](const char* subset) {
    const auto weights = proxy_->weights_in(std::string("outbound|80|") + subset + "|" + kWeb);
    const auto one = weights.find(node_->address(moves));
    return one == weights.end() ? 0 : one->second;
  };
  const auto in = [&](const char* subset, const char* other) {
    return weight_in(subset) > 1 && weight_in(other) == 0;
  };
  ASSERT_TRUE(eventually([&] { return in("v1", "v2"); }));
  const auto begun = std::chrono::steady_clock::now();
  plane()->must("PATCH", "/api/v1/namespaces/shop/pods/" + moves,
                {{"metadata", {{"labels", {{"version", "v2"}}}}}}, kube::kMergePatch);
  EXPECT_TRUE(eventually([&] { return in("v2", "v1"); }, seconds(5)))
      << weight_in("v1") << " in v1, " << weight_in("v2") << " in v2";
  std::printf("a pod with a new label is in its subset, with its weight, after %.0f ms\n",
              std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count());
}

/// A second port of the Service, and a second Service over the same pods.
TEST_F(ComposeTest, TwoPortsAndTwoServicesOverTheSamePods) {
  start_web(3);
  const Json second = {{"name", "http-second"}, {"port", 81}, {"targetPort", 8080}};
  plane()->must(
      "PATCH", "/api/v1/namespaces/shop/services/web",
      {{"spec", {{"ports", Json::array({{{"name", "http"}, {"port", 80}, {"targetPort", 8080}}, second})}}}},
      kube::kMergePatch);
  Json endpoints = plane()
                       ->must("GET", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-slice")
                       .at("endpoints");
  const auto slice = [&](const char* service, const char* name) {
    plane()->must(
        "POST", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices",
        {{"metadata",
          {{"name", std::string(service) + "-more"}, {"labels", {{"kubernetes.io/service-name", service}}}}},
         {"addressType", "IPv4"},
         {"ports", Json::array({{{"name", name}, {"port", 8080}, {"protocol", "TCP"}}})},
         {"endpoints", endpoints}});
    made_.push_back(std::string("/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/") + service +
                    "-more");
  };
  slice("web", "http-second");
  node_->add_service("other", "active");
  // As a selector that matches them does: the pods' own proxies know that they are of both.
  plane()->must("PATCH", "/api/v1/namespaces/shop/services/other",
                {{"spec", {{"selector", {{"app", "web"}}}}}}, kube::kMergePatch);
  slice("other", "http");
  ASSERT_NO_FATAL_FAILURE(start_sidecar());
  const std::string other = "other.shop.svc.cluster.local";
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200 && proxy_->weights(other).size() == 3; }));
  const auto before = settled();
  weigh(before, {"web"}, {4, 2, 1});
  const auto wanted = expected(weights({4, 2, 1}));
  EXPECT_EQ(proxy_->weights(kWeb, 81), wanted) << "its second port";
  EXPECT_EQ(proxy_->weights(other), wanted)
      << "who is measured as a pod of the first is weighed in the second";
  EXPECT_EQ(expect_split(*proxy_, other, {4, 2, 1}, {}, [&] { return proxy_->get(other); }), 600);
  EXPECT_EQ(expect_split(*proxy_, kWeb, {4, 2, 1}, {.port = 81}, [&] { return proxy_->get(kWeb, 81); }), 600);
  hand_back(before, {kWeb, other});
  EXPECT_EQ(plane()->status_of("GET", std::string(kIstio) + "serviceentries/other-ballast"), 404);
}

/// Without the merge window, where the operator asks for that: one field of the clusters of the managed host,
/// at client, gateway and pod, and nothing else; the user's filter of the same cluster holds.
TEST_F(ComposeTest, WithoutTheMergeWindowOneFieldOfTheHostsClustersDiffers) {
  ASSERT_NO_FATAL_FAILURE(start(3));
  node_->add_service("other", "");
  make_istio(
      "destinationrules", "DestinationRule", "users-own",
      {{"host", "web"}, {"subsets", Json::array({{{"name", "v1"}, {"labels", {{"version", "v1"}}}}})}});
  const auto filter = [&](const std::string& name, const Json& value) {
    make("/apis/networking.istio.io/v1alpha3/namespaces/istio-system/envoyfilters",
         "networking.istio.io/v1alpha3", "EnvoyFilter", name,
         {{"configPatches", Json::array({{{"applyTo", "CLUSTER"},
                                          {"match", {{"context", "ANY"}, {"cluster", {{"service", kWeb}}}}},
                                          {"patch", {{"operation", "MERGE"}, {"value", value}}}}})}});
  };
  filter("users-own", {{"common_lb_config", {{"healthy_panic_threshold", {{"value", 7}}}}}});
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  const auto window = [&] {
    return kube::text_at(proxy_->cluster(kWeb), {"common_lb_config", "update_merge_window"});
  };
  const auto before = settled();
  sink_ = make_sink("a", true, 4, true);
  const auto guarded = weights({4, 2, 1});
  ASSERT_TRUE(sink_->publish(guarded).ok());
  ASSERT_TRUE(eventually([&] { return proxy_->weights(kWeb) == expected(guarded) && window() == "0s"; }));
  const auto now = settled();
  std::size_t differ = 0;
  for (std::size_t i = 0; i < before.size(); ++i) {
    EXPECT_EQ(now[i].size(), before[i].size());
    for (const auto& [name, config] : before[i]) {
      ASSERT_TRUE(now[i].contains(name)) << name;
      if (now[i].at(name).at("config") == config.at("config")) {
        continue;
      }
      ++differ;
      EXPECT_THAT(name, testing::HasSubstr("outbound|80|"));
      EXPECT_THAT(name, testing::EndsWith(kWeb));
      EXPECT_EQ(
          Json::diff(config.at("config"), now[i].at(name).at("config")),
          Json::array({{{"op", "add"}, {"path", "/common_lb_config/update_merge_window"}, {"value", "0s"}}}))
          << name;
    }
  }
  EXPECT_EQ(differ, 6U) << "the host's cluster and its subset's, of three proxies";
  EXPECT_TRUE(eventually([&] { return sink_->loop_profile().starts_with("istio_fast"); }))
      << sink_->loop_profile();
  // Weights come a quarter of a second apart now, and Envoy holds none back.
  const double merged = proxy_->stat("cluster_manager.cluster_updated_via_merge");
  for (int i = 0; i < 12; ++i) {
    ASSERT_TRUE(sink_->publish(weights({i % 2 == 0 ? 1.0 : 4.0, 2, 1})).ok());
    std::this_thread::sleep_for(milliseconds(300));
  }
  const auto last = weights({5, 1, 2});
  ASSERT_TRUE(sink_->publish(last).ok());
  EXPECT_TRUE(eventually([&] { return proxy_->weights(kWeb) == expected(last); }));
  EXPECT_EQ(proxy_->stat("cluster_manager.cluster_updated_via_merge"), merged);
  // What the user says of the window comes after ours.
  filter("users-window", {{"common_lb_config", {{"update_merge_window", "0.5s"}}}});
  EXPECT_TRUE(eventually([&] { return window() == "0.500s"; })) << window();
  plane()->status_of("DELETE", made_.back());
  EXPECT_TRUE(eventually([&] { return window() == "0s"; }));
  hand_back(before, {kWeb}, false);
  EXPECT_EQ(plane()->status_of("GET", kMergeWindow), 404);
}

/// The way of before, where it is asked for.
TEST_F(ComposeTest, ByRouteThroughAShadow) {
  ASSERT_NO_FATAL_FAILURE(start(2));
  plane()->must("PATCH", "/api/v1/namespaces/shop/services/web",
                {{"metadata", {{"annotations", {{"ballast.dev/by", "route"}}}}}}, kube::kMergePatch);
  sink_ = make_sink("a");
  const auto guarded = weights({3, 1});
  ASSERT_TRUE(sink_->publish(guarded).ok());
  ASSERT_TRUE(
      eventually([&] { return routed_to_shadow() && proxy_->weights(kShadow) == expected(guarded); }));
  EXPECT_EQ(proxy_->get(kWeb), 200);
  sink_->flush();
  EXPECT_EQ(route_status(), 404);
  EXPECT_EQ(entry_status(), 404);
  EXPECT_TRUE(eventually([&] { return proxy_->routed_to(kWeb) == "outbound|80||" + kWeb; }));
}

/// Ports as Kubernetes allows them: without a name, their protocol by appProtocol, in whatever case.
TEST_F(ComposeTest, PortsWithoutANameAndWithAppProtocol) {
  ASSERT_NO_FATAL_FAILURE(start(2));
  const Json endpoints =
      plane()
          ->must("GET", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-slice")
          .at("endpoints");
  const auto add = [&](const std::string& name, const Json& port, const char* slice_port) {
    const std::string services = "/api/v1/namespaces/shop/services";
    plane()->must("POST", services,
                  {{"metadata", {{"name", name}, {"labels", {{"ballast.dev/mode", "active"}}}}},
                   {"spec", {{"selector", {{"app", "web"}}}, {"ports", Json::array({port})}}}});
    made_.push_back(services + "/" + name);
    const std::string slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
    plane()->must("POST", slices,
                  {{"metadata", {{"name", name + "-1"}, {"labels", {{"kubernetes.io/service-name", name}}}}},
                   {"addressType", "IPv4"},
                   {"ports", Json::array({{{"name", slice_port}, {"port", 8080}, {"protocol", "TCP"}}})},
                   {"endpoints", endpoints}});
    made_.push_back(slices + "/" + name + "-1");
  };
  add("upper", {{"name", "web"}, {"port", 82}, {"targetPort", 8080}, {"appProtocol", "HTTP"}}, "web");
  add("unnamed", {{"port", 83}, {"targetPort", 8080}, {"appProtocol", "http"}}, "");
  add("unnamedgrpc", {{"port", 84}, {"targetPort", 8080}, {"appProtocol", "grpc"}}, "");
  sink_ = make_sink("a");
  const auto guarded = weights({3, 1});
  ASSERT_TRUE(sink_->publish(guarded).ok());
  const auto wanted = expected(guarded);
  EXPECT_TRUE(eventually([&] { return proxy_->weights(kWeb) == wanted; }));
  EXPECT_TRUE(eventually([&] { return proxy_->weights("upper.shop.svc.cluster.local", 82) == wanted; }))
      << "by its own host";
  for (const auto& [name, port] : {std::pair("unnamed", 83), std::pair("unnamedgrpc", 84)}) {
    const std::string host = std::string(name) + ".shop.svc.cluster.local";
    const std::string shadow = std::string(name) + ".shop.ballast.internal";
    EXPECT_TRUE(eventually([&, port = port] {
      return proxy_->weights(shadow, port) == wanted &&
             proxy_->routed_to(host, port) == "outbound|" + std::to_string(port) + "||" + shadow;
    })) << name
        << ": by route, under a made name";
  }
  // What is counted is requests, not objects.
  for (const auto& [host, port, cluster] :
       {std::tuple("upper.shop.svc.cluster.local", 82, "upper.shop.svc.cluster.local"),
        std::tuple("unnamed.shop.svc.cluster.local", 83, "unnamed.shop.ballast.internal")}) {
    ASSERT_TRUE(eventually([&, host = host, port = port] { return proxy_->get(host, port) == 200; })) << host;
    auto before = proxy_->requests(cluster, port);
    for (int i = 0; i < 400; ++i) {
      ASSERT_EQ(proxy_->get(host, port), 200);
    }
    auto after = proxy_->requests(cluster, port);
    const std::string first = node_->address(node_->pods()[0]);
    EXPECT_NEAR(static_cast<double>(after[first] - before[first]), 300,
                2.576 * std::sqrt(400 * .75 * .25) + 1)
        << host;
  }
}

/// What istiod says of it, asked as the sink asks.
TEST_F(ComposeTest, TheProbeSeesThatItTakes) {
  ASSERT_NO_FATAL_FAILURE(start(2));
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({3, 1})).ok());
  ASSERT_TRUE(eventually([&] { return managed() && weighted(); }));
  using actuate::istio::Takes;
  const auto asked = [] {
    auto seen = actuate::istio::ask_istiod(std::string(kHost) + ":" + std::to_string(kIstiodPort), "shop",
                                           "outbound|80||" + kWeb, seconds(10));
    EXPECT_TRUE(seen.ok()) << seen.error().message;
    return seen ? *seen : std::vector<actuate::istio::ProbedEndpoint>{};
  };
  const auto seen = asked();
  EXPECT_EQ(seen.size(), 4U) << "ours and the Service's own";
  const Json entry =
      plane()->must("GET", "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast");
  EXPECT_EQ(actuate::istio::compare(entry.at("spec"), seen), Takes::kYes);
  Json other = entry.at("spec");
  other["endpoints"][0]["weight"] = 7;
  EXPECT_EQ(actuate::istio::compare(other, seen), Takes::kUnknown) << "a write that is on its way";
  sink_->flush();
  EXPECT_TRUE(eventually([&] { return actuate::istio::compare(entry.at("spec"), asked()) == Takes::kNo; }))
      << "the plain Service's endpoints, as an istiod would tell of them that does not take ours";
}

/// Four pods, two on each node, in an order of the user's.
class FailoverTest : public ComposeTest {
 protected:
  static std::vector<double> only(const std::vector<double>& shares, bool first_two) {
    return first_two ? std::vector<double>{shares[0], shares[1]} : std::vector<double>{shares[2], shares[3]};
  }
  /// `here_first`: the order puts this node's pods before the other's.
  void fails_over(const Json& order, bool here_first) {
    still_ = seconds(1);
    const std::vector<double> shares = {4, 2, 3, 1};
    make_node_b();
    ASSERT_NO_FATAL_FAILURE(start_web(2));
    for (int i = 0; i < 2; ++i) {
      node_->add_pod("web", {.cpus = 0, .node = "node-b"});
    }
    ASSERT_NO_FATAL_FAILURE(start_sidecar());
    make_istio(
        "destinationrules", "DestinationRule", "order",
        rule({{"outlierDetection", kOutliers},
              {"loadBalancer", {{"localityLbSetting", {{"enabled", true}, {"failoverPriority", order}}}}}}));
    const auto pods = node_->pods();
    std::map<std::string, int> ranks;
    for (std::size_t i = 0; i < pods.size(); ++i) {
      ranks[node_->address(pods[i])] = (i < 2) == here_first ? 0 : 1;
    }
    ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200 && proxy_->priorities(kWeb) == ranks; }));
    const auto before = settled();
    std::vector<std::map<std::string, int>> priorities;
    for (const Proxy* proxy : proxies()) {
      priorities.push_back(proxy->priorities(kWeb));
    }
    weigh(before, {"web"}, shares, 1);
    for (std::size_t i = 0; i < proxies().size(); ++i) {
      EXPECT_EQ(proxies()[i]->priorities(kWeb), priorities[i]) << i;
      EXPECT_EQ(proxies()[i]->weights(kWeb), expected(weights(shares))) << i;
    }
    std::vector<double> of_first = shares;
    of_first[here_first ? 2 : 0] = of_first[here_first ? 3 : 1] = 0;
    const auto get = [&] { return proxy_->get(kWeb); };
    EXPECT_EQ(expect_split(*proxy_, kWeb, of_first, {}, get), 600);
    const std::size_t leaves = here_first ? 0 : 2;
    for (std::size_t i = leaves; i < leaves + 2; ++i) {
      node_->set_ready(pods[i], false);
    }
    EXPECT_TRUE(eventually([&] {
      EXPECT_EQ(get(), 200);
      return proxy_->weights(kWeb).size() == 2;
    }));
    EXPECT_EQ(expect_split(*proxy_, kWeb, only(shares, !here_first), {}, get), 600) << "by their weights";
    for (std::size_t i = leaves; i < leaves + 2; ++i) {
      node_->set_ready(pods[i], true);
    }
    EXPECT_TRUE(eventually([&] { return proxy_->priorities(kWeb) == ranks; }));
    hand_back(before, {kWeb}, false);
    EXPECT_EQ(proxy_->priorities(kWeb), ranks);
  }
};

TEST_F(FailoverTest, ByZoneTheOrderStaysAndTheOtherZoneTakesOver) {
  fails_over({"topology.kubernetes.io/zone"}, true);
}

TEST_F(FailoverTest, ByHostnameTheOrderStaysAndTheOtherNodeTakesOver) {
  fails_over({"kubernetes.io/hostname=node-b"}, false);
}

/// A Service of two families with an HTTP and a TCP port: TCP listeners lie at its ClusterIPs.
class TwoFamiliesTest : public ComposeTest {
 protected:
  static std::string six(int i) { return "fd77::" + std::to_string(100 + i); }
  void start_web_of_two_families() {
    still_ = seconds(1);
    node_->add_service("web", "active");
    plane()->must("PATCH", "/api/v1/namespaces/shop/services/web",
                  {{"spec",
                    {{"ipFamilyPolicy", "RequireDualStack"},
                     {"ipFamilies", {"IPv4", "IPv6"}},
                     {"ports", Json::array({{{"name", "http"}, {"port", 80}, {"targetPort", 8080}},
                                            {{"name", "tcp"}, {"port", 9000}, {"targetPort", 8080}}})}}}},
                  kube::kMergePatch);
    Json second = Json::array();
    for (int i = 0; i < 3; ++i) {
      const std::string pod = node_->add_pod("web", {.cpus = 0});
      plane()->must(
          "PATCH", "/api/v1/namespaces/shop/pods/" + pod + "/status",
          {{"status", {{"podIPs", Json::array({{{"ip", node_->address(pod)}}, {{"ip", six(i)}}})}}}},
          kube::kMergePatch);
      const Json object = plane()->must("GET", "/api/v1/namespaces/shop/pods/" + pod);
      second.push_back({{"addresses", {six(i)}},
                        {"nodeName", node_->name()},
                        {"conditions", {{"ready", true}}},
                        {"targetRef",
                         {{"kind", "Pod"},
                          {"namespace", "shop"},
                          {"name", pod},
                          {"uid", kube::text_at(object, {"metadata", "uid"})}}}});
    }
    const Json first = plane()
                           ->must("GET", "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices/web-slice")
                           .at("endpoints");
    const auto slice = [&](const std::string& name, const char* family, const Json& endpoints) {
      const std::string slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
      plane()->must("POST", slices,
                    {{"metadata", {{"name", name}, {"labels", {{"kubernetes.io/service-name", "web"}}}}},
                     {"addressType", family},
                     {"ports", Json::array({{{"name", "http"}, {"port", 8080}, {"protocol", "TCP"}},
                                            {{"name", "tcp"}, {"port", 8080}, {"protocol", "TCP"}}})},
                     {"endpoints", endpoints}});
      made_.push_back(slices + "/" + name);
    };
    slice("web-four", "IPv4", first);
    slice("web-six", "IPv6", second);
    ASSERT_NO_FATAL_FAILURE(start_sidecar("," + six(0)));
  }
};

TEST_F(TwoFamiliesTest, IsWeighedAtTheFirstByAnIstiodAsItComes) {
  ASSERT_NO_FATAL_FAILURE(start_web_of_two_families());
  // Such an istiod tells every proxy of both. Nobody answers at the second here, so no split is looked at.
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200 && proxy_->weights(kWeb).size() == 6; }));
  const auto before = settled();
  weigh(before, {"web"}, {4, 2, 1}, 1);
  auto told = expected(weights({4, 2, 1}));
  for (int i = 0; i < 3; ++i) {
    told[six(i)] = 1;  // as they were: next to nothing beside the others
  }
  for (const Proxy* proxy : proxies()) {
    EXPECT_EQ(proxy->weights(kWeb), told);
    EXPECT_EQ(proxy->weights(kWeb, 9000), told);
  }
  hand_back(before);
}

/// An istiod that knows of pods of two families, and proxies that speak both. (All of them: istiod keeps one
/// route for proxies of one family and of two, so that who asks first decides of the second's domains.)
class DualStackTest : public TwoFamiliesTest {
 protected:
  static void restart(const std::vector<std::string>& env) {
    if (!missing() && plane() != nullptr) {
      plane()->istiod().stop(seconds(5));
      ASSERT_TRUE(plane()->start_istiod(false, env).ok());
    }
  }
  static void SetUpTestSuite() { restart({"ISTIO_DUAL_STACK=true"}); }
  static void TearDownTestSuite() { restart({}); }
};

TEST_F(DualStackTest, RoutesKeepBothClusterIps) {
  proxy_.reset();
  auto client = Proxy::start(*plane(), {}, std::string(kHost) + ",fd77::1");
  ASSERT_TRUE(client.ok()) << client.error().message;
  proxy_ = std::move(*client);
  ASSERT_NO_FATAL_FAILURE(start_web_of_two_families());
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200 && proxy_->weights(kWeb).size() == 3; }))
      << "one endpoint a pod, as an istiod of two families has them";
  const auto before = settled();
  std::string all;
  for (const auto& [name, one] : before[2]) {
    all += one.dump();
  }
  const Json ips = kube::at(service(), {"spec", "clusterIPs"});
  ASSERT_EQ(ips.size(), 2U);
  EXPECT_THAT(all, testing::HasSubstr("\"[" + ips[1].get<std::string>() + "]\"")) << "a domain of the route";
  EXPECT_TRUE(before[2].contains("listener " + ips[0].get<std::string>() + "_9000"));
  weigh(before, {"web"}, {4, 2, 1}, 1);
  for (const Proxy* proxy : proxies()) {
    EXPECT_EQ(proxy->weights(kWeb), expected(weights({4, 2, 1})));
    EXPECT_EQ(proxy->weights(kWeb, 9000), expected(weights({4, 2, 1})));
  }
  EXPECT_EQ(expect_split(*proxy_, kWeb, {4, 2, 1}, {}, [&] { return proxy_->get(kWeb); }), 600);
  hand_back(before);
}

}  // namespace
}  // namespace ballast::mesh
