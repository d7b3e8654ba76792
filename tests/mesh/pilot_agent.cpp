// SPDX-License-Identifier: Apache-2.0
#include "pilot_agent.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <fstream>

namespace ballast::mesh {
namespace {

constexpr const char* kAccounts = "/api/v1/namespaces/shop/serviceaccounts";

}  // namespace

using std::chrono::seconds;

Result<std::unique_ptr<PilotAgent>> PilotAgent::start(ControlPlane& plane, const std::string& account,
                                                      int port) {
  std::unique_ptr<PilotAgent> agent(new PilotAgent);
  // All of its paths are relative to where it runs.
  const fs::path home = plane.folder() / ("pilot-" + account);
  const fs::path secrets = home / "var/run/secrets";
  fs::remove_all(home);
  for (const fs::path& folder : {secrets / "tokens", secrets / "istio", home / "etc/istio/proxy"}) {
    fs::create_directories(folder);
  }
  fs::copy_file(plane.account_token(account, "shop", "istio-ca"), secrets / "tokens/istio-token",
                fs::copy_options::overwrite_existing);
  const Ended root = plane.kubectl({"get", "secret", "istio-ca-secret", "-n", "istio-system", "-o",
                                    "go-template={{index .data \"ca-cert.pem\" | base64decode}}"});
  if (root.code != 0) {
    return Error::failed("istiod's CA has no certificate: " + root.output);
  }
  std::ofstream(secrets / "istio/root-cert.pem") << root.output;
  std::ofstream(home / "bootstrap.json") << "{}";
  std::ofstream(home / "waits") << "#!/bin/sh\nwhile kill -0 $PPID; do sleep 1; done\n";
  fs::permissions(home / "waits", fs::perms::owner_all);
  agent->socket_ = secrets / "workload-spiffe-uds/socket";
  ProcessOptions options;
  options.argv = {"sh", "-c",
                  fmt::format("cd '{}' && exec '{}' proxy sidecar --domain shop.svc.cluster.local "
                              "--templateFile bootstrap.json",
                              home.string(), (repository() / "build/mesh/pilot-agent").string())};
  const Json config = {{"discoveryAddress", fmt::format("{}:{}", kHost, kCaPort)},
                       {"binaryPath", (home / "waits").string()},
                       {"proxyAdminPort", port},
                       {"statusPort", port + 1}};
  options.env = {"PROXY_CONFIG=" + config.dump(),
                 "ISTIOD_SAN=istiod.istio-system.svc",
                 "ISTIO_META_CLUSTER_ID=Kubernetes",
                 "POD_NAMESPACE=shop",
                 "POD_NAME=" + account,
                 "SERVICE_ACCOUNT=" + account,
                 "INSTANCE_IP=" + std::string(kHost)};
  options.output = home / "log";
  auto process = ChildProcess::spawn(options);
  if (!process) {
    return process.error();
  }
  agent->process_ = std::move(*process);
  if (!eventually([&] { return fs::exists(agent->socket_); }, seconds(20))) {
    const auto log = read_file(home / "log");
    return Error::failed("pilot-agent did not come up: " + (log ? *log : ""));
  }
  return agent;
}

void start_signing_istiod(const std::vector<std::string>& accounts, const std::vector<std::string>& env) {
  if (missing() || missing_pilot_agent() || plane() == nullptr) {
    return;
  }
  plane()->istiod().stop(seconds(5));
  ASSERT_TRUE(plane()->start_istiod(true, env).ok());
  for (const std::string& account : accounts) {
    plane()->must("POST", kAccounts, {{"metadata", {{"name", account}}}});
  }
  ASSERT_TRUE(eventually([&] {
    return plane()->status_of("GET", "/api/v1/namespaces/istio-system/secrets/istio-ca-secret") == 200;
  }));
}

void stop_signing_istiod() {
  if (!missing() && !missing_pilot_agent() && plane() != nullptr) {
    plane()->status_of("DELETE", kAccounts);
    plane()->istiod().stop(seconds(5));
    EXPECT_TRUE(plane()->start_istiod().ok());
  }
}

}  // namespace ballast::mesh
