// SPDX-License-Identifier: Apache-2.0
#include "model/sync/operations/operations.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <future>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>

#include "core/base/unique_fd.h"

namespace ballast::sync {
namespace {

GlobalStatus example() {
  GlobalStatus status;
  status.leader = status.ready = true;
  status.address = "127.0.0.1:7";
  status.network.version = {12, 34};
  status.network.verdicts[0] = 100;
  status.network.verdicts[static_cast<std::size_t>(Verdict::kNotFinite)] = 3;
  status.network.tau[0] = 60;
  status.network.tau[3] = 40;
  status.network.tau_sum = 160;
  status.server.ended[static_cast<std::size_t>(Ended::kSilent)] = 2;
  status.workers = {{.id = "node-\xff\"1", .rejected = 3, .last_bad = "not_finite"}};
  status.forecast.version = {12, 56};
  status.forecast.verdicts[0] = 7;
  status.forecast_workers = {
      {.id = "node-1", .accepted = 7, .acted = 55, .learned_from = {900, 120, 0.01F, 0.04F}},
      {.id = "node-2", .rejected = 5, .last_bad = "not_finite"}};
  status.server.forecast_promotion.on = status.server.forecast_promotion.trial = true;
  status.server.forecast_promotion.canary_nodes = {"node-2"};
  status.server.forecast_promotion.returned = 3;
  return status;
}

// What the server says to one GET.
std::string get(const std::string& address, const std::string& path) {
  const UniqueFd socket(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  to.sin_port = htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  EXPECT_EQ(::connect(socket.get(), reinterpret_cast<sockaddr*>(&to), sizeof to), 0);
  const std::string request = "GET " + path + " HTTP/1.1\r\nHost: test\r\n\r\n";
  EXPECT_EQ(::send(socket.get(), request.data(), request.size(), 0), static_cast<ssize_t>(request.size()));
  std::string out;
  char buffer[4096];
  for (ssize_t n = 0; (n = ::recv(socket.get(), buffer, sizeof buffer, 0)) > 0;) {
    out.append(buffer, static_cast<std::size_t>(n));
  }
  return out;
}

TEST(Operations, ThePageTellsTypeUnitAndLabelOfAll) {
  const std::string page = metric_definitions();
  for (const char* row :
       {"| `ballast_global_epoch` | gauge |  |  | Epoch of the parameters |\n",
        "| `ballast_global_gradients_rejected_total` | counter |  | reason | Gradients refused, by reason "
        "|\n",
        "| `ballast_global_received_bytes_total` | counter | By |  | Bytes of messages read |\n",
        "| `ballast_global_staleness_versions` | histogram |  |  | "}) {
    EXPECT_NE(page.find(row), std::string::npos) << row << "in\n" << page;
  }
}

TEST(Operations, MetricsNameReasonsAndAreCumulative) {
  const std::string text = metrics_answer(example(), "").body;
  for (const char* line :
       {"ballast_global_version 34\n", "ballast_global_gradients_accepted_total 100\n",
        "ballast_global_gradients_rejected_total{reason=\"not_finite\"} 3\n",
        "ballast_global_streams_ended_total{reason=\"silent\"} 2\n",
        "ballast_global_staleness_versions_bucket{le=\"0\"} 60\n",
        "ballast_global_staleness_versions_bucket{le=\"4\"} 100\n",
        "ballast_global_staleness_versions_bucket{le=\"+Inf\"} 100\n",
        "ballast_global_staleness_versions_sum 160\n", "ballast_global_forecast_version 56\n",
        "ballast_global_forecast_gradients_accepted_total 7\n", "ballast_global_forecast_error 0.0099",
        "ballast_global_returns_total 0\n", "ballast_global_forecast_returns_total 3\n"}) {
    EXPECT_NE(text.find(line), std::string::npos) << line << "in\n" << text;
  }
}

TEST(Operations, StatusIsJsonWhateverAWorkerCallsItself) {
  const auto json = nlohmann::json::parse(status_json(example()));
  EXPECT_EQ(json["epoch"], 12);
  EXPECT_EQ(json["rejected"]["not_finite"], 3);
  EXPECT_EQ(json["workers"][0]["last_bad"], "not_finite");
  const auto& forecast = json["forecast"];
  EXPECT_EQ(forecast["version"], 56);
  EXPECT_NEAR(forecast["error_as_now"], 0.04, 1e-6) << "of the node that told something";
  EXPECT_EQ(forecast["nodes"][0]["version"], 55);
  EXPECT_EQ(forecast["nodes"][0]["samples"], 900);
  EXPECT_EQ(forecast["nodes"][1]["last_bad"], "not_finite");
  EXPECT_EQ(forecast["promotion"]["canary_nodes"][0], "node-2");
  EXPECT_EQ(json["promotion"]["on"], false);
}

TEST(Operations, ServesHealthReadinessMetricsAndStatus) {
  GlobalStatus status = example();
  auto server = serve_operations("127.0.0.1:0", false, [&] { return status; });
  ASSERT_TRUE(server) << server.error().message;
  const std::string address = (*server)->address().text();
  EXPECT_TRUE(get(address, "/healthz").starts_with("HTTP/1.1 200"));
  EXPECT_TRUE(get(address, "/readyz").starts_with("HTTP/1.1 200"));
  EXPECT_NE(get(address, "/metrics").find("ballast_global_leader 1"), std::string::npos);
  EXPECT_NE(get(address, "/status").find("\"version\": 34"), std::string::npos);
  EXPECT_TRUE(get(address, "/other").starts_with("HTTP/1.1 404"));
  status.ready = status.leader = false;
  EXPECT_TRUE(get(address, "/readyz").starts_with("HTTP/1.1 503"));
  EXPECT_TRUE(get(address, "/healthz").starts_with("HTTP/1.1 200"));
}

TEST(Operations, ACollectorGetsTheSameMetrics) {
  httplib::Server collector;
  std::promise<nlohmann::json> taken;
  std::atomic<int> posts = 0;
  collector.Post("/v1/metrics", [&](const httplib::Request& in, httplib::Response&) {
    if (posts++ == 0) {
      taken.set_value(nlohmann::json::parse(in.body));
    }
  });
  const int port = collector.bind_to_any_port("127.0.0.1");
  std::thread serving([&] { collector.listen_after_bind(); });
  {
    // The first points are sent at the end at the latest.
    const auto push = push_operations("http://127.0.0.1:" + std::to_string(port), example);
    ASSERT_TRUE(push) << push.error().message;
  }
  collector.stop();
  serving.join();
  ASSERT_EQ(posts, 1);
  const auto resource = taken.get_future().get()["resourceMetrics"][0];
  EXPECT_EQ(resource["resource"]["attributes"][0]["value"]["stringValue"], "ballast-global");
  const auto& metrics = resource["scopeMetrics"][0]["metrics"];
  const auto version =
      std::ranges::find_if(metrics, [](const auto& one) { return one["name"] == "ballast.global_version"; });
  ASSERT_NE(version, metrics.end()) << metrics.dump(1);
  EXPECT_EQ((*version)["gauge"]["dataPoints"][0]["asDouble"], 34);
}

TEST(Operations, StaysOnThisHostUnlessToldOtherwise) {
  const auto server = serve_operations("0.0.0.0:0", false, [] { return GlobalStatus(); });
  ASSERT_FALSE(server);
  EXPECT_EQ(server.error().kind, Error::Kind::kUsage);
}

}  // namespace
}  // namespace ballast::sync
