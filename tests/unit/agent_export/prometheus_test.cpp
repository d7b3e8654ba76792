// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <httplib.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <numeric>
#include <sstream>

#include "agent/export/latency_fold.h"
#include "agent/export/prometheus_exporter.h"
#include "agent/export/request_split.h"
#include "core/base/listen_address.h"
#include "core/base/unique_fd.h"
#include "core/http/http_server.h"
#include "core/metrics/metric.h"
#include "core/metrics/series.h"
#include "core/spec/unnamed.h"
#include "weigher.h"

namespace ballast::telemetry {
namespace {

using ballast::testing::Weigher;
using metrics::Exemplar;
using metrics::Metric;
using metrics::otel_name;

using Series = std::map<std::string, double>;  ///< `name{labels}` -> value

std::string get(const std::string& address, const std::string& path) {
  const ListenAddress at = parse_listen_address(address, true).value();
  sockaddr_in name{};
  name.sin_family = AF_INET;
  name.sin_port = htons(at.port);
  ::inet_pton(AF_INET, at.host.c_str(), &name.sin_addr);
  UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{5, 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name) != 0) {
    return "";
  }
  const std::string request = "GET " + path + " HTTP/1.0\r\n\r\n";
  ::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL);
  std::string answer;
  char buffer[16384];
  for (ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0); n > 0;
       n = ::recv(fd.get(), buffer, sizeof buffer, 0)) {
    answer.append(buffer, static_cast<std::size_t>(n));
  }
  return answer;
}

class PrometheusTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto exporter = PrometheusExporter::listen({.address = "127.0.0.1:0"});
    ASSERT_TRUE(exporter.ok()) << exporter.error().message;
    exporter_ = std::move(exporter).value();
  }

  Series scrape() const {
    const std::string answer = get(exporter_->address(), "/metrics");
    EXPECT_TRUE(answer.starts_with("HTTP/1.1 200")) << answer.substr(0, 200);
    Series series;
    std::istringstream lines(answer);
    for (std::string line; std::getline(lines, line);) {
      const std::size_t space = line.rfind(' ');
      if (!line.empty() && line[0] != '#' && line[0] != '\r' && space != std::string::npos) {
        series[line.substr(0, space)] = std::strtod(line.c_str() + space, nullptr);
      }
    }
    return series;
  }

  static identity::Pod pod(std::uint64_t cgroup, const std::string& name,
                           const std::string& container = "app") {
    identity::Pod made;
    made.cgroup_id = cgroup;
    made.pod = name;
    made.ns = "shop";
    made.container = container;
    made.service = "web";
    return made;
  }

  /// A tick in which cgroup `id` answered `count` requests of `ns` each.
  sample::Sample tick(std::uint64_t id, std::uint64_t count, std::uint64_t ns) {
    sample::Sample made;
    made.taken = now_ += 250'000'000;
    sample::CgroupSample& cgroup = made.cgroups.emplace_back();
    cgroup.id = id;
    cgroup.in_flight = 3;
    cgroup.connections = 7;
    cgroup.last_byte.count = count;
    cgroup.last_byte.sum_ns = count * ns;
    cgroup.last_byte.buckets[ballast_hist_bucket(ns)] = count;
    cgroup.on_cpu_ns = 500'000'000;
    cgroup.wait_ns = 250'000'000;
    cgroup.memory_bytes = 1 << 20;
    made.loss = loss_;
    return made;
  }

  MonotonicNs now_ = 1'000'000'000;
  std::array<ballast_loss_value, BALLAST_LOSS_REASONS> loss_{};
  std::unique_ptr<PrometheusExporter> exporter_;
  Weigher weigher_;
};

const std::string kWeb0 = R"({namespace="shop",service="web",pod="web-0")";

TEST_F(PrometheusTest, PodsHaveRequestsCpuMemoryAndConnections) {
  exporter_->observe(tick(11, 4, 30'000'000), {pod(11, "web-0")}, {});
  const Series series = scrape();
  EXPECT_EQ(series.at("http_server_request_duration_seconds_count" + kWeb0 + "}"), 4);
  EXPECT_NEAR(series.at("http_server_request_duration_seconds_sum" + kWeb0 + "}"), 0.12, 1e-9);
  EXPECT_EQ(series.at("http_server_request_duration_seconds_bucket" + kWeb0 + R"(,le="0.025"})"), 0);
  EXPECT_EQ(series.at("http_server_request_duration_seconds_bucket" + kWeb0 + R"(,le="0.05"})"), 4);
  EXPECT_EQ(series.at("http_server_request_duration_seconds_bucket" + kWeb0 + R"(,le="10"})"), 4);
  EXPECT_EQ(series.at("http_server_request_duration_seconds_bucket" + kWeb0 + R"(,le="+Inf"})"), 4);
  EXPECT_EQ(series.at("http_server_active_requests" + kWeb0 + "}"), 3);
  EXPECT_EQ(series.at("ballast_open_connections" + kWeb0 + "}"), 7);
  EXPECT_NEAR(series.at("container_cpu_time_seconds_total" + kWeb0 + R"(,container="app"})"), 0.5, 1e-9);
  EXPECT_NEAR(series.at("ballast_run_queue_wait_seconds_total" + kWeb0 + R"(,container="app"})"), 0.25, 1e-9);
  EXPECT_EQ(series.at("container_memory_usage_bytes" + kWeb0 + R"(,container="app"})"), 1 << 20);
}

TEST_F(PrometheusTest, CountersGrowByTickAndGaugesFollow) {
  const std::vector<identity::Pod> pods = {pod(11, "web-0")};
  exporter_->observe(tick(11, 4, 30'000'000), pods, {});
  sample::Sample second = tick(11, 6, 2'000'000'000);
  second.cgroups[0].in_flight = 1;
  exporter_->observe(second, pods, {});
  const Series series = scrape();
  EXPECT_EQ(series.at("http_server_request_duration_seconds_count" + kWeb0 + "}"), 10);
  EXPECT_EQ(series.at("http_server_request_duration_seconds_bucket" + kWeb0 + R"(,le="1"})"), 4);
  EXPECT_EQ(series.at("http_server_request_duration_seconds_bucket" + kWeb0 + R"(,le="2.5"})"), 10);
  EXPECT_EQ(series.at("http_server_active_requests" + kWeb0 + "}"), 1);
  EXPECT_NEAR(series.at("container_cpu_time_seconds_total" + kWeb0 + R"(,container="app"})"), 1.0, 1e-9);
  EXPECT_EQ(series.at("ballast_samples_total"), 2);
}

TEST_F(PrometheusTest, FailuresAreCountedAndOpenTelemetryHasItsOwnNames) {
  sample::Sample failed = tick(11, 4, 30'000'000);
  failed.cgroups[0].errors = 2;
  failed.cgroups[0].grpc_last_byte.count = 1;
  failed.cgroups[0].grpc_last_byte.sum_ns = 30'000'000;
  failed.cgroups[0].grpc_last_byte.buckets[ballast_hist_bucket(30'000'000)] = 1;
  exporter_->observe(failed, {pod(11, "web-0")}, {});
  EXPECT_EQ(scrape().at("ballast_requests_failed_total" + kWeb0 + "}"), 2);
  EXPECT_EQ(scrape().at("rpc_server_call_duration_seconds_count" + kWeb0 + "}"), 1);
  EXPECT_EQ(otel_name({"ballast_loss_bytes_total", Metric::Type::kCounter, "", ""}), "ballast.loss");
  EXPECT_EQ(otel_name({"ballast_trouble", Metric::Type::kGauge, "", ""}), "ballast.trouble");
  EXPECT_EQ(otel_name({"x_y_seconds", Metric::Type::kHistogram, "", "", "x.z"}), "x.z");
}

TEST_F(PrometheusTest, ContainersOfAPodAreOnePodAndUnknownCgroupsAreNotExported) {
  sample::Sample both = tick(11, 4, 30'000'000);
  both.cgroups.push_back(both.cgroups[0]);
  both.cgroups.back().id = 12;
  both.cgroups.push_back(both.cgroups[0]);
  both.cgroups.back().id = 99;
  exporter_->observe(both, {pod(11, "web-0"), pod(12, "web-0", "helper")}, {});
  const Series series = scrape();
  EXPECT_EQ(series.at("http_server_request_duration_seconds_count" + kWeb0 + "}"), 8);
  EXPECT_EQ(series.count("container_cpu_time_seconds_total" + kWeb0 + R"(,container="helper"})"), 1U);
  int pods = 0;
  for (const auto& [name, value] : series) {
    pods += name.starts_with("http_server_active_requests{") ? 1 : 0;
  }
  EXPECT_EQ(pods, 1);
}

TEST_F(PrometheusTest, PodThatWentKeepsItsCountersAWhileThenLeaves) {
  exporter_->observe(tick(11, 4, 30'000'000), {pod(11, "web-0")}, {});
  exporter_->observe(tick(12, 0, 0), {}, {});
  Series series = scrape();
  EXPECT_EQ(series.at("http_server_request_duration_seconds_count" + kWeb0 + "}"), 4);
  EXPECT_EQ(series.at("http_server_active_requests" + kWeb0 + "}"), 0);
  EXPECT_EQ(series.at("container_memory_usage_bytes" + kWeb0 + R"(,container="app"})"), 0);
  now_ += 301'000'000'000;
  exporter_->observe(tick(12, 0, 0), {}, {});
  series = scrape();
  EXPECT_EQ(series.count("http_server_request_duration_seconds_count" + kWeb0 + "}"), 0U);
}

TEST_F(PrometheusTest, LossNeverGoesBackWhenTheMapsAreMadeAnew) {
  const std::string bytes = R"(ballast_loss_bytes_total{reason="not_http"})";
  const std::string events = R"(ballast_loss_events_total{reason="gap"})";
  loss_[BALLAST_LOSS_NOT_HTTP].bytes = 1000;
  loss_[BALLAST_LOSS_GAP].events = 5;
  exporter_->observe(tick(11, 0, 0), {}, {});
  loss_[BALLAST_LOSS_NOT_HTTP].bytes = 1500;
  exporter_->observe(tick(11, 0, 0), {}, {});
  EXPECT_EQ(scrape().at(bytes), 1500);
  loss_[BALLAST_LOSS_NOT_HTTP].bytes = 200;
  loss_[BALLAST_LOSS_GAP].events = 1;
  exporter_->observe(tick(11, 0, 0), {}, {});
  const Series series = scrape();
  EXPECT_EQ(series.at(bytes), 1700);
  EXPECT_EQ(series.at(events), 6);
  EXPECT_EQ(series.at(R"(ballast_loss_events_total{reason="map_full"})"), 0) << "zero is told too";
}

TEST_F(PrometheusTest, WeightsInForceUntilWithdrawn) {
  const guard::GuardedWeights weights = weigher_.by_shares("web", {3, 1});
  turn::Decision decision{{}, {}, weights, {guard::Outcome::kNotLeader, "node-1 leads"}};
  exporter_->set_decision(decision);
  EXPECT_EQ(scrape().count("ballast_weight" + kWeb0 + "}"), 0U) << "standing by, nothing of ours is in force";
  EXPECT_EQ(scrape().at("ballast_decided_weight" + kWeb0 + "}"), weights.endpoints()[0].weight);
  EXPECT_NEAR(scrape().at("ballast_shadow_share" + kWeb0 + "}"), 0.75, 1e-6) << "in force or not";
  EXPECT_EQ(scrape().at(R"(ballast_decision_outcome{namespace="shop",service="web",outcome="not_leader"})"),
            1);
  decision.answer = {guard::Outcome::kWritten, ""};
  decision.in_force = {weights.endpoints()[0].weight, weights.endpoints()[1].weight};
  exporter_->set_decision(decision);
  Series series = scrape();
  EXPECT_EQ(series.at("ballast_weight" + kWeb0 + "}"), weights.endpoints()[0].weight);
  EXPECT_GT(weights.endpoints()[0].weight, weights.endpoints()[1].weight);
  EXPECT_EQ(series.at(R"(ballast_service_neutral{namespace="shop",service="web"})"), 0);
  exporter_->set_decision({{}, {}, weigher_.by_shares("web", {1, 1}, true)});
  EXPECT_EQ(scrape().at(R"(ballast_service_neutral{namespace="shop",service="web"})"), 1);
  exporter_->withdraw({"shop", "web"});
  EXPECT_EQ(scrape().count("ballast_weight" + kWeb0 + "}"), 0U);
}

TEST_F(PrometheusTest, AnEndpointWithoutANameHasNoSeries) {
  const guard::GuardedWeights weights =
      weigher_.weights("web", {{"web-0", "127.1.0.1", 8080, 3}, {"~000001", "", 0, 1}});
  exporter_->set_decision({{}, {}, weights, {guard::Outcome::kNotLeader, ""}});
  ASSERT_FALSE(spec::is_named(weights.endpoints().back().id));
  const Series series = scrape();
  EXPECT_EQ(series.count("ballast_decided_weight" + kWeb0 + "}"), 1U);
  EXPECT_TRUE(std::none_of(series.begin(), series.end(), [](const auto& one) {
    return one.first.find(spec::kUnnamed) != std::string::npos;
  }));
}

TEST_F(PrometheusTest, TheAgentTellsOfItself) {
  LoopMetrics loop;
  loop.tick_duration_s = 0.002;
  loop.policy_epoch = 2;
  loop.policy_version = 77;
  loop.subscribers = 3;
  loop.acknowledgement_delay_s = 0.125;
  loop.troubles = {{"identity", false}, {"sink", true}};
  sample::Sample sample = tick(11, 0, 0);
  sample.maps = {{"requests", 12, 4096}};
  exporter_->observe(sample, {}, loop);
  const Series series = scrape();
  EXPECT_EQ(series.at("ballast_policy_epoch"), 2);
  EXPECT_EQ(series.at("ballast_policy_version"), 77);
  EXPECT_EQ(series.at("ballast_xds_subscribers"), 3);
  EXPECT_EQ(series.at("ballast_acknowledgement_delay_seconds"), 0.125);
  EXPECT_EQ(series.at(R"(ballast_map_entries{map="requests"})"), 12);
  EXPECT_EQ(series.at(R"(ballast_map_max_entries{map="requests"})"), 4096);
  EXPECT_EQ(series.at(R"(ballast_trouble{of="identity"})"), 0);
  EXPECT_EQ(series.at(R"(ballast_trouble{of="sink"})"), 1);
  EXPECT_EQ(series.at("ballast_tick_duration_seconds_count"), 1);
  EXPECT_EQ(series.at(R"(ballast_tick_duration_seconds_bucket{le="0.001"})"), 0);
  EXPECT_EQ(series.at(R"(ballast_tick_duration_seconds_bucket{le="0.0025"})"), 1);
}

TEST_F(PrometheusTest, LabelsAreEscaped) {
  exporter_->observe(tick(11, 1, 1000), {pod(11, "we\"ird\\\n")}, {});
  EXPECT_EQ(
      scrape().count(R"(http_server_active_requests{namespace="shop",service="web",pod="we\"ird\\\n"})"), 1U);
}

TEST_F(PrometheusTest, AddressInUseFailsAndNamesIt) {
  const auto second = PrometheusExporter::listen({.address = exporter_->address()});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, Error::Kind::kFailed);
  EXPECT_NE(second.error().message.find(exporter_->address()), std::string::npos) << second.error().message;
}

TEST(PrometheusListen, RefusesWhatIsNoAddressOrBeyondLoopback) {
  for (const char* address :
       {"", "9090", "127.0.0.1", "0.0.0.0:0", "[::]:0", "unix:/tmp/metrics", "web:80"}) {
    const auto exporter = PrometheusExporter::listen({.address = address});
    ASSERT_FALSE(exporter.ok()) << address;
    EXPECT_EQ(exporter.error().kind, Error::Kind::kUsage) << address;
  }
  EXPECT_TRUE(PrometheusExporter::listen({.address = "0.0.0.0:0", .allow_remote = true}).ok());
}

TEST_F(PrometheusTest, SpansTellMethodCodeAndRouteAndLeadToTheirTrace) {
  const std::vector<identity::Pod> pods = {pod(11, "web-0")};
  exporter_->observe(tick(11, 1, 30'000'000), pods, {});
  ExportSpan span{.span = {}, .pod = pods[0], .unix_start_ns = 1'700'000'000'000'000'000};
  span.span.status = 503;
  span.span.end = 30'000'000;
  span.span.head.method = "GET";
  span.span.head.target = "/cart/42?x=1";
  span.span.trace[15] = 0xab;
  span.span.id[7] = 0xcd;
  exporter_->learn(std::vector{span}, true);
  sample::Sample failed = tick(11, 3, 30'000'000);
  failed.cgroups[0].answers[5] = 3;
  exporter_->observe(failed, pods, {});
  const std::string labels =
      kWeb0 +
      R"(,http_request_method="GET",http_response_status_code="503",error_type="503",http_route="/cart/{id}")";
  EXPECT_EQ(scrape().at("http_server_request_duration_seconds_count" + labels + "}"), 3);
  EXPECT_EQ(scrape().at("http_server_request_duration_seconds_count" + kWeb0 + "}"), 1) << "before any span";
  const ListenAddress at = parse_listen_address(exporter_->address(), true).value();
  const auto open =
      httplib::Client(at.host, at.port)
          .Get("/metrics", {{"Accept", "application/openmetrics-text;version=1.0.0,*/*;q=0.1"}});
  ASSERT_TRUE(open);
  EXPECT_EQ(open->get_header_value("Content-Type"),
            "application/openmetrics-text; version=1.0.0; charset=utf-8");
  EXPECT_THAT(open->body,
              ::testing::HasSubstr(labels + R"(,le="0.05"} 3 # {trace_id=")" + std::string(30, '0') +
                                   R"(ab",span_id="00000000000000cd"} 0.03 1700000000.030)"));
  EXPECT_THAT(open->body, ::testing::HasSubstr("# TYPE ballast_samples counter\nballast_samples_total 2\n"));
  EXPECT_TRUE(open->body.ends_with("# EOF\n"));
}

/// A folder with a self-signed certificate whose common name is given.
std::filesystem::path certificate(const std::string& name) {
  auto folder =
      std::filesystem::path(::testing::TempDir()) / ("metrics-tls-" + std::to_string(::getpid()) + name);
  std::filesystem::create_directories(folder);
  const std::string made =
      "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
      "-addext subjectAltName=IP:127.0.0.1 -subj /CN=" +
      name + " -keyout " + (folder / "key.pem").string() + " -out " + (folder / "cert.pem").string() +
      " 2>/dev/null";
  EXPECT_EQ(std::system(made.c_str()), 0);  // NOLINT(concurrency-mt-unsafe)
  return folder;
}

TEST(PrometheusTls, ServesWithACertificateThatFollowsItsFiles) {
  const auto first = certificate("first");
  const auto second = certificate("second");
  const auto used = certificate("used");
  const auto put = [&](const std::filesystem::path& from) {
    for (const char* file : {"cert.pem", "key.pem"}) {
      std::filesystem::copy_file(from / file, used / (std::string(file) + ".new"),
                                 std::filesystem::copy_options::overwrite_existing);
      std::filesystem::rename(used / (std::string(file) + ".new"), used / file);
    }
  };
  put(first);
  const auto exporter = PrometheusExporter::listen(
      {.address = "127.0.0.1:0", .tls_certificate = used / "cert.pem", .tls_key = used / "key.pem"});
  ASSERT_TRUE(exporter.ok()) << exporter.error().message;
  const ListenAddress at = parse_listen_address((*exporter)->address(), true).value();
  const auto works_with = [&](const std::filesystem::path& authority) {
    httplib::SSLClient client(at.host, at.port);
    client.set_ca_cert_path((authority / "cert.pem").c_str());
    const auto answer = client.Get("/metrics");
    return answer && answer->status == 200;
  };
  EXPECT_TRUE(works_with(first));
  EXPECT_FALSE(works_with(second));
  EXPECT_EQ(get((*exporter)->address(), "/metrics").find("HTTP/1.1 200"), std::string::npos) << "in clear";
  put(second);
  EXPECT_TRUE(works_with(second));
  std::filesystem::copy_file(first / "key.pem", used / "key.pem",
                             std::filesystem::copy_options::overwrite_existing);
  EXPECT_TRUE(works_with(second)) << "a key that is not the certificate's is not taken over";
}

TEST(PrometheusTls, FilesThatCannotBeUsedAreNamed) {
  const auto first = certificate("first");
  const auto second = certificate("second");
  for (const http::TlsFiles& files : {http::TlsFiles{first / "cert.pem", second / "key.pem"},
                                      http::TlsFiles{first / "key.pem", first / "key.pem"},
                                      http::TlsFiles{"/nowhere/cert.pem", first / "key.pem"}}) {
    const auto refused = PrometheusExporter::listen(
        {.address = "127.0.0.1:0", .tls_certificate = files.certificate, .tls_key = files.key});
    ASSERT_FALSE(refused.ok());
    EXPECT_EQ(refused.error().kind, Error::Kind::kUsage);
    EXPECT_THAT(refused.error().message, ::testing::AnyOf(::testing::HasSubstr(files.key.string()),
                                                          ::testing::HasSubstr(files.certificate.string())));
  }
}

spec::Latency latency(std::initializer_list<std::pair<std::uint64_t, std::uint64_t>> counts) {
  spec::Latency made;
  for (const auto& [ns, count] : counts) {
    made.count += count;
    made.sum_ns += ns * count;
    made.buckets[ballast_hist_bucket(ns)] += count;
  }
  return made;
}

std::uint64_t total(const DurationHistogram& histogram) {
  return std::accumulate(histogram.counts.begin(), histogram.counts.end(), std::uint64_t{0});
}

TEST(RequestSplit, SumsAreTheKernelsAndSharesTheSpans) {
  RequestSplit split;
  const auto get = request_attributes("GET", 200, "/a");
  const auto post = request_attributes("POST", 201, "/a");
  const auto gone = request_attributes("GET", 404, "/b");
  const auto failed = request_attributes("GET", 500, "/a");
  for (int i = 0; i < 90; ++i) {
    split.learn(i < 60 ? get : post, 0.003, {});
  }
  split.learn(gone, 0.003, {});
  split.learn(failed, 0.2, {});
  DurationHistogram kernel;
  for (int i = 0; i < 1000; ++i) {
    // One request or a few a tick: what a share of them is due has to be carried.
    const auto seen = latency({{3'000'000, i % 3}, {200'000'000, 1}});
    kernel.add(seen);
    split.add(seen, {0, 0, static_cast<std::uint64_t>(i % 3), 0, 0, 1});
  }
  DurationHistogram sum;
  for (const auto& [attributes, part] : split.parts()) {
    for (std::size_t i = 0; i < sum.counts.size(); ++i) {
      sum.counts[i] += part.duration.counts[i];
    }
    sum.sum_s += part.duration.sum_s;
  }
  EXPECT_EQ(sum.counts, kernel.counts);
  EXPECT_NEAR(sum.sum_s, kernel.sum_s, 1e-6);
  EXPECT_EQ(total(split.parts().at(failed).duration), 1000U) << "as many as the kernel says";
  EXPECT_EQ(split.parts().at(failed).duration.counts[bucket_of(0.2)], 1000U) << "and where spans had them";
  EXPECT_EQ(total(split.parts().at(gone).duration), 0U);
  EXPECT_NEAR(static_cast<double>(total(split.parts().at(get).duration)), 666, 2);
  EXPECT_NEAR(static_cast<double>(total(split.parts().at(post).duration)), 333, 2);
}

TEST(RequestSplit, FailuresThatNoSpanHasToldAreStillFailures) {
  RequestSplit split;
  split.learn(request_attributes("GET", 200, "/a"), 0.003, {});
  split.add(latency({{3'000'000, 10}}), {0, 0, 7, 0, 0, 3});
  EXPECT_EQ(total(split.parts().at({"", 0, "5xx", ""}).duration), 3U);
  EXPECT_EQ(total(split.parts().at({"GET", 200, "", "/a"}).duration), 7U);
}

TEST(RequestSplit, AttributesOfAPodAreBounded) {
  RequestSplit split;
  for (int i = 0; i < 500; ++i) {
    split.learn(request_attributes("M" + std::to_string(i), static_cast<std::uint16_t>(200 + i % 100),
                                   "/" + std::to_string(i) + "/x"),
                0.003, {});
    split.add(latency({{3'000'000, 100}, {9'000'000, 7}}), {3, 2, 50, 20, 20, 12});
  }
  EXPECT_LE(split.parts().size(), 2 * RequestSplit::kMost + 2);
  std::uint64_t sum = 0;
  for (const auto& [attributes, part] : split.parts()) {
    EXPECT_EQ(attributes.method, attributes.status == 0 ? "" : "_OTHER");
    sum += total(part.duration);
  }
  EXPECT_EQ(sum, 500U * 107);
}

TEST(LatencyFold, EveryRequestIsCountedOnceAndNearItsPlace) {
  for (unsigned int bucket = 0; bucket < BALLAST_HIST_BUCKETS; ++bucket) {
    spec::Latency latency;
    latency.count = 2;
    latency.buckets[bucket] = 2;
    DurationHistogram histogram;
    histogram.add(latency);
    std::size_t place = histogram.counts.size();
    std::uint64_t sum = 0;
    for (std::size_t i = 0; i < histogram.counts.size(); ++i) {
      sum += histogram.counts[i];
      place = histogram.counts[i] != 0 ? i : place;
    }
    EXPECT_EQ(sum, 2U);
    ASSERT_LT(place, histogram.counts.size());
    const double lower_s = static_cast<double>(ballast_hist_lower(bucket)) * 1e-9;
    if (place < kDurationBounds.size()) {
      EXPECT_LE(lower_s, kDurationBounds[place]) << bucket;
    }
    if (place > 0) {
      EXPECT_GE(lower_s * 1.125, kDurationBounds[place - 1]) << bucket;
    }
  }
}

}  // namespace
}  // namespace ballast::telemetry
