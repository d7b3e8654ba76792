// SPDX-License-Identifier: Apache-2.0
//
// The managed pods' own sidecars: strict mTLS with certificates that istiod's CA signs for their service
// accounts, through pilot-agent; and what istiod configures for traffic into the pod.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <set>
#include <thread>
#include <utility>

#include "load.h"
#include "mesh_test.h"
#include "pilot_agent.h"
#include "tools/lab/http.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

const std::string kShop = "/apis/security.istio.io/v1/namespaces/shop/peerauthentications";

class MtlsTest : public MeshTest {
 protected:
  void SetUp() override {
    auto why = missing();
    why = why ? why : missing_pilot_agent();
    if (why) {
      GTEST_SKIP() << "*** SKIPPED, no certificates to test with: " << *why;
    }
    ASSERT_NE(plane(), nullptr);
    node_ = std::make_unique<Node>(*plane(), "node-a");
    int port = 15120;
    for (const char* account : {"client", "web"}) {
      auto agent = PilotAgent::start(*plane(), account, std::exchange(port, port + 2));
      ASSERT_TRUE(agent.ok()) << agent.error().message;
      (account == std::string("web") ? web_ : client_) = std::move(*agent);
    }
    auto proxy = Proxy::start(*plane(), client_->socket());
    ASSERT_TRUE(proxy.ok()) << proxy.error().message;
    proxy_ = std::move(*proxy);
  }
  void TearDown() override {
    sidecar_.reset();
    MeshTest::TearDown();
    web_.reset();
    client_.reset();
    if (!IsSkipped() && plane() != nullptr) {
      plane()->bind_both();
      plane()->run({"iptables", "-t", "nat", "-F", "OUTPUT"}, seconds(10));
      plane()->status_of("DELETE", kShop);
    }
  }
  /// An istiod that signs certificates, for all of them.
  static void SetUpTestSuite() { start_signing_istiod({"web", "client"}); }
  static void TearDownTestSuite() { stop_signing_istiod(); }
  /// As istio-init does: what comes to the pods' port goes to their sidecar, except from the sidecar itself.
  /// One Envoy stands for the sidecars of all pods here, which share an account.
  void redirect_to_sidecar(const std::string& pod) {
    const Ended ruled =
        plane()->run({"iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", node_->address(pod),
                      "--dport", "8080", "!", "-s", "127.0.0.6", "-j", "REDIRECT", "--to-ports", "15006"},
                     seconds(10));
    ASSERT_EQ(ruled.code, 0) << ruled.output;
  }
  static PodOptions with_sidecar(bool ready = true) {
    return {.cpus = 0, .ready = ready, .labels = {{"security.istio.io/tlsMode", "istio"}}};
  }
  void start_with_sidecar(int pods) {
    start_web(pods, with_sidecar());
    const std::string pod = node_->pods()[0];
    auto sidecar = Proxy::start_sidecar(*plane(), pod, node_->address(pod), web_->socket());
    ASSERT_TRUE(sidecar.ok()) << sidecar.error().message;
    sidecar_ = std::move(*sidecar);
    for (const auto& each : node_->pods()) {
      redirect_to_sidecar(each);
    }
  }
  /// A pod that is started and known to everybody, and not ready.
  std::string add_unready() {
    std::string pod = node_->add_pod("web", with_sidecar(false));
    redirect_to_sidecar(pod);
    return pod;
  }
  static void make_strict() {
    plane()->must("POST", kShop,
                  {{"apiVersion", "security.istio.io/v1"},
                   {"kind", "PeerAuthentication"},
                   {"metadata", {{"name", "strict"}}},
                   {"spec", {{"mtls", {{"mode", "STRICT"}}}}}});
  }
  /// Who the cluster's peers have to be, and by which certificate: without its own name (SNI).
  Json tls_of(const std::string& host) {
    std::string text = kube::at(proxy_->cluster(host), {"transport_socket_matches"}).dump();
    for (std::size_t at = text.find(host); at != std::string::npos; at = text.find(host)) {
      text.replace(at, host.size(), "HOST");
    }
    return Json::parse(text);
  }

  std::unique_ptr<PilotAgent> web_;
  std::unique_ptr<PilotAgent> client_;
  std::unique_ptr<Proxy> sidecar_;
};

TEST_F(MtlsTest, StrictMtlsHoldsForWeightedEndpoints) {
  ASSERT_NO_FATAL_FAILURE(start_with_sidecar(2));
  make_strict();
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; })) << "plain Istio, by mTLS";
  const lab::Endpoint pod{node_->address(node_->pods()[0]), 8080};
  ASSERT_TRUE(eventually([&] { return !lab::http_get(pod, "/work?us=1", 1000).ok(); }))
      << "who has no certificate is refused";
  EXPECT_GT(proxy_->handshakes(kWeb), 0);
  const Json tls = tls_of(kWeb);

  sink_ = make_sink("a");
  const auto guarded = weights({3, 1});
  ASSERT_TRUE(sink_->publish(guarded).ok());
  ASSERT_TRUE(eventually([&] { return weighted() && proxy_->weights(kWeb) == expected(guarded); }));
  int failed = 0;
  const auto before = proxy_->requests(kWeb);
  constexpr int kRequests = 200;
  for (int i = 0; i < kRequests; ++i) {
    failed += proxy_->get(kWeb) == 200 ? 0 : 1;
  }
  EXPECT_EQ(failed, 0);
  auto after = proxy_->requests(kWeb);
  const std::string heavy = node_->address(node_->pods()[0]);
  std::printf(
      "strict mTLS: %d requests to weighted endpoints, %d failed, %.0f TLS handshakes, %lu to the heavy of "
      "3:1\n",
      kRequests, failed, proxy_->handshakes(kWeb), after[heavy] - before.at(heavy));
  EXPECT_GT(proxy_->handshakes(kWeb), 0);
  EXPECT_NEAR(static_cast<double>(after[heavy] - before.at(heavy)), 0.75 * kRequests, 20);
  EXPECT_EQ(tls_of(kWeb), tls) << "certificate, peers and protocols are the Service's own";
  const std::string identity = "spiffe://cluster.local/ns/shop/sa/web";
  EXPECT_THAT(tls_of(kWeb).dump(), HasSubstr(identity)) << "the peer has to be the Service's account";
  EXPECT_THAT(sidecar_->certificates(), HasSubstr(identity)) << "and is, by a certificate of istiod's CA";
}

/// Looks every 20 ms at what Envoy has of web, while it lives: no endpoint may be without the identity that
/// its pod has.
class IdentityWatch {
 public:
  explicit IdentityWatch(const Proxy& proxy) : proxy_(proxy), thread_([this] { run(); }) {}
  ~IdentityWatch() { end(); }
  IdentityWatch(const IdentityWatch&) = delete;
  IdentityWatch& operator=(const IdentityWatch&) = delete;
  /// How often it looked and saw endpoints; which were seen without an identity.
  std::pair<int, std::set<std::string>> end() {
    over_ = true;
    if (thread_.joinable()) {
      thread_.join();
    }
    return {looks_, without_};
  }

 private:
  void run() {
    for (auto due = std::chrono::steady_clock::now(); !over_;) {
      const auto seen = proxy_.identities(kWeb);
      looks_ += seen.empty() ? 0 : 1;
      for (const auto& [address, has] : seen) {
        if (!has) {
          without_.insert(address);
        }
      }
      due = std::max(due + std::chrono::milliseconds(20), std::chrono::steady_clock::now());
      std::this_thread::sleep_until(due);
    }
  }
  const Proxy& proxy_;
  std::atomic<bool> over_{false};
  int looks_ = 0;
  std::set<std::string> without_;
  std::thread thread_;
};

/// Strict mTLS under load while pods come: who stands among the endpoints without its identity is asked
/// without mTLS, and every such request fails.
TEST_F(MtlsTest, PodsThatBecomeReadyOneAfterTheOtherAreNeverWithoutTheirIdentity) {
  ASSERT_NO_FATAL_FAILURE(start_with_sidecar(2));
  make_strict();
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({3, 1})).ok());
  ASSERT_TRUE(eventually([&] { return weighted() && managed(); }));
  IdentityWatch watch(*proxy_);
  const auto load = Load::start(50, 400, 0.3);
  ASSERT_NE(load, nullptr);
  for (int round = 0; round < 3; ++round) {
    const std::string first = add_unready();
    const std::string second = add_unready();
    std::this_thread::sleep_for(milliseconds(500));
    node_->set_ready(first, true);
    std::this_thread::sleep_for(milliseconds(200));
    node_->set_ready(second, true);
    EXPECT_TRUE(eventually([&] { return weighted() && proxy_->weights(kWeb).size() == 4; }));
    std::this_thread::sleep_for(seconds(1));
    node_->remove_pods({first, second});
    EXPECT_TRUE(eventually([&] { return weighted() && proxy_->weights(kWeb).size() == 2; }));
  }
  EXPECT_EQ(load->stop(), 0U) << "requests failed";
  const auto [looks, without] = watch.end();
  std::printf("identities of all endpoints, looked at %d times while pods came: %zu without\n", looks,
              without.size());
  EXPECT_GT(looks, 100);
  EXPECT_THAT(without, testing::IsEmpty());
}

/// What pods are cannot be read any more: they are left to the plain Service, which has their identities.
TEST_F(MtlsTest, ARollingUpdateWhosePodsCannotBeReadIsNeverWithoutIdentity) {
  const Ended installed = plane()->install("active");
  ASSERT_EQ(installed.code, 0) << installed.output;
  plane()->unbind_both();
  ASSERT_NO_FATAL_FAILURE(start_with_sidecar(4));
  make_strict();
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  actuate::IstioOptions options;
  options.api = plane()->options(plane()->account_token("ballast-global"));
  options.lease.holder = "a";
  options.active = true;
  options.istiod.clear();
  auto sink = actuate::IstioSink::create(std::move(options));
  ASSERT_TRUE(sink.ok());
  sink_ = std::move(*sink);
  ASSERT_TRUE(sink_->publish(weights({4, 2, 1, 1})).ok());
  ASSERT_TRUE(eventually([&] { return weighted() && managed(); })) << sink_->trouble();

  static constexpr const char* kWriter = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ballast-writer";
  const Json rules = plane()->must("GET", kWriter).at("rules");
  Json fewer = rules;
  for (Json& rule : fewer) {
    if (rule.at("resources") == Json::array({"pods"})) {
      rule["verbs"] = {"watch"};
    }
  }
  ASSERT_NE(fewer, rules);
  plane()->must("PATCH", kWriter, {{"rules", fewer}}, kube::kMergePatch);
  IdentityWatch watch(*proxy_);
  const auto load = Load::start(50, 400, 0.3);
  ASSERT_NE(load, nullptr);
  for (const std::string& old : node_->pods()) {
    node_->set_ready(add_unready(), true);
    std::this_thread::sleep_for(seconds(2));
    node_->remove_pod(old);
  }
  EXPECT_TRUE(eventually([&] { return proxy_->weights(kWeb).size() == 4; }));
  EXPECT_THAT(sink_->trouble(), HasSubstr("pods"));
  EXPECT_TRUE(eventually([&] { return plain(); })) << "handed back: " << sink_->trouble();
  EXPECT_EQ(load->stop(), 0U) << "requests failed";
  const auto [looks, without] = watch.end();
  std::printf(
      "identities of all endpoints, looked at %d times in a rolling update of pods that cannot be read: %zu "
      "without\n",
      looks, without.size());
  EXPECT_GT(looks, 100);
  EXPECT_THAT(without, testing::IsEmpty());
  plane()->must("PATCH", kWriter, {{"rules", rules}}, kube::kMergePatch);
}

/// Auto mTLS: what has no sidecar is spoken to in plain text, also where the others have to be met by mTLS.
TEST_F(MtlsTest, APodWithoutASidecarStaysInPlainTextAmongOthers) {
  ASSERT_NO_FATAL_FAILURE(start_with_sidecar(2));
  node_->add_pod("web", {.cpus = 0});
  make_strict();
  const lab::Endpoint met{node_->address(node_->pods()[0]), 8080};
  ASSERT_TRUE(eventually([&] { return !lab::http_get(met, "/work?us=1", 1000).ok(); })) << "by mTLS alone";
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200 && proxy_->weights(kWeb).size() == 3; }));
  const Json tls = tls_of(kWeb);
  sink_ = make_sink("a");
  const auto guarded = weights({4, 2, 1});
  ASSERT_TRUE(sink_->publish(guarded).ok());
  ASSERT_TRUE(eventually([&] { return proxy_->weights(kWeb) == expected(guarded); }));
  const auto before = proxy_->requests(kWeb);
  constexpr int kRequests = 280;
  int failed = 0;
  for (int i = 0; i < kRequests; ++i) {
    failed += proxy_->get(kWeb) == 200 ? 0 : 1;
  }
  EXPECT_EQ(failed, 0);
  auto after = proxy_->requests(kWeb);
  const std::string bare = node_->address(node_->pods()[2]);
  const auto got = static_cast<double>(after[bare] - before.at(bare));
  std::printf("auto mTLS: %.0f of %d requests to a pod without a sidecar, at a share of one in seven\n", got,
              kRequests);
  EXPECT_NEAR(got, kRequests / 7.0, 2.576 * std::sqrt(kRequests * 6.0 / 49) + 1);
  EXPECT_EQ(tls_of(kWeb), tls);
}

TEST_F(MtlsTest, AManagedPodsOwnSidecarKeepsWhatItHad) {
  ASSERT_NO_FATAL_FAILURE(start_with_sidecar(1));
  const auto names_service = [](const std::map<std::string, Json>& inbound) {
    return std::any_of(inbound.begin(), inbound.end(),
                       [](const auto& entry) { return entry.second.dump().find(kWeb) != std::string::npos; });
  };
  ASSERT_TRUE(eventually([&] { return names_service(sidecar_->inbound()); }));
  std::this_thread::sleep_for(seconds(1));
  const auto before = sidecar_->inbound();
  sink_ = make_sink("a");
  ASSERT_TRUE(sink_->publish(weights({1})).ok());
  ASSERT_TRUE(eventually([&] { return weighted(); }));
  std::this_thread::sleep_for(seconds(1));
  const auto after = sidecar_->inbound();
  EXPECT_TRUE(names_service(after)) << "its Service";
  ASSERT_EQ(after.size(), before.size());
  for (const auto& [name, config] : before) {
    ASSERT_TRUE(after.contains(name)) << name;
    EXPECT_EQ(after.at(name), config) << name;
  }
  std::printf("inbound clusters and listeners of a managed pod's sidecar that stay as they were: %zu\n",
              before.size());
}

}  // namespace
}  // namespace ballast::mesh
