// SPDX-License-Identifier: Apache-2.0
//
// Messages as they are on the wire, byte by byte: a side that is one version behind or ahead still
// understands the other. These bytes are never changed; a new field gets a new case.
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "model/sync/wire/fleet_wire.h"
#include "model/sync/wire/wire.h"
#include "telemetry.h"

namespace ballast::sync {
namespace {

using namespace std::string_literals;

// worker_id "n1"; held {5, 9}; gradient {acted {5, 8}, steps 20, norm 1.0, values of one float 1.0}.
const std::string kWorkerOfFirstVersion =
    "\x0a\x02n1"
    "\x12\x04\x08\x05\x10\x09"
    "\x1a\x17\x0a\x04\x08\x05\x10\x08\x10\x14\x19\x00\x00\x00\x00\x00\x00\xf0\x3f\x22\x04\x00\x00\x80\x3f"s;

// current {5, 10}; verdict REJECTED_STALE; reason "late"; parameters "abc".
const std::string kServerOfFirstVersion =
    "\x0a\x04\x08\x05\x10\x0a"
    "\x10\x07"
    "\x1a\x04late"
    "\x22\x03"
    "abc"s;

TEST(Compatibility, AWorkerOneVersionBehindIsUnderstood) {
  v1::WorkerMessage message;
  ASSERT_TRUE(message.ParseFromString(kWorkerOfFirstVersion));
  EXPECT_EQ(message.worker_id(), "n1");
  EXPECT_EQ(from_wire(message.held()), (Version{5, 9}));
  EXPECT_EQ(message.gradient().type(), v1::Gradient::FLOAT32) << "unset means what it meant";
  const Gradient gradient = from_wire(message.gradient());
  EXPECT_EQ(gradient.acted, (Version{5, 8}));
  EXPECT_EQ(gradient.steps, 20U);
  EXPECT_EQ(gradient.norm, 1.0);
  EXPECT_EQ(gradient.values, std::vector<float>{1.0F});
}

TEST(Compatibility, WhatAWorkerSaysReadsTheSameToAServerOneVersionBehind) {
  v1::WorkerMessage message;
  message.set_worker_id("n1");
  *message.mutable_held() = to_wire(Version{5, 9});
  *message.mutable_gradient() = to_wire(Gradient{{5, 8}, 20, 1.0, {1.0F}});
  EXPECT_EQ(message.SerializeAsString(), kWorkerOfFirstVersion);
}

TEST(Compatibility, AWorkerOfTheForecastSaysSo) {
  v1::WorkerMessage message;
  ASSERT_TRUE(message.ParseFromString(kWorkerOfFirstVersion));
  EXPECT_EQ(message.network(), v1::WorkerMessage::ACTOR_CRITIC) << "unset means what it meant";
  EXPECT_EQ(from_wire(message.gradient()).learned_from.samples, 0U);
  ASSERT_TRUE(message.ParseFromString(kWorkerOfFirstVersion + "\x20\x01"s));
  EXPECT_EQ(message.network(), v1::WorkerMessage::FORECAST);
  Gradient gradient{{5, 8}, 20, 1.0, {1.0F}};
  gradient.learned_from = {900, 120, 0.5F, 1, 600, 41.5F, 43, 2};
  const Gradient back = from_wire(to_wire(gradient));
  EXPECT_EQ(back.learned_from.samples, 900U);
  EXPECT_EQ(back.learned_from.span_s, 120);
  EXPECT_EQ(back.learned_from.error, 0.5F);
  EXPECT_EQ(back.learned_from.twin_s, 600);
  EXPECT_EQ(back.learned_from.foreseen_p99_ms, 41.5F);
  EXPECT_EQ(back.learned_from.came_p99_ms, 43);
  EXPECT_EQ(back.learned_from.gains, 2U);
}

TEST(Compatibility, AWorkerOfAServicesGainsSaysWhose) {
  v1::WorkerMessage message;
  ASSERT_TRUE(message.ParseFromString(kWorkerOfFirstVersion));
  EXPECT_EQ(message.service(), "") << "unset means what it meant";
  ASSERT_TRUE(message.ParseFromString(kWorkerOfFirstVersion + "\x20\x02\x2a\x03"
                                                              "a/b"s));
  EXPECT_EQ(message.network(), v1::WorkerMessage::GAINS);
  EXPECT_EQ(message.service(), "a/b");
}

TEST(Compatibility, AServerOneVersionBehindIsUnderstood) {
  v1::ServerMessage message;
  ASSERT_TRUE(message.ParseFromString(kServerOfFirstVersion));
  EXPECT_EQ(from_wire(message.current()), (Version{5, 10}));
  EXPECT_EQ(message.verdict(), v1::ServerMessage::REJECTED_STALE);
  EXPECT_EQ(message.reason(), "late");
  EXPECT_EQ(message.parameters(), "abc");
  EXPECT_EQ(message.status(), 0U);
}

TEST(Compatibility, WhatIsUnknownIsSkipped) {
  const std::string later =
      "\xfa\x3f\x06"
      "future"
      "\x80\x40\x01"s;  // fields 1023 and 1024
  v1::WorkerMessage worker;
  ASSERT_TRUE(worker.ParseFromString(kWorkerOfFirstVersion + later));
  EXPECT_EQ(from_wire(worker.gradient()).steps, 20U);
  v1::ServerMessage server;
  ASSERT_TRUE(server.ParseFromString(kServerOfFirstVersion + later));
  EXPECT_EQ(server.reason(), "late");
}

// node_id "n1", session 7, sequence 9, sent 100 ns, tick .25 s, delay .5 s, whole, and one endpoint of
// s/w: p, 10 ns old, qps 1, capacity 1.
const std::string kReportOfFirstVersion =
    "\x0a\x02n1"
    "\x10\x07\x18\x09\x20\x64\x2d\x00\x00\x80\x3e\x35\x00\x00\x00\x3f\x38\x01"
    "\x42\x16\x0a\x01s\x12\x01w\x1a\x01p\x30\x0a\x3d\x00\x00\x80\x3f\xb5\x01\x00\x00\x80\x3f"s;

TEST(Compatibility, ANodeOneVersionBehindIsUnderstood) {
  v1::NodeReport message;
  ASSERT_TRUE(message.ParseFromString(kReportOfFirstVersion));
  const auto read = from_wire(message);
  ASSERT_TRUE(read);
  const fleet::NodeReport& report = *read;
  EXPECT_EQ(report.session, 7U);
  EXPECT_EQ(report.sequence, 9U);
  EXPECT_EQ(report.tick_s, 0.25);
  EXPECT_TRUE(report.whole);
  ASSERT_EQ(report.endpoints.size(), 1U);
  const spec::EndpointTelemetry& endpoint = report.endpoints[0].telemetry;
  EXPECT_EQ(endpoint.id, (spec::EndpointId{{"s", "w"}, "p"}));
  EXPECT_EQ(endpoint.taken, 90U);
  EXPECT_EQ(endpoint.capacity_qps, 1.0);
  EXPECT_TRUE(endpoint.latency.empty()) << "it tells no histogram";
}

// An endpoint with its latencies: buckets 70, 71 and 90 with 3, 200 and 1 requests.
const std::string kLatenciesOfFirstVersion = "\xca\x01\x03\x46\x01\x13\xd2\x01\x04\x03\xc8\x01\x01"s;

TEST(Compatibility, LatenciesTravelAsGapsAndCounts) {
  fleet::NodeReport report;
  report.endpoints.emplace_back().telemetry.latency = {{70, 3}, {71, 200}, {90, 1}};
  v1::NodeReport message;
  to_wire(report, &message);
  EXPECT_NE(message.SerializeAsString().find(kLatenciesOfFirstVersion), std::string::npos);
  const auto read = from_wire(message);
  ASSERT_TRUE(read);
  EXPECT_EQ(read->endpoints[0].telemetry.latency, report.endpoints[0].telemetry.latency);
}

TEST(Compatibility, LatenciesOfThirtyPodsAddLessThanThreeKilobytes) {
  std::mt19937_64 random(3);
  std::lognormal_distribution<double> ns(std::log(8e6), 0.6);
  fleet::NodeReport report{.node = "worker-7.eu-central.example", .session = 1, .sequence = 1};
  for (int pod = 0; pod < 30; ++pod) {
    spec::EndpointTelemetry& t = report.endpoints.emplace_back().telemetry;
    t.id = {{"shop", "checkout"}, "checkout-6d5f7c9b8d-" + std::to_string(10'000 + pod)};
    t.address = "10.244.7." + std::to_string(10 + pod);
    t.port = 8080;
    for (double* number : {&t.qps, &t.tick_requests, &t.p50_ns, &t.p99_ns, &t.tick_p50_ns, &t.in_flight,
                           &t.cpu_cores, &t.cpu_limit_cores, &t.utilisation, &t.memory_bytes, &t.memory_share,
                           &t.capacity_qps, &t.wait_share, &t.error_rate}) {
      *number = ns(random);
    }
    std::vector<double> window(500);  // 100 requests a second
    std::generate(window.begin(), window.end(), [&] { return ns(random); });
    t.latency = ballast::testing::latencies(window);
  }
  const auto bytes = [](const fleet::NodeReport& of) {
    v1::NodeReport message;
    to_wire(of, &message);
    return message.ByteSizeLong();
  };
  const std::size_t with = bytes(report);
  for (auto& endpoint : report.endpoints) {
    endpoint.telemetry.latency.clear();
  }
  const std::size_t without = bytes(report);
  RecordProperty("bytes_with", static_cast<int>(with));
  RecordProperty("bytes_without", static_cast<int>(without));
  EXPECT_LT(with - without, 30U * 100U) << with << " bytes where " << without << " were";
}

TEST(Compatibility, WhatIsNoHistogramIsRefused) {
  const auto refused = [](const std::vector<std::uint32_t>& gaps, const std::vector<std::uint32_t>& counts) {
    v1::NodeReport message;
    v1::EndpointReport* endpoint = message.add_endpoints();
    endpoint->set_pod("web-0");
    endpoint->mutable_latency_gaps()->Add(gaps.begin(), gaps.end());
    endpoint->mutable_latency_counts()->Add(counts.begin(), counts.end());
    const auto read = from_wire(message);
    return !read && read.error().message.find("web-0") != std::string::npos;
  };
  EXPECT_FALSE(refused({0, 217}, {1, 1}));
  EXPECT_TRUE(refused({0, 218}, {1, 1})) << "no such bucket";
  EXPECT_TRUE(refused({1, 0xFFFFFFFF}, {1, 1}));
  EXPECT_TRUE(refused({5, 0}, {1, 1})) << "the same bucket again";
  EXPECT_TRUE(refused({5}, {0})) << "an empty bucket";
  EXPECT_TRUE(refused({5, 1}, {1})) << "a bucket without a count";
  EXPECT_TRUE(refused(std::vector<std::uint32_t>(100'000, 1), std::vector<std::uint32_t>(100'000, 1)));
}

TEST(Compatibility, EndpointsAreCountedWithoutBeingMade) {
  v1::NodeReport message;
  message.set_node_id("n1");
  for (int i = 0; i < 300; ++i) {
    message.add_endpoints()->set_pod(i % 2 == 0 ? "" : "web");
  }
  const auto count = [](const std::string& bytes) {
    google::protobuf::io::ArrayInputStream in(bytes.data(), static_cast<int>(bytes.size()));
    return endpoints_in(in);
  };
  EXPECT_EQ(count(message.SerializeAsString()), 300U);
  EXPECT_EQ(count(kReportOfFirstVersion), 1U);
  EXPECT_EQ(count(""), 0U);
  EXPECT_EQ(count("\x42\x7f"), 0U) << "cut";
}

TEST(Compatibility, AWorkerThatDoesNotTellItsObjectiveTellsNone) {
  v1::WorkerMessage message;
  ASSERT_TRUE(message.ParseFromString(kWorkerOfFirstVersion));
  EXPECT_TRUE(std::isnan(from_wire(message.gradient()).objective));
  message.mutable_gradient()->set_objective(-1.5);
  EXPECT_EQ(from_wire(message.gradient()).objective, -1.5);
}

TEST(Compatibility, AVerdictOfALaterVersionIsARejection) {
  v1::ServerMessage message;
  ASSERT_TRUE(message.ParseFromString("\x10\x63"s));
  EXPECT_NE(message.verdict(), v1::ServerMessage::ACCEPTED);
  EXPECT_NE(message.verdict(), v1::ServerMessage::VERDICT_UNSPECIFIED);
}

}  // namespace
}  // namespace ballast::sync
