// SPDX-License-Identifier: Apache-2.0
//
// The managed pods' own sidecars: strict mTLS with certificates that istiod's CA signs for their service
// accounts, through pilot-agent; and what istiod configures for traffic into the pod.
#include <algorithm>
#include <utility>

#include "mesh_test.h"
#include "pilot_agent.h"
#include "tools/lab/http.h"

namespace ballast::mesh {
namespace {

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
      plane()->run({"iptables", "-t", "nat", "-F", "OUTPUT"}, seconds(10));
      plane()->status_of("DELETE", kShop);
    }
  }
  /// An istiod that signs certificates, for all of them.
  static void SetUpTestSuite() { start_signing_istiod({"web", "client"}); }
  static void TearDownTestSuite() { stop_signing_istiod(); }
  /// As istio-init does: what comes to the pods' port goes to their sidecar, except from the sidecar itself.
  /// One Envoy stands for the sidecars of all pods here, which share an account.
  void redirect_to_sidecar() {
    for (const auto& pod : node_->pods()) {
      const Ended ruled =
          plane()->run({"iptables", "-t", "nat", "-A", "OUTPUT", "-p", "tcp", "-d", node_->address(pod),
                        "--dport", "8080", "!", "-s", "127.0.0.6", "-j", "REDIRECT", "--to-ports", "15006"},
                       seconds(10));
      ASSERT_EQ(ruled.code, 0) << ruled.output;
    }
  }
  void start_with_sidecar(int pods) {
    start_web(pods, {.cpus = 0, .labels = {{"security.istio.io/tlsMode", "istio"}}});
    const std::string pod = node_->pods()[0];
    auto sidecar = Proxy::start_sidecar(*plane(), pod, node_->address(pod), web_->socket());
    ASSERT_TRUE(sidecar.ok()) << sidecar.error().message;
    sidecar_ = std::move(*sidecar);
    redirect_to_sidecar();
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
  plane()->must("POST", kShop,
                {{"apiVersion", "security.istio.io/v1"},
                 {"kind", "PeerAuthentication"},
                 {"metadata", {{"name", "strict"}}},
                 {"spec", {{"mtls", {{"mode", "STRICT"}}}}}});
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
