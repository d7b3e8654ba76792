// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/envoy.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tools/lab/policies.h"

namespace ballast::lab {
namespace {

EnvoyOptions options() {
  EnvoyOptions out;
  out.listener = {"127.9.0.1", 10000};
  out.admin = {"127.9.0.1", 9901};
  out.lb_policy = "MAGLEV";
  out.eds_service = "shop/web";
  out.eds_server = {"127.9.0.2", 18000};
  return out;
}

TEST(EnvoyBootstrap, TakesEndpointsFromBallastOrFromAFile) {
  const auto by_grpc = nlohmann::json::parse(envoy_bootstrap(options()));
  ASSERT_EQ(by_grpc["static_resources"]["clusters"].size(), 2U);
  EXPECT_TRUE(by_grpc.at("/static_resources/clusters/0/eds_cluster_config/eds_config"_json_pointer)
                  .contains("api_config_source"));
  auto with_file = options();
  with_file.eds_file = "/somewhere/web.json";
  const auto by_file = nlohmann::json::parse(envoy_bootstrap(with_file));
  ASSERT_EQ(by_file["static_resources"]["clusters"].size(), 1U);
  EXPECT_EQ(
      by_file.at(
          "/static_resources/clusters/0/eds_cluster_config/eds_config/path_config_source/path"_json_pointer),
      "/somewhere/web.json");
}

TEST(EnvoyBootstrap, EveryArmHasItsPolicyByTheNameThatEnvoyKnows) {
  for (const auto& arm : arm_policies()) {
    auto asked = options();
    asked.lb_policy = arm.lb_policy;
    const auto cluster =
        nlohmann::json::parse(envoy_bootstrap(asked)).at("/static_resources/clusters/0"_json_pointer);
    EXPECT_NE(cluster.contains("lb_policy"), cluster.contains("load_balancing_policy")) << arm.name;
    EXPECT_EQ(arm.reports, arm.lb_policy == kCswrr) << arm.name << ": only this one reads reports";
  }
}

TEST(EnvoyBootstrap, RetriesNothingAndLogsOnlyWhenAsked) {
  auto asked = options();
  EXPECT_EQ(envoy_bootstrap(asked).find("access_log"), std::string::npos);
  asked.access_log = "/somewhere/access.log";
  EXPECT_NE(envoy_bootstrap(asked).find("US_TX_BEG"), std::string::npos);
  const auto route =
      nlohmann::json::parse(envoy_bootstrap(asked))
          .at("/static_resources/listeners/0/filter_chains/0/filters/0/typed_config/route_config/virtual_hosts/0/routes/0/route"_json_pointer);
  EXPECT_FALSE(route.contains("retry_policy"));
  EXPECT_EQ(route.at("timeout"), "0s");
}

TEST(EnvoyClusters, HostsWithWeightsAndCounters) {
  const auto hosts = parse_clusters(R"({"cluster_statuses": [{"name": "ballast_xds", "host_statuses": [{}]},
    {"name": "web", "host_statuses": [{"address": {"socket_address": {"address": "127.9.1.10", "port_value": 8080}},
      "stats": [{"name": "rq_total", "value": "1234"}, {"name": "rq_error"}, {"type": "GAUGE", "name": "rq_active", "value": "3"}],
      "health_status": {"eds_health_status": "HEALTHY"}, "weight": 77}]}]})");
  ASSERT_TRUE(hosts.ok()) << hosts.error().message;
  ASSERT_EQ(hosts->size(), 1U);
  EXPECT_EQ(hosts->front().endpoint.text(), "127.9.1.10:8080");
  EXPECT_EQ(hosts->front().weight, 77);
  EXPECT_EQ(hosts->front().rq_total, 1234U);
  EXPECT_EQ(hosts->front().rq_active, 3U);
  EXPECT_EQ(hosts->front().rq_error, 0U);
  EXPECT_TRUE(hosts->front().healthy);
  EXPECT_FALSE(parse_clusters("<html>").ok());
  EXPECT_FALSE(parse_clusters(R"({"cluster_statuses": [{"name": "web", "host_statuses": [{}]}]})").ok());
}

TEST(Envoy, CountersSayWhatBecameOfEveryRequest) {
  const auto counters = parse_counters(
      "cluster.web.upstream_cx_none_healthy: 2\ncluster.web.upstream_rq_pending_failure_eject: 3\n"
      "cluster.web.upstream_cx_destroy_remote_with_active_rq: 4\ncluster.web.upstream_rq_total: 95\n"
      "cluster.web.upstream_rq_time: P0(1,2)\nhttp.web.downstream_rq_total: 100\n");
  EXPECT_EQ(counters, (std::map<std::string, std::uint64_t>{
                          {"downstream", 100}, {"upstream", 95}, {"without_pod", 5}, {"cut_off", 4}}));
}

}  // namespace
}  // namespace ballast::lab
