// SPDX-License-Identifier: Apache-2.0
//
// Nodes that report to the fleet over a real socket.
#include <grpcpp/grpcpp.h>

#include <fstream>

#include "ballast_sync.grpc.pb.h"
#include "core/base/clock.h"
#include "model/sync/client/fleet_client.h"
#include "model/sync/wire/fleet_wire.h"
#include "served.h"

namespace ballast::sync {
namespace {

using namespace std::chrono_literals;

fleet::NodeReport report(const std::string& pod, double capacity_qps, bool whole = false) {
  fleet::NodeReport out;
  out.whole = whole;
  fleet::EndpointReport e;
  e.telemetry.id = {{"shop", "web"}, pod};
  e.telemetry.address = "127.1.0.9";
  e.telemetry.port = 8080;
  e.telemetry.known = true;
  e.telemetry.taken = SystemClock().now() - 100'000'000ULL;
  e.telemetry.qps = 50;
  e.telemetry.p50_ns = 1e6;
  e.telemetry.p99_ns = 2e7;
  e.telemetry.capacity_qps = capacity_qps;
  e.offset = -0.25;
  out.endpoints.push_back(std::move(e));
  return out;
}

class FleetStream : public Served {
 protected:
  void SetUp() override {
    Served::SetUp();
    serve();
  }
  std::unique_ptr<FleetClient> node(const std::string& name) const {
    return FleetClient::start(
        {.address = address_, .node_id = name, .first_wait = 5ms, .longest_wait = 50ms});
  }
  fleet::FleetRegistryStats registry() const { return server_->stats().fleet; }
  std::uint64_t refused(fleet::ReportVerdict verdict) const {
    return registry().verdicts[static_cast<std::size_t>(verdict)];
  }
};

TEST_F(FleetStream, WhoWaitsForTheAnswerHasWhatIsKnownNow) {
  const auto a = node("a");
  const auto b = node("b");
  for (const double capacity : {300.0, 150.0, 75.0}) {
    b->offer(report("web-1", capacity));
    ASSERT_NE(b->answered(10s), nullptr);
    a->offer(report("web-0", 100, true));
    const auto view = a->answered(10s);
    ASSERT_NE(view, nullptr);
    EXPECT_DOUBLE_EQ(view->services.at(0).others.at(0).telemetry.capacity_qps, capacity);
  }
  server_.reset();
  a->offer(report("web-0", 100, true));
  EXPECT_NE(a->answered(50ms), nullptr) << "nobody answers: what was known last";
}

TEST_F(FleetStream, ANodeGetsItsServicesJoinedOverAllNodes) {
  const auto a = node("a");
  const auto b = node("b");
  EXPECT_EQ(a->latest(), nullptr);
  b->offer(report("web-1", 300));
  ASSERT_TRUE(eventually([&] { return b->latest() != nullptr; }));
  a->offer(report("web-0", 100, true));
  ASSERT_TRUE(eventually([&] { return a->latest() != nullptr; }));
  const auto view = a->latest();
  EXPECT_TRUE(view->whole);
  EXPECT_EQ(view->nodes, 2U);
  ASSERT_EQ(view->services.size(), 1U);
  EXPECT_EQ(view->services[0].aggregate.service, (spec::ServiceId{"shop", "web"}));
  ASSERT_EQ(view->services[0].others.size(), 1U);
  const fleet::EndpointReport& other = view->services[0].others[0];
  EXPECT_EQ(other.telemetry.id.pod, "web-1");
  EXPECT_EQ(other.telemetry.port, 8080);
  EXPECT_DOUBLE_EQ(other.telemetry.capacity_qps, 300);
  EXPECT_DOUBLE_EQ(other.offset, -0.25);
  const double age_s = static_cast<double>(SystemClock().now() - other.telemetry.taken) * 1e-9;
  EXPECT_GE(age_s, 0.1) << "as old as it was when it was reported, and older";
  // The aggregate of a service is made anew twice a second.
  ASSERT_TRUE(eventually([&] {
    b->offer(report("web-1", 300));
    std::this_thread::sleep_for(50ms);
    const auto& services = b->latest()->services;
    return !services.empty() && services[0].aggregate.endpoints == 2 &&
           services[0].aggregate.mean_capacity_qps == 200 && services[0].others.empty();
  }));
}

TEST_F(FleetStream, ANodeComesBackToAServerThatRestarted) {
  const auto a = node("a");
  a->offer(report("web-0", 100));
  ASSERT_TRUE(eventually([&] { return registry().nodes == 1; }));
  server_.reset();
  serve_again();
  EXPECT_EQ(registry().nodes, 0U) << "the fleet is made of reports alone";
  ASSERT_TRUE(eventually([&] {
    a->offer(report("web-0", 100));
    std::this_thread::sleep_for(10ms);
    return registry().nodes == 1;
  }));
  EXPECT_GE(a->counters().broken, 1U);
  EXPECT_EQ(refused(fleet::ReportVerdict::kReplay), 0U);
}

TEST_F(FleetStream, RepeatedAndEarlierReportsAreRefusedAndTheStreamGoesOn) {
  const auto channel = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
  const auto stub = v1::Fleet::NewStub(channel);
  grpc::ClientContext context;
  const auto stream = stub->Report(&context);
  v1::NodeReport message;
  fleet::NodeReport said = report("web-0", 100);
  said.node = "a";
  said.session = 7;
  said.sequence = 5;
  said.sent = SystemClock().now();
  to_wire(said, &message);
  const auto verdict = [&] {
    v1::FleetAnswer answer;
    EXPECT_TRUE(stream->Write(message));
    EXPECT_TRUE(stream->Read(&answer));
    EXPECT_EQ(answer.reason().empty(), answer.verdict() == v1::FleetAnswer::ACCEPTED);
    return answer.verdict();
  };
  EXPECT_EQ(verdict(), v1::FleetAnswer::ACCEPTED);
  EXPECT_EQ(verdict(), v1::FleetAnswer::REPLAY);
  message.set_sequence(4);
  EXPECT_EQ(verdict(), v1::FleetAnswer::REPLAY);
  message.set_sequence(6);
  message.set_session(6);
  EXPECT_EQ(verdict(), v1::FleetAnswer::SESSION);
  message.set_session(7);
  message.set_sent_ns(message.sent_ns() - 60'000'000'000ULL);
  EXPECT_EQ(verdict(), v1::FleetAnswer::LATE);
  message.set_sent_ns(SystemClock().now());
  for (int i = 0; i < 1100; ++i) {
    *message.add_endpoints() = message.endpoints(0);
  }
  EXPECT_EQ(verdict(), v1::FleetAnswer::TOO_MANY);
  message.mutable_endpoints()->DeleteSubrange(1, 1100);
  EXPECT_EQ(verdict(), v1::FleetAnswer::ACCEPTED);
  // Another node in the same stream.
  message.set_node_id("b");
  v1::FleetAnswer answer;
  stream->Write(message);
  EXPECT_FALSE(stream->Read(&answer));
  EXPECT_EQ(stream->Finish().error_code(), grpc::INVALID_ARGUMENT);
}

std::size_t resident_kb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) {
      return std::stoul(line.substr(6));
    }
  }
  return 0;
}

TEST_F(FleetStream, AReportOfManyEmptyEndpointsTakesNoMemory) {
  const auto channel = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
  const auto stub = v1::Fleet::NewStub(channel);
  v1::NodeReport message;
  message.set_node_id("a");
  for (int i = 0; i < 250'000; ++i) {
    message.add_endpoints();
  }
  grpc::ClientContext context;
  const auto stream = stub->Report(&context);
  const std::size_t before = resident_kb();
  for (int i = 0; i < 3; ++i) {
    v1::FleetAnswer answer;
    ASSERT_TRUE(stream->Write(message));
    ASSERT_TRUE(stream->Read(&answer));
    EXPECT_EQ(answer.verdict(), v1::FleetAnswer::TOO_MANY);
    EXPECT_NE(answer.reason().find("250000"), std::string::npos);
    EXPECT_EQ(answer.services_size(), 0);
  }
  // Parsed they were 50 MB, and as much again once read.
  EXPECT_LT(resident_kb(), before + 16'000);
  EXPECT_EQ(refused(fleet::ReportVerdict::kTooMany), 3U);
}

TEST_F(FleetStream, LatenciesThatAreNoHistogramAreMalformed) {
  const auto channel = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
  const auto stub = v1::Fleet::NewStub(channel);
  grpc::ClientContext context;
  const auto stream = stub->Report(&context);
  v1::NodeReport message;
  message.set_node_id("a");
  message.add_endpoints()->add_latency_gaps(3);
  v1::FleetAnswer answer;
  ASSERT_TRUE(stream->Write(message));
  ASSERT_TRUE(stream->Read(&answer));
  EXPECT_EQ(answer.verdict(), v1::FleetAnswer::MALFORMED);
  EXPECT_EQ(refused(fleet::ReportVerdict::kMalformed), 1U);
}

TEST_F(FleetStream, AReportTooLargeIsExhaustedAndWorkersGoOn) {
  const auto channel = grpc::CreateChannel(address_, grpc::InsecureChannelCredentials());
  const auto stub = v1::Fleet::NewStub(channel);
  for (const std::size_t bytes : {600'000UL, 20'000'000UL}) {
    grpc::ClientContext context;
    const auto stream = stub->Report(&context);
    v1::NodeReport message;
    message.set_node_id("a");
    message.add_endpoints()->set_pod(std::string(bytes, 'x'));
    stream->Write(message);
    v1::FleetAnswer answer;
    EXPECT_FALSE(stream->Read(&answer));
    EXPECT_EQ(stream->Finish().error_code(), grpc::RESOURCE_EXHAUSTED);
  }
  const auto a = node("a");
  a->offer(report("web-0", 100));
  EXPECT_TRUE(eventually([&] { return a->latest() != nullptr; }));
}

TEST_F(FleetStream, OnlyTheWriterIsShownWhatOtherNodesMeasured) {
  ServerOptions options;
  options.writer_prefix = "writer:";
  serve(options);
  const auto a = node("a");
  a->offer(report("web-0", 100));
  ASSERT_TRUE(eventually([&] { return a->latest() != nullptr; }));
  const auto curious = node("b");
  curious->offer(report("web-1", 300, true));
  ASSERT_TRUE(eventually([&] { return curious->latest() != nullptr; }));
  EXPECT_FALSE(curious->latest()->whole);
  ASSERT_FALSE(curious->latest()->services.empty());
  EXPECT_TRUE(curious->latest()->services[0].others.empty());

  const auto writer = node("writer:global-1");
  writer->offer(report("web-9", 1e9, true));  // what it claims to have measured is not heard
  ASSERT_TRUE(eventually([&] { return writer->latest() != nullptr; }));
  const auto view = writer->latest();
  EXPECT_TRUE(view->whole);
  EXPECT_EQ(view->nodes, 2U) << "a writer is no node";
  ASSERT_EQ(view->services.size(), 1U);
  ASSERT_EQ(view->services[0].others.size(), 2U);
  EXPECT_EQ(view->services[0].others[1].telemetry.id.pod, "web-1");
}

TEST_F(FleetStream, ANodeSpeaksForItsOwnEndpointsAlone) {
  ServerOptions options;
  options.owns = [](const std::string& node, const spec::EndpointTelemetry& endpoint) {
    return node == "a" && endpoint.id.pod == "web-0";
  };
  serve(options);
  const auto hostile = node("b");
  hostile->offer(report("web-0", 1e9));
  ASSERT_TRUE(eventually([&] { return hostile->latest() != nullptr; }));
  const auto owner = node("a");
  owner->offer(report("web-0", 100));
  ASSERT_TRUE(eventually([&] { return owner->latest() != nullptr && !owner->latest()->services.empty(); }));
  EXPECT_NEAR(owner->latest()->services[0].aggregate.mean_capacity_qps, 100, 1e-3);
  EXPECT_EQ(server_->stats().foreign, 1U);
  EXPECT_EQ(registry().claimed, 0U);
}

}  // namespace
}  // namespace ballast::sync
