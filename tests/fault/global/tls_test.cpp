// SPDX-License-Identifier: Apache-2.0
//
// Mutual TLS of the real ballast-global with certificates that openssl makes.
#include "certified.h"

namespace ballast::sync {
namespace {

class Tls : public Certified {};

TEST_F(Tls, AWorkerIsWhoItsCertificateSays) {
  const Replica server = serve();
  const std::string address = server.said("listening address=");
  ASSERT_FALSE(address.empty()) << server.text();
  certificate("node", "URI:spiffe://ballast/node/n1", "ca");
  certificate("stranger", "URI:spiffe://ballast/node/n1", "other");
  certificate("elsewhere", "URI:spiffe://somewhere/node/n1", "ca");
  certificate("expired", "URI:spiffe://ballast/node/n1", "ca", "-1");

  EXPECT_TRUE(served(*work(address, files("node"), "spiffe://ballast/node/n1")));
  EXPECT_TRUE(served(*work(address, files("node"), "spiffe://ballast/node/n1/learner-7")));
  struct Case {
    const char* what;
    TlsFiles tls;
    const char* id;
  };
  const Case cases[] = {
      {"another node's name", files("node"), "spiffe://ballast/node/n2"},
      {"a name that only begins like its own", files("node"), "spiffe://ballast/node/n12"},
      {"a certificate of another trust domain", files("elsewhere"), "spiffe://somewhere/node/n1"},
      {"a certificate of another authority", files("stranger"), "spiffe://ballast/node/n1"},
      {"an expired certificate", files("expired"), "spiffe://ballast/node/n1"},
      {"a server of another authority", files("node", "other"), "spiffe://ballast/node/n1"},
      {"no TLS at all", {}, "spiffe://ballast/node/n1"},
  };
  std::vector<std::unique_ptr<WorkerClient>> refused;
  for (const Case& c : cases) {
    refused.push_back(work(address, c.tls, c.id));
  }
  std::this_thread::sleep_for(2s);  // each tries several times
  for (std::size_t i = 0; i < refused.size(); ++i) {
    EXPECT_EQ(refused[i]->take_parameters(), nullptr) << cases[i].what;
    EXPECT_EQ(refused[i]->counters().connects, 0U) << cases[i].what;
  }
  EXPECT_TRUE(served(*work(address, files("node"), "spiffe://ballast/node/n1"))) << "the others go on";
}

TEST_F(Tls, ARenewedCertificateHoldsWithoutARestart) {
  certificate("node", "URI:spiffe://ballast/node/n1", "ca", "-1");
  const Replica server = serve();
  const std::string address = server.said("listening address=");
  ASSERT_FALSE(address.empty()) << server.text();
  const auto worker = work(address, files("node"), "spiffe://ballast/node/n1");
  EXPECT_FALSE(served(*worker, 1s)) << "expired";
  certificate("node", "URI:spiffe://ballast/node/n1", "ca");
  EXPECT_TRUE(served(*worker, 60s)) << "renewed";
}

TEST_F(Tls, WithoutTlsNothingListensBeyondLoopbackAndAHalfConfigurationIsRefused) {
  Replica open = start({"--listen", "0.0.0.0:0", "--state", path("state")});
  auto status = open.process.wait(30s);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->code, 2) << open.text();
  Replica half =
      start({"--listen", "127.0.0.1:0", "--state", path("state"), "--tls-cert", path("server.pem")});
  status = half.process.wait(30s);
  ASSERT_TRUE(status);
  EXPECT_EQ(status->code, 2) << half.text();
  EXPECT_NE(half.text().find("--tls-key"), std::string::npos) << half.text();
}

}  // namespace
}  // namespace ballast::sync
