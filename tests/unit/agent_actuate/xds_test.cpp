// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/xds.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <thread>

#include "agent/guard/guard.h"
#include "core/base/file.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/service/discovery/v3/discovery.grpc.pb.h"
#include "envoy/service/endpoint/v3/eds.grpc.pb.h"
#include "eventually.h"
#include "weigher.h"

namespace ballast::actuate {
namespace {

using ballast::testing::many_endpoints;
using ballast::testing::Wanted;
using ballast::testing::Weigher;

using envoy::config::endpoint::v3::ClusterLoadAssignment;
using envoy::service::discovery::v3::AggregatedDiscoveryService;
using envoy::service::discovery::v3::DiscoveryRequest;
using envoy::service::discovery::v3::DiscoveryResponse;
using envoy::service::endpoint::v3::EndpointDiscoveryService;
using namespace std::chrono_literals;

constexpr const char* kType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
using Weights = std::map<std::string, std::uint32_t>;  ///< ip:port -> weight

/// A proxy of which the test moves every message.
class Proxy {
 public:
  explicit Proxy(const std::string& address, bool ads = false) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    channel_ = grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
    context_.set_deadline(std::chrono::system_clock::now() + 20s);
    context_.set_wait_for_ready(true);
    stream_ = ads ? AggregatedDiscoveryService::NewStub(channel_)->StreamAggregatedResources(&context_)
                  : EndpointDiscoveryService::NewStub(channel_)->StreamEndpoints(&context_);
  }
  ~Proxy() {
    if (!finished_) {
      context_.TryCancel();
      stream_->Finish();
    }
  }

  void subscribe(const std::vector<std::string>& names) {
    names_ = names;
    answer("");
  }
  bool read() { return stream_->Read(&response_); }
  void ack() { answer(response_.nonce()); }
  void nack(const std::string& why) { answer(response_.nonce(), why); }
  grpc::Status finish() {
    finished_ = true;
    return stream_->Finish();
  }

  const DiscoveryResponse& response() const { return response_; }
  /// Of the last response, by resource name.
  std::map<std::string, Weights> weights() const {
    std::map<std::string, Weights> all;
    for (const auto& any : response_.resources()) {
      ClusterLoadAssignment assignment;
      EXPECT_TRUE(any.UnpackTo(&assignment));
      Weights& weights = all[assignment.cluster_name()];
      EXPECT_EQ(assignment.endpoints_size(), 1);
      for (const auto& endpoint : assignment.endpoints(0).lb_endpoints()) {
        const auto& socket = endpoint.endpoint().address().socket_address();
        EXPECT_EQ(endpoint.health_status(), envoy::config::core::v3::HEALTHY);
        weights[socket.address() + ":" + std::to_string(socket.port_value())] =
            endpoint.load_balancing_weight().value();
      }
    }
    return all;
  }

 private:
  void answer(const std::string& nonce, const std::string& error = "") {
    DiscoveryRequest request;
    request.mutable_node()->set_id("test-proxy");
    request.set_type_url(kType);
    request.set_response_nonce(nonce);
    request.mutable_resource_names()->Assign(names_.begin(), names_.end());
    if (!error.empty()) {
      request.mutable_error_detail()->set_message(error);
    }
    stream_->Write(request);
  }

  std::shared_ptr<grpc::Channel> channel_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<DiscoveryRequest, DiscoveryResponse>> stream_;
  bool finished_ = false;
  std::vector<std::string> names_;
  DiscoveryResponse response_;
};

Weights weights_of(const guard::GuardedWeights& weights) {
  Weights all;
  for (const guard::WeightedEndpoint& endpoint : weights.endpoints()) {
    all[endpoint.address + ":" + std::to_string(endpoint.port)] = endpoint.weight;
  }
  return all;
}

std::unique_ptr<XdsSink> listen(const std::string& address = "127.0.0.1:0",
                                std::chrono::milliseconds patience = 2000ms) {
  auto sink = XdsSink::listen({.address = address, .patience = patience});
  EXPECT_TRUE(sink.ok()) << sink.error().message;
  return std::move(sink).value();
}

const std::vector<Wanted> kTwo = {{"web-0", "127.1.0.10", 8080, 3}, {"web-1", "127.1.0.11", 8080, 1}};
const std::vector<Wanted> kTwoTurned = {{"web-0", "127.1.0.10", 8080, 1}, {"web-1", "127.1.0.11", 8080, 3}};

class XdsTest : public ::testing::TestWithParam<bool> {
 protected:
  Weigher weigher_;
};

TEST_P(XdsTest, SubscriberGetsWhatIsInForceThenEveryChangeOfWhatItNamed) {
  auto sink = listen();
  const auto first = weigher_.weights("web", kTwo);
  ASSERT_TRUE(sink->publish(first).ok());
  ASSERT_TRUE(sink->publish(weigher_.weights("cart", kTwo)).ok());
  Proxy proxy(sink->address(), GetParam());
  proxy.subscribe({"shop/web"});
  ASSERT_TRUE(proxy.read());
  EXPECT_EQ(proxy.weights(), (std::map<std::string, Weights>{{"shop/web", weights_of(first)}}));
  proxy.ack();

  ASSERT_TRUE(sink->publish(weigher_.weights("cart", kTwoTurned)).ok());
  const auto second = weigher_.weights("web", kTwoTurned);
  ASSERT_NE(weights_of(first), weights_of(second));
  ASSERT_TRUE(sink->publish(second).ok());
  ASSERT_TRUE(proxy.read());
  EXPECT_EQ(proxy.weights(), (std::map<std::string, Weights>{{"shop/web", weights_of(second)}}));
  EXPECT_EQ(sink->acknowledgement_delay_s(), 0) << "nothing that was published to a stream is answered yet";
  proxy.ack();
  EXPECT_TRUE(eventually([&] { return sink->acknowledgement_delay_s() > 0; }));
}

INSTANTIATE_TEST_SUITE_P(EdsAndAds, XdsTest, ::testing::Bool());

class Xds : public ::testing::Test {
 protected:
  Weigher weigher_;
};

TEST_F(Xds, ServiceThatIsPublishedAfterTheSubscriptionIsSent) {
  auto sink = listen();
  Proxy proxy(sink->address());
  proxy.subscribe({"shop/web"});
  ASSERT_TRUE(eventually([&] { return sink->subscribers() == 1; }));
  ASSERT_TRUE(sink->publish(weigher_.weights("web", kTwo)).ok());
  ASSERT_TRUE(proxy.read());
  EXPECT_EQ(proxy.weights().count("shop/web"), 1U);
}

TEST_F(Xds, StreamsHaveSubscriptionsOfTheirOwn) {
  auto sink = listen();
  Proxy web(sink->address());
  Proxy cart(sink->address());
  web.subscribe({"shop/web"});
  cart.subscribe({"shop/cart"});
  ASSERT_TRUE(eventually([&] { return sink->subscribers() == 2; }));
  ASSERT_TRUE(sink->publish(weigher_.weights("web", kTwo)).ok());
  ASSERT_TRUE(sink->publish(weigher_.weights("cart", kTwo)).ok());
  ASSERT_TRUE(web.read());
  ASSERT_TRUE(cart.read());
  EXPECT_EQ(web.weights().begin()->first, "shop/web");
  EXPECT_EQ(web.weights().size(), 1U);
  EXPECT_EQ(cart.weights().begin()->first, "shop/cart");
  EXPECT_EQ(cart.weights().size(), 1U);
}

TEST_F(Xds, NackKeepsTheStreamAndTheNextWeightsAreSent) {
  auto sink = listen();
  Proxy proxy(sink->address());
  proxy.subscribe({"shop/web"});
  ASSERT_TRUE(eventually([&] { return sink->subscribers() == 1; }));
  ASSERT_TRUE(sink->publish(weigher_.weights("web", kTwo)).ok());
  ASSERT_TRUE(proxy.read());
  proxy.nack("unhappy");
  const auto turned = weigher_.weights("web", kTwoTurned);
  ASSERT_TRUE(sink->publish(turned).ok());
  ASSERT_TRUE(proxy.read());
  EXPECT_EQ(proxy.weights()["shop/web"], weights_of(turned));
  EXPECT_EQ(sink->acknowledgement_delay_s(), 0) << "a refusal is no acknowledgement";
}

TEST_F(Xds, ProxyThatLeavesIsForgottenAndOneThatReturnsGetsTheLatest) {
  auto sink = listen();
  {
    Proxy proxy(sink->address());
    proxy.subscribe({"shop/web"});
    ASSERT_TRUE(eventually([&] { return sink->subscribers() == 1; }));
  }
  EXPECT_TRUE(eventually([&] { return sink->subscribers() == 0; }));
  const auto weights = weigher_.weights("web", kTwo);
  ASSERT_TRUE(sink->publish(weights).ok());
  Proxy again(sink->address());
  again.subscribe({"shop/web"});
  ASSERT_TRUE(again.read());
  EXPECT_EQ(again.weights()["shop/web"], weights_of(weights));
}

TEST_F(Xds, RestartOnTheSameAddressServesAgain) {
  auto sink = listen();
  const std::string address = sink->address();
  Proxy before(address);
  before.subscribe({"shop/web"});
  ASSERT_TRUE(eventually([&] { return sink->subscribers() == 1; }));
  sink.reset();
  EXPECT_FALSE(before.read()) << "the stream ends with the server";
  sink = listen(address);
  ASSERT_TRUE(sink->publish(weigher_.weights("web", kTwo)).ok());
  Proxy after(address);
  after.subscribe({"shop/web"});
  EXPECT_TRUE(after.read());
}

TEST_F(Xds, SlowProxyBlocksNobodyAndEndsAtTheLatest) {
  auto sink = listen("127.0.0.1:0", 60s);  // longer than all of this takes
  Proxy slow(sink->address());
  Proxy quick(sink->address());
  slow.subscribe({"shop/web"});
  quick.subscribe({"shop/web"});
  ASSERT_TRUE(eventually([&] { return sink->subscribers() == 2; }));
  const std::vector<Wanted> many = many_endpoints(1000);
  const auto one = weigher_.weights("web", many);
  const auto equal = weigher_.weights("web", many, true);
  std::vector<double> took_ms;
  constexpr int kPublications = 300;  // 12 MB, far beyond what the stream's window takes
  for (int i = 0; i < kPublications; ++i) {
    const auto begun = std::chrono::steady_clock::now();
    ASSERT_TRUE(sink->publish(one).ok());
    took_ms.push_back(
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begun).count());
    ASSERT_TRUE(quick.read());
    quick.ack();
  }
  std::ranges::sort(took_ms);
  std::cout << "publish() of 1,000 endpoints: median " << took_ms[took_ms.size() / 2] << " ms, longest "
            << took_ms.back() << " ms\n";
  ASSERT_TRUE(sink->publish(equal).ok());
  ASSERT_TRUE(quick.read());
  EXPECT_EQ(quick.weights()["shop/web"], weights_of(equal));
  quick.ack();

  ASSERT_TRUE(slow.read());
  EXPECT_EQ(slow.weights()["shop/web"], weights_of(one));
  slow.ack();
  ASSERT_TRUE(slow.read());
  EXPECT_EQ(slow.weights()["shop/web"], weights_of(equal)) << "what came between was replaced";
}

TEST_F(Xds, ProxyThatNeverAnswersStillGetsTheLatest) {
  auto sink = listen("127.0.0.1:0", 50ms);
  Proxy mute(sink->address());
  mute.subscribe({"shop/web"});
  ASSERT_TRUE(eventually([&] { return sink->subscribers() == 1; }));
  ASSERT_TRUE(sink->publish(weigher_.weights("web", kTwo)).ok());
  ASSERT_TRUE(mute.read());
  const auto turned = weigher_.weights("web", kTwoTurned);
  ASSERT_TRUE(sink->publish(turned).ok());
  ASSERT_TRUE(mute.read());
  EXPECT_EQ(mute.weights()["shop/web"], weights_of(turned));
}

TEST_F(Xds, ReleaseMakesWeightsEqual) {
  auto sink = listen();
  Proxy proxy(sink->address());
  proxy.subscribe({"shop/web"});
  ASSERT_TRUE(eventually([&] { return sink->subscribers() == 1; }));
  ASSERT_TRUE(sink->publish(weigher_.weights("web", kTwo)).ok());
  ASSERT_TRUE(proxy.read());
  proxy.ack();
  ASSERT_TRUE(sink->publish(weigher_.release("web")).ok());
  ASSERT_TRUE(proxy.read());
  const Weights equal = proxy.weights()["shop/web"];
  ASSERT_EQ(equal.size(), 2U);
  EXPECT_EQ(equal.at("127.1.0.10:8080"), equal.at("127.1.0.11:8080"));
}

TEST_F(Xds, WithdrawnServiceIsLeftEqualAndForgotten) {
  auto sink = listen();
  Proxy proxy(sink->address());
  proxy.subscribe({"shop/web", "shop/cart"});
  ASSERT_TRUE(eventually([&] { return sink->subscribers() == 1; }));
  ASSERT_TRUE(sink->publish(weigher_.weights("web", kTwo)).ok());
  ASSERT_TRUE(proxy.read());
  proxy.ack();
  ASSERT_TRUE(sink->withdraw({"shop", "web"}).ok());
  ASSERT_TRUE(proxy.read());
  const Weights equal = proxy.weights()["shop/web"];
  ASSERT_EQ(equal.size(), 2U) << "the endpoints stay";
  EXPECT_EQ(equal.at("127.1.0.10:8080"), equal.at("127.1.0.11:8080"));
  proxy.ack();

  ASSERT_TRUE(sink->publish(weigher_.weights("cart", kTwo)).ok());
  Proxy later(sink->address());
  later.subscribe({"shop/web", "shop/cart"});
  ASSERT_TRUE(later.read());
  EXPECT_EQ(later.weights().count("shop/web"), 0U);
  EXPECT_EQ(later.weights().count("shop/cart"), 1U);
}

TEST_F(Xds, FlushWaitsForTheAnswerThenStops) {
  auto sink = listen();
  Proxy proxy(sink->address());
  proxy.subscribe({"shop/web"});
  ASSERT_TRUE(eventually([&] { return sink->subscribers() == 1; }));
  const auto weights = weigher_.weights("web", kTwo);
  ASSERT_TRUE(sink->publish(weights).ok());
  Weights seen;
  std::thread reader([&] {
    if (proxy.read()) {
      seen = proxy.weights()["shop/web"];
      proxy.ack();
    }
    EXPECT_FALSE(proxy.read());
  });
  sink->flush();
  reader.join();
  EXPECT_EQ(seen, weights_of(weights));
  const Status late = sink->publish(weights);
  ASSERT_FALSE(late.ok());
  EXPECT_NE(late.error().message.find("stopped"), std::string::npos);
  EXPECT_EQ(sink->subscribers(), 0U);
}

TEST_F(Xds, FlushDoesNotWaitForeverForASilentProxy) {
  auto sink = listen();
  Proxy silent(sink->address());
  silent.subscribe({"shop/web"});
  ASSERT_TRUE(eventually([&] { return sink->subscribers() == 1; }));
  ASSERT_TRUE(sink->publish(weigher_.weights("web", kTwo)).ok());
  const auto begun = std::chrono::steady_clock::now();
  sink->flush();
  EXPECT_LT(std::chrono::steady_clock::now() - begun, 10s);
  sink->flush();
}

TEST_F(Xds, TooManyNamesEndTheStream) {
  auto sink = listen();
  Proxy greedy(sink->address());
  std::vector<std::string> names;
  for (int i = 0; i < 5000; ++i) {
    names.push_back("shop/s" + std::to_string(i));
  }
  greedy.subscribe(names);
  EXPECT_FALSE(greedy.read());
  EXPECT_EQ(greedy.finish().error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST(XdsListen, PortInUseFailsAndNamesTheAddress) {
  auto sink = listen();
  const auto second = XdsSink::listen({.address = sink->address()});
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, Error::Kind::kFailed);
  EXPECT_NE(second.error().message.find(sink->address()), std::string::npos) << second.error().message;
  EXPECT_NE(second.error().message.find("in use"), std::string::npos) << second.error().message;
}

TEST(XdsListen, UnixSocketServesAndASecondServerIsRefused) {
  Result<TempDir> dir = TempDir::create("/tmp", "ballast-xds-");
  ASSERT_TRUE(dir.ok());
  const std::string address = "unix:" + (dir->path() / "eds.sock").string();
  Weigher weigher;
  {
    auto sink = listen(address);
    ASSERT_TRUE(sink->publish(weigher.weights("web", kTwo)).ok());
    const auto second = XdsSink::listen({.address = address});
    ASSERT_FALSE(second.ok());
    EXPECT_NE(second.error().message.find(address), std::string::npos) << second.error().message;
    Proxy proxy(address);
    proxy.subscribe({"shop/web"});
    EXPECT_TRUE(proxy.read());
  }
  listen(address);
  ASSERT_TRUE(write_file_atomic(dir->path() / "file", "precious").ok());
  EXPECT_FALSE(XdsSink::listen({.address = "unix:" + (dir->path() / "file").string()}).ok());
  EXPECT_EQ(read_file(dir->path() / "file").value(), "precious");
}

TEST(XdsListen, BeyondLoopbackOnlyWhenAskedFor) {
  const auto refused = XdsSink::listen({.address = "0.0.0.0:0"});
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, Error::Kind::kUsage);
  EXPECT_TRUE(XdsSink::listen({.address = "0.0.0.0:0", .allow_remote = true}).ok());
}

}  // namespace
}  // namespace ballast::actuate
