// SPDX-License-Identifier: Apache-2.0
//
// Mutual TLS of the real ballast-global with certificates that openssl makes.
#include "replica.h"

namespace ballast::sync {
namespace {

namespace fs = std::filesystem;

class Tls : public Replicas {
 protected:
  void SetUp() override {
    Replicas::SetUp();
    openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", "/CN=ca", "-keyout", path("ca.key"), "-out", path("ca.pem")});
    openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
             "2", "-subj", "/CN=other", "-keyout", path("other.key"), "-out", path("other.pem")});
    certificate("server", "IP:127.0.0.1,DNS:global.ballast", "ca");
  }
  void openssl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), "openssl");
    auto child = ChildProcess::spawn({.argv = arguments, .output = path("openssl.log")});
    ASSERT_TRUE(child) << child.error().message;
    const auto status = child->wait(60s);
    ASSERT_TRUE(status && status->code == 0) << *read_file(path("openssl.log"));
  }
  // NAME.pem and NAME.key; `days` before now: expired.
  void certificate(const std::string& name, const std::string& san, const std::string& ca,
                   const std::string& days = "2") {
    openssl({"req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
             "/CN=" + name, "-keyout", path(name + ".key"), "-out", path(name + ".csr")});
    ASSERT_TRUE(write_file_atomic(path(name + ".ext"), "subjectAltName=" + san + "\n"));
    openssl({"x509", "-req", "-in", path(name + ".csr"), "-CA", path(ca + ".pem"), "-CAkey",
             path(ca + ".key"), "-CAcreateserial", "-days", days, "-extfile", path(name + ".ext"), "-out",
             path(name + ".pem")});
  }
  TlsFiles files(const std::string& name, const std::string& ca = "ca") const {
    return {path(name + ".pem"), path(name + ".key"), path(ca + ".pem"), 1s};
  }
  Replica serve() {
    return start({"--listen", "127.0.0.1:0", "--state", path("state"), "--tls-cert", path("server.pem"),
                  "--tls-key", path("server.key"), "--tls-ca", path("ca.pem"), "--identity-prefix",
                  "spiffe://ballast/node/"});
  }
  static std::unique_ptr<WorkerClient> work(const std::string& address, const TlsFiles& tls,
                                            const std::string& id) {
    return WorkerClient::start({.address = address,
                                .worker_id = id,
                                .pull_interval = 20ms,
                                .first_wait = 20ms,
                                .longest_wait = 200ms,
                                .tls = tls});
  }
  static bool served(WorkerClient& worker, std::chrono::seconds patience = 30s) {
    return eventually([&] { return worker.take_parameters() != nullptr; }, patience);
  }
};

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
