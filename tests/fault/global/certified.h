// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "replica.h"

namespace ballast::sync {

/// Replicas with certificates that openssl makes: authorities `ca` and `other`, and a server's by `ca`.
class Certified : public Replicas {
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
  Replica serve(std::vector<std::string> env = {}) {
    return start(
        {"--listen", "127.0.0.1:0", "--state", path("state"), "--tls-cert", path("server.pem"), "--tls-key",
         path("server.key"), "--tls-ca", path("ca.pem"), "--identity-prefix", "spiffe://ballast/node/"},
        std::move(env));
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

}  // namespace ballast::sync
