// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <time.h>

#include "agent.h"
#include "load.h"
#include "mesh_test.h"
#include "tools/lab/timeline.h"

namespace ballast::mesh {

/// Ballast installed by its manifests, ballastd whole with its service account's rights, real pods under
/// load.
class WholeTest : public MeshTest {
 protected:
  /// Requests a second: half of the capacity of the unequal pods.
  static constexpr double kRate = 100;
  static constexpr std::uint16_t kGatewayPort = 8070;
  /// For what comes in seconds on an idle machine.
  static constexpr std::chrono::seconds kPatience{120};

  /// BALLAST_MESH_FAST: without Envoy's merge window.
  static bool fast() { return std::getenv("BALLAST_MESH_FAST") != nullptr; }
  virtual const char* overlay() const { return fast() ? "istio-fast" : "active"; }
  void SetUp() override {
    MeshTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    const Ended installed = plane()->install(overlay());
    ASSERT_EQ(installed.code, 0) << installed.output;
  }
  void TearDown() override {
    gateway_.reset();
    for (const std::string& path : made_) {
      plane()->status_of("DELETE", path);
    }
    load_.reset();
    second_.reset();
    agent_.reset();
    MeshTest::TearDown();
  }

  std::unique_ptr<Agent> start_agent(AgentOptions options = {}) {
    options.fast = options.fast || fast();
    auto agent = Agent::start(*plane(), options);
    EXPECT_TRUE(agent.ok()) << agent.error().message;
    return agent ? std::move(*agent) : nullptr;
  }
  /// An ingress gateway in front of web.
  void start_gateway() {
    const std::string istio = "/apis/networking.istio.io/v1/namespaces/shop/";
    const auto make = [&](const char* plural, const char* kind, const Json& spec) {
      plane()->must("POST", istio + plural,
                    {{"apiVersion", "networking.istio.io/v1"},
                     {"kind", kind},
                     {"metadata", {{"name", "edge"}}},
                     {"spec", spec}});
      made_.push_back(istio + plural + "/edge");
    };
    make("gateways", "Gateway",
         {{"selector", {{"istio", "ingressgateway"}}},
          {"servers",
           Json::array({{{"port", {{"number", kGatewayPort}, {"name", "http"}, {"protocol", "HTTP"}}},
                         {"hosts", {"*"}}}})}});
    make("virtualservices", "VirtualService",
         {{"hosts", {"*"}},
          {"gateways", {"edge"}},
          {"http", Json::array({{{"route", Json::array({{{"destination", {{"host", kWeb}}}}})}}})}});
    auto gateway = Proxy::start_gateway(*plane());
    ASSERT_TRUE(gateway.ok()) << gateway.error().message;
    gateway_ = std::move(*gateway);
    ASSERT_TRUE(eventually([&] { return gateway_->get("shop.example.com", kGatewayPort) == 200; }));
  }
  /// Capacities 4:2:1:1 of 0.4 CPUs together.
  void start_unequal() {
    node_->add_service("web", "active");
    for (const double cpus : {0.20, 0.10, 0.05, 0.05}) {
      node_->add_pod("web", {.cpus = cpus});
    }
    ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  }
  /// A pod's share of the weights in Envoy; 0 while there are none.
  double share(const std::string& pod) {
    double sum = 0;
    double own = 0;
    for (const auto& [address, weight] : proxy_->weights(kWeb)) {
      sum += weight;
      own += address == node_->address(pod) ? weight : 0;
    }
    return sum > 0 ? own / sum : 0;
  }
  /// Waits until traffic is weighted and the biggest pod has the most of it.
  bool balanced() {
    return eventually([&] { return weighted() && share(node_->pods()[0]) > 0.4; }, kPatience);
  }
  /// The unequal pods under load for so long, and an agent whose weights are in Envoy. What it makes of
  /// the pods is not looked at: on a busy machine they have less than their quotas.
  void start_weighted(double load_s, const AgentOptions& options = {}) {
    ASSERT_NO_FATAL_FAILURE(start_unequal());
    load_ = start_light_load(load_s);
    agent_ = start_agent(options);
    ASSERT_NE(agent_, nullptr);
    ASSERT_TRUE(eventually([&] { return weighted(); }, kPatience)) << agent_->log();
  }
  /// So little that a request fails for what was done to its way, and not for want of a CPU.
  static std::unique_ptr<Load> start_light_load(double load_s) { return Load::start(50, load_s, 0.3); }
  /// Why pods of unequal quotas cannot be told apart here; nullopt when they can. Where a thread that wants a
  /// core has less than this of it, what a pod gets is the machine's doing and not its quota's.
  static std::optional<std::string> too_busy() {
    constexpr double kNeeded = 0.5;
    const auto begun = std::chrono::steady_clock::now();
    timespec used{};
    const auto cpu_s = [&] {
      ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
      return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
    };
    const double before = cpu_s();
    while (std::chrono::steady_clock::now() - begun < std::chrono::seconds(1)) {
    }
    const double got =
        (cpu_s() - before) / std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    return got >= kNeeded
               ? std::nullopt
               : std::optional("the machine is too busy to hold pods to their quotas: a thread got " +
                               std::to_string(static_cast<int>(100 * got)) + " % of a core");
  }
  Json status(Agent& agent) {
    return Json::parse(agent.ctl({"status", "-o", "json"}).output, nullptr, false);
  }

  std::unique_ptr<Proxy> gateway_;  ///< null: there is none
  std::unique_ptr<Agent> agent_;
  std::unique_ptr<Agent> second_;
  std::unique_ptr<Load> load_;

 private:
  std::vector<std::string> made_;
};

inline double seconds_since(std::chrono::steady_clock::time_point begun) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
}

/// A whole number from the environment.
inline int asked(const char* variable, int otherwise) {
  const char* text = std::getenv(variable);
  return text != nullptr ? std::atoi(text) : otherwise;
}

}  // namespace ballast::mesh
