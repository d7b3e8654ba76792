// SPDX-License-Identifier: Apache-2.0
//
// A real Envoy takes its endpoints from XdsSink with the bootstrap that xds.h shows. Envoy is found
// through BALLAST_ENVOY, beside the build's bin folder, or in PATH; without one the tests are skipped.
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <iostream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "agent/actuate/xds.h"
#include "backend.h"
#include "core/base/file.h"
#include "core/base/listen_address.h"
#include "core/base/process.h"
#include "eventually.h"
#include "weigher.h"

namespace ballast::actuate {
namespace {

using ballast::testing::Weigher;

using namespace std::chrono_literals;

std::string find_envoy() {
  std::vector<std::filesystem::path> places;
  if (const char* named = std::getenv("BALLAST_ENVOY")) {
    places.emplace_back(named);
  }
  if (const char* bin = std::getenv("BALLAST_BIN_DIR")) {
    for (const char* name : {"envoy-binary", "envoy"}) {
      places.push_back(std::filesystem::path(bin) / ".." / ".." / "venv" / "bin" / name);
    }
  }
  std::istringstream path(std::getenv("PATH") != nullptr ? std::getenv("PATH") : "");
  for (std::string folder; std::getline(path, folder, ':');) {
    places.push_back(std::filesystem::path(folder) / "envoy");
  }
  for (const auto& place : places) {
    if (::access(place.c_str(), X_OK) == 0) {
      return place;
    }
  }
  return "";
}

constexpr const char* kBootstrap = R"(node: {id: envoy-0, cluster: lab}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: 0}}}
static_resources:
  listeners:
  - name: front
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          route_config:
            virtual_hosts:
            - {name: all, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: web}}]}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router}
  clusters:
  - name: web
    type: EDS
    lb_policy: LEAST_REQUEST
    connect_timeout: 0.25s
    common_lb_config: {update_merge_window: 0s}
    eds_cluster_config:
      service_name: shop/web
      eds_config:
        resource_api_version: V3
        initial_fetch_timeout: 2s
        api_config_source:
          api_type: GRPC
          transport_api_version: V3
          set_node_on_first_message_only: true
          grpc_services:
          - envoy_grpc:
              cluster_name: ballast
              retry_policy: {retry_back_off: {base_interval: 0.05s, max_interval: 0.25s}}
  - name: ballast
    type: STATIC
    connect_timeout: 0.25s
    typed_extension_protocol_options:
      envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
        "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
        explicit_http_config:
          http2_protocol_options: {connection_keepalive: {interval: 5s, timeout: 2s}}
    load_assignment:
      cluster_name: ballast
      endpoints:
      - lb_endpoints:
        - endpoint: {address: {AT}}
)";

/// `web` over two clusters of endpoints: ours, which lapse, and the same of equal weight behind them.
constexpr const char* kAggregate = R"(  - name: web
    connect_timeout: 0.25s
    lb_policy: CLUSTER_PROVIDED
    cluster_type:
      name: envoy.clusters.aggregate
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig
        clusters: [weighted, equal]
)";

std::string replaced(std::string text, const std::string& what, const std::string& by) {
  return text.replace(text.find(what), what.size(), by);
}

class EnvoyTest : public ::testing::Test {
 protected:
  void SetUp() override {
    envoy_ = find_envoy();
    if (envoy_.empty()) {
      GTEST_SKIP() << "no Envoy: set BALLAST_ENVOY, or run tools/deps.sh";
    }
    Result<TempDir> dir = TempDir::create("/tmp", "ballast-envoy-");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<TempDir>(std::move(dir).value());
    ASSERT_NE(first_.port(), 0);
    ASSERT_NE(second_.port(), 0);
  }

  void listen(const std::string& address, std::chrono::milliseconds stale_after = 15s) {
    auto sink = XdsSink::listen({.address = address, .stale_after = stale_after});
    ASSERT_TRUE(sink.ok()) << sink.error().message;
    sink_ = std::move(sink).value();
  }

  void start_envoy() {
    const ListenAddress at = parse_listen_address(sink_->address(), false).value();
    const std::string socket = at.unix_path.empty() ? "socket_address: {address: " + at.host +
                                                          ", port_value: " + std::to_string(at.port) + "}"
                                                    : "pipe: {path: " + at.unix_path + "}";
    std::string bootstrap = replaced(kBootstrap, "{AT}", "{" + socket + "}");
    if (weighed_ != "web") {
      const std::size_t from = bootstrap.find("  - name: web\n");
      const std::size_t size = bootstrap.find("  - name: ballast\n") - from;
      const std::string ours = replaced(bootstrap.substr(from, size), "name: web", "name: weighted");
      const std::string equal = replaced(bootstrap.substr(from, size), "name: web", "name: equal");
      bootstrap.replace(from, size,
                        kAggregate + replaced(ours, "shop/web", "shop/web+lapsing") +
                            replaced(equal, "shop/web", "shop/web+equal"));
    }
    ASSERT_TRUE(write_file_atomic(dir_->path() / "envoy.yaml", bootstrap).ok());
    ProcessOptions options;
    options.argv = {envoy_,
                    "-c",
                    dir_->path() / "envoy.yaml",
                    "--concurrency",
                    "1",
                    "--disable-hot-restart",
                    "--admin-address-path",
                    dir_->path() / "admin",
                    "--log-level",
                    "warning"};
    options.output = dir_->path() / "envoy.log";
    Result<ChildProcess> child = ChildProcess::spawn(options);
    ASSERT_TRUE(child.ok()) << child.error().message;
    child_ = std::move(child).value();
    // Envoy makes the file first and writes the address then.
    std::string admin;
    ASSERT_TRUE(eventually([&] {
      const auto written = read_file(dir_->path() / "admin");
      admin = written ? *written : "";
      return !admin.empty();
    })) << log();
    admin_ = static_cast<std::uint16_t>(std::stoi(admin.substr(admin.rfind(':') + 1)));
    ASSERT_TRUE(eventually([&] { return http_get(admin_, "/ready").has_value(); })) << log();
    const auto listeners = nlohmann::json::parse(http_get(admin_, "/listeners?format=json").value());
    front_ = listeners["listener_statuses"][0]["local_address"]["socket_address"]["port_value"];
  }

  std::string log() const { return read_file(dir_->path() / "envoy.log").value(); }

  guard::GuardedWeights shares(double first, double second) {
    return weigher_.weights("web", {{"web-0", "127.1.0.10", first_.port(), first},
                                    {"web-1", "127.1.0.11", second_.port(), second}});
  }

  /// Envoy's weights of `weighed_`, by address; empty when it has no endpoints.
  std::map<std::string, std::uint32_t> envoy_weights() const {
    std::map<std::string, std::uint32_t> weights;
    const auto clusters = nlohmann::json::parse(http_get(admin_, "/clusters?format=json").value_or("{}"));
    for (const auto& cluster : clusters.value("cluster_statuses", nlohmann::json::array())) {
      if (cluster["name"] == weighed_) {
        for (const auto& host : cluster.value("host_statuses", nlohmann::json::array())) {
          weights[host["address"]["socket_address"]["address"]] = host.value("weight", 0U);
        }
      }
    }
    return weights;
  }

  static std::map<std::string, std::uint32_t> weights_of(const guard::GuardedWeights& weights) {
    std::map<std::string, std::uint32_t> all;
    for (const auto& endpoint : weights.endpoints()) {
      all[endpoint.address] = endpoint.weight;
    }
    return all;
  }

  /// Publishes, waits until Envoy has it, and says how long that took.
  void publish_and_wait(const guard::GuardedWeights& weights) {
    const auto begun = std::chrono::steady_clock::now();
    ASSERT_TRUE(sink_->publish(weights).ok());
    ASSERT_TRUE(eventually([&] { return envoy_weights() == weights_of(weights); })) << log();
    std::cout << "time to Envoy: "
              << std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count()
              << " ms seen through its admin, " << sink_->acknowledgement_delay_s() * 1e3
              << " ms to its ACK (median)\n";
  }

  /// Share of the first backend in `requests` requests through Envoy.
  double split(int requests) {
    first_.take_requests();
    second_.take_requests();
    for (int i = 0; i < requests; ++i) {
      EXPECT_TRUE(http_get(front_, "/").has_value()) << "request " << i;
    }
    const double first = static_cast<double>(first_.take_requests());
    const double second = static_cast<double>(second_.take_requests());
    EXPECT_EQ(first + second, requests);
    return first / (first + second);
  }

  std::string envoy_;
  std::string weighed_ = "web";  ///< the cluster whose endpoints are ours
  std::unique_ptr<TempDir> dir_;
  Backend first_{"127.1.0.10"};
  Backend second_{"127.1.0.11"};
  Weigher weigher_;
  std::unique_ptr<XdsSink> sink_;
  ChildProcess child_;
  std::uint16_t admin_ = 0;
  std::uint16_t front_ = 0;
};

TEST_F(EnvoyTest, SplitsByOurWeightsKeepsThemWithoutUsAndTakesNewOnesAfterARestart) {
  listen("127.0.0.1:0");
  ASSERT_TRUE(sink_->publish(shares(3, 1)).ok());
  start_envoy();
  ASSERT_TRUE(eventually([&] { return envoy_weights().size() == 2; })) << log();
  EXPECT_EQ(sink_->subscribers(), 1U);
  EXPECT_NEAR(split(200), 0.75, 0.03);

  publish_and_wait(shares(1, 3));
  EXPECT_NEAR(split(200), 0.25, 0.03);
  for (int i = 0; i < 5; ++i) {
    publish_and_wait(shares(1, 1.5 + 0.1 * i));
  }
  EXPECT_TRUE(eventually([&] { return sink_->acknowledgement_delay_s() > 0; }));

  const std::string address = sink_->address();
  publish_and_wait(shares(3, 1));
  sink_.reset();
  EXPECT_EQ(envoy_weights().size(), 2U) << "Envoy forgot its endpoints when we went";
  EXPECT_NEAR(split(200), 0.75, 0.03);

  listen(address);
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_TRUE(sink_->publish(shares(1, 3)).ok());
  ASSERT_TRUE(eventually([&] { return sink_->subscribers() == 1; })) << log();
  std::cout << "Envoy back after a restart: "
            << std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count()
            << " ms\n";
  ASSERT_TRUE(eventually([&] { return envoy_weights() == weights_of(shares(1, 3)); })) << log();
  EXPECT_NEAR(split(200), 0.25, 0.03);
}

TEST_F(EnvoyTest, WeightsOfADeadBallastdLapseAndEqualOnesTakeOver) {
  weighed_ = "weighted";
  listen("127.0.0.1:0", 3s);
  ASSERT_TRUE(sink_->publish(shares(3, 1)).ok());
  start_envoy();
  ASSERT_TRUE(eventually([&] { return envoy_weights().size() == 2; })) << log();
  EXPECT_EQ(sink_->subscribers(), 1U) << "both of its clusters";
  const auto renewed_until = std::chrono::steady_clock::now() + 5s;
  while (std::chrono::steady_clock::now() < renewed_until) {
    sink_->renew({"shop", "web"});
    EXPECT_NEAR(split(40), 0.75, 0.03) << "renewed, they stay";
    std::this_thread::sleep_for(100ms);
  }
  EXPECT_TRUE(eventually([&] { return sink_->answer({"shop", "web"}).in_force(); }));
  const std::string address = sink_->address();
  sink_.reset();  // dead: nothing was handed back
  ASSERT_TRUE(eventually([&] { return envoy_weights().empty(); })) << log();
  EXPECT_NEAR(split(400), 0.5, 0.15) << "two random choices among equals, and every request is answered";

  listen(address, 3s);
  ASSERT_TRUE(sink_->publish(shares(1, 3)).ok());
  ASSERT_TRUE(eventually([&] { return envoy_weights() == weights_of(shares(1, 3)); })) << log();
  EXPECT_NEAR(split(200), 0.25, 0.03) << "a successor's are in force at once";
}

TEST_F(EnvoyTest, EqualWeightsDoNotLapse) {
  weighed_ = "weighted";
  listen("127.0.0.1:0", 1s);
  ASSERT_TRUE(sink_->publish(shares(3, 1)).ok());
  start_envoy();
  ASSERT_TRUE(eventually([&] { return envoy_weights().size() == 2; })) << log();
  const auto released = weigher_.release("web");
  ASSERT_TRUE(sink_->publish(released).ok());
  ASSERT_TRUE(eventually([&] { return envoy_weights() == weights_of(released); })) << log();
  sink_.reset();
  std::this_thread::sleep_for(1500ms);
  EXPECT_EQ(envoy_weights(), weights_of(released));
}

TEST_F(EnvoyTest, EqualWeightsAtShutdownReachEnvoyBeforeTheServerGoes) {
  listen("unix:" + (dir_->path() / "eds.sock").string());
  ASSERT_TRUE(sink_->publish(shares(3, 1)).ok());
  start_envoy();
  ASSERT_TRUE(eventually([&] { return envoy_weights().size() == 2; })) << log();
  const auto equal = weigher_.release("web");
  ASSERT_TRUE(sink_->publish(equal).ok());
  sink_->flush();
  sink_.reset();
  EXPECT_EQ(envoy_weights(), weights_of(equal));
  EXPECT_NEAR(split(400), 0.5, 0.15) << "two random choices among equals";
}

TEST_F(EnvoyTest, EndpointsComeAndGoAndARefusalLeavesThem) {
  listen("127.0.0.1:0");
  start_envoy();
  ASSERT_TRUE(eventually([&] { return sink_->subscribers() == 1; })) << log();
  EXPECT_TRUE(envoy_weights().empty());
  publish_and_wait(weigher_.weights("web", {{"web-0", "127.1.0.10", first_.port(), 1}}));
  EXPECT_EQ(split(20), 1.0);
  publish_and_wait(shares(1, 1));
  const auto in_force = envoy_weights();
  ASSERT_TRUE(sink_->publish(weigher_.weights("web", {{"web-0", "no address", 1, 1}})).ok());
  ASSERT_TRUE(eventually([&] {
    return http_get(admin_, "/stats?filter=cluster.web.update_rejected").value_or("").find(": 1") !=
           std::string::npos;
  })) << log();
  EXPECT_EQ(envoy_weights(), in_force);
  publish_and_wait(shares(2, 1));
}

}  // namespace
}  // namespace ballast::actuate
