// SPDX-License-Identifier: Apache-2.0
//
// The worker's client and the global network's server over a real socket in one process.
#include <cmath>

#include "core/spec/gains.h"
#include "model/sync/client/fleet_client.h"
#include "model/sync/client/worker_client.h"
#include "served.h"

namespace ballast::sync {
namespace {

using namespace std::chrono_literals;

Gradient gradient_at(Version acted) {
  Gradient gradient{acted, 20, 1, std::vector<float>(spec::kParameters, 0.0F)};
  gradient.values[7] = 1;
  return gradient;
}

class GlobalStream : public Served {
 protected:
  void serve(std::uint64_t epoch, std::uint64_t version = 0) { Served::serve({}, {epoch, version}); }
  void work() {
    client_ = WorkerClient::start({.address = address_,
                                   .worker_id = "test",
                                   .pull_interval = 20ms,
                                   .first_wait = 5ms,
                                   .longest_wait = 50ms,
                                   .queue = 4});
  }
  // Waits for the next new parameters.
  std::shared_ptr<const Received> next() {
    std::shared_ptr<const Received> received;
    eventually([&] { return (received = client_->take_parameters()) != nullptr; });
    return received;
  }

  std::unique_ptr<WorkerClient> client_;
};

TEST_F(GlobalStream, PullGivesTheSameBytesOnce) {
  serve(3, 17);
  work();
  const auto received = next();
  ASSERT_NE(received, nullptr);
  EXPECT_EQ(received->bytes, network_->parameters().second);
  EXPECT_EQ(received->parameters, network_->state().parameters);
  std::this_thread::sleep_for(100ms);  // several pulls
  EXPECT_EQ(client_->take_parameters(), nullptr) << "nothing has changed";
}

TEST_F(GlobalStream, APushIsAppliedAndAnsweredWithTheNextVersion) {
  serve(3, 17);
  work();
  ASSERT_NE(next(), nullptr);
  ASSERT_TRUE(client_->push(gradient_at({3, 17})));
  const auto received = next();
  ASSERT_NE(received, nullptr);
  EXPECT_EQ(received->parameters.version, 18U);
  EXPECT_EQ(received->bytes, network_->parameters().second);
  EXPECT_TRUE(eventually([&] { return client_->counters().accepted == 1; }));
}

TEST_F(GlobalStream, ARejectedPushIsCountedAndChangesNothing) {
  serve(3, 17);
  work();
  ASSERT_NE(next(), nullptr);
  auto gradient = gradient_at({3, 17});
  gradient.values[9] = std::nanf("");
  ASSERT_TRUE(client_->push(gradient));
  ASSERT_TRUE(client_->push(gradient_at({2, 17})));
  EXPECT_TRUE(eventually([&] { return client_->counters().rejected == 2; }));
  EXPECT_EQ(network_->version(), (Version{3, 17}));
  EXPECT_EQ(client_->take_parameters(), nullptr);
}

TEST_F(GlobalStream, WithoutAServerNothingBlocksAndTheQueueIsBounded) {
  work();
  for (int i = 0; i < 10; ++i) {
    client_->push(gradient_at({1, 1}));
  }
  EXPECT_FALSE(client_->connected());
  EXPECT_EQ(client_->take_parameters(), nullptr);
  // Four wait; each attempt to connect takes one more out, on its way to nobody.
  EXPECT_GE(client_->counters().dropped, 1U);
  EXPECT_TRUE(eventually([&] { return client_->counters().lost == 10 - client_->counters().dropped; }));
}

TEST_F(GlobalStream, ReturnsToARestartedServerAndTakesTheHigherEpoch) {
  serve(3, 17);
  work();
  ASSERT_NE(next(), nullptr);
  server_.reset();
  ASSERT_TRUE(eventually([&] { return !client_->connected(); }));
  EXPECT_EQ(client_->take_parameters(), nullptr) << "the last good ones stay";
  serve(4, 2);
  const auto received = next();
  ASSERT_NE(received, nullptr);
  EXPECT_EQ(received->parameters.epoch, 4U);
  EXPECT_EQ(received->parameters.version, 2U);
  ASSERT_TRUE(client_->push(gradient_at({4, 2})));
  EXPECT_TRUE(eventually([&] { return network_->version() == Version{4, 3}; }));
  EXPECT_EQ(client_->counters().connects, 2U);
}

TEST_F(GlobalStream, ADeposedLeaderIsNotBelieved) {
  serve(5, 1);
  work();
  ASSERT_NE(next(), nullptr);
  server_.reset();
  serve(4, 900);
  EXPECT_TRUE(eventually([&] { return client_->counters().refused_parameters > 0; }));
  EXPECT_EQ(client_->take_parameters(), nullptr);
}

TEST_F(GlobalStream, ManyWorkersAtOnce) {
  serve(3);
  std::vector<std::unique_ptr<WorkerClient>> workers;
  for (int i = 0; i < 16; ++i) {
    workers.push_back(WorkerClient::start({.address = address_, .worker_id = std::to_string(i)}));
  }
  EXPECT_TRUE(eventually([&] { return server_->workers() == 16; }));
  for (auto& worker : workers) {
    worker->push(gradient_at({3, 0}));
  }
  EXPECT_TRUE(eventually([&] { return network_->version() == Version{3, 16}; }));
  workers.clear();
  EXPECT_TRUE(eventually([&] { return server_->workers() == 0; }));
}

TEST_F(GlobalStream, AnAddressInUseIsNamed) {
  serve(3);
  auto unix_again = GlobalServer::start(address_, *network_);
  ASSERT_FALSE(unix_again);
  EXPECT_NE(unix_again.error().message.find(address_), std::string::npos);
  auto tcp = GlobalServer::start("127.0.0.1:0", *network_);
  ASSERT_TRUE(tcp);
  const std::string taken = (*tcp)->address();
  EXPECT_FALSE(taken.ends_with(":0"));
  auto tcp_again = GlobalServer::start(taken, *network_);
  ASSERT_FALSE(tcp_again);
  EXPECT_NE(tcp_again.error().message.find(taken + ": Address already in use"), std::string::npos)
      << tcp_again.error().message;
}

/// The gains: a network a service.
class GainsStream : public Served {
 protected:
  void SetUp() override {
    Served::SetUp();
    options_.gains = &gains_;
  }
  void TearDown() override { server_.reset(); }  // the gains outlive it
  std::unique_ptr<WorkerClient> work(const std::string& worker, const std::string& service) const {
    return WorkerClient::start({.address = address_,
                                .worker_id = worker,
                                .network = Network::kGains,
                                .service = service,
                                .pull_interval = 20ms,
                                .first_wait = 5ms,
                                .longest_wait = 50ms});
  }
  static std::shared_ptr<const Received> next(WorkerClient& client) {
    std::shared_ptr<const Received> received;
    eventually([&] { return (received = client.take_parameters()) != nullptr; });
    return received;
  }
  static Gradient gradient_at(Version acted, float first) {
    Gradient gradient{acted, 1, std::abs(first), std::vector<float>(spec::kGains, 0.0F)};
    gradient.values[0] = first;
    return gradient;
  }

  GainsNetworks gains_{3, {}, 3};
  ServerOptions options_;
};

TEST_F(GainsStream, EachServiceHasItsOwnAndTheyStayWithinTheirBounds) {
  serve(options_);
  const auto web = work("node-1", "shop/web");
  const auto cart = work("node-1", "shop/cart");
  auto held = next(*web);
  ASSERT_NE(held, nullptr);
  ASSERT_NE(next(*cart), nullptr);
  EXPECT_EQ(held->parameters.theta, std::vector<float>(spec::kGains));
  EXPECT_EQ(held->parameters.epoch, 3U);
  for (int i = 0; i < 40; ++i) {  // downhill, and beyond the end of it
    ASSERT_TRUE(web->push(gradient_at({3, held->parameters.version}, -0.5F - 0.01F * static_cast<float>(i))));
    ASSERT_TRUE(held = next(*web));
  }
  EXPECT_EQ(held->parameters.version, 40U);
  EXPECT_EQ(held->parameters.theta[0], 1.0F);
  EXPECT_EQ(held->parameters.theta[1], 0.0F);
  EXPECT_EQ(cart->take_parameters(), nullptr) << "another service's";
  ASSERT_TRUE(cart->push(gradient_at({3, 7}, 1)));
  EXPECT_TRUE(eventually([&] { return cart->counters().rejected == 1; }))
      << "a version that it does not have";
}

TEST_F(GainsStream, WhatExplodesIsRefusedAndWhoPushesItShutOut) {
  serve(options_);
  const auto mad = work("mad", "shop/web");
  ASSERT_NE(next(*mad), nullptr);
  for (int i = 0; i < 7; ++i) {
    ASSERT_TRUE(mad->push(gradient_at({3, 0}, i % 2 == 0 ? 1e20F : std::nanf(""))));
  }
  ASSERT_TRUE(eventually([&] { return mad->counters().rejected == 7; }));
  const auto all = gains_.stats();
  ASSERT_EQ(all.size(), 1U);
  EXPECT_EQ(all[0].service, "shop/web");
  EXPECT_EQ(all[0].stats.version, (Version{3, 0}));
  EXPECT_EQ(all[0].stats.quarantined, 1U);
}

TEST_F(GainsStream, AreOfServicesAloneAndNotOfTooMany) {
  serve(options_);
  for (const char* name : {"", "web", "/web", "shop/", "shop/a b"}) {
    const auto nobody = work("node-1", name);
    ASSERT_TRUE(eventually([&] { return ended(Ended::kMalformed) > 0; })) << name;
    EXPECT_EQ(nobody->take_parameters(), nullptr);
    serve(options_);
  }
  std::vector<std::unique_ptr<WorkerClient>> three;
  for (const char* name : {"a/a", "a/b", "a/c"}) {
    three.push_back(work("node-1", name));
    ASSERT_NE(next(*three.back()), nullptr);
  }
  const auto fourth = work("node-1", "a/d");
  ASSERT_TRUE(eventually([&] { return ended(Ended::kMalformed) > 0; }));
  EXPECT_EQ(fourth->take_parameters(), nullptr);
}

TEST_F(GainsStream, ANodeLearnsThoseOfServicesAloneThatItHasEndpointsOf) {
  options_.owns = [](const std::string&, const spec::EndpointTelemetry&) { return true; };
  serve(options_);
  const auto worker = work("node-1", "shop/web");
  ASSERT_TRUE(eventually([&] { return ended(Ended::kIdentity) > 0; }));
  EXPECT_EQ(worker->take_parameters(), nullptr);
  const auto agent = FleetClient::start({.address = address_, .node_id = "node-1"});
  fleet::NodeReport report{.node = "node-1", .tick_s = 0.25, .endpoints = {{}}};
  report.endpoints[0].telemetry.id = {{"shop", "web"}, "web-0"};
  std::shared_ptr<const Received> received;
  ASSERT_TRUE(eventually([&] {
    agent->offer(report);
    return (received = worker->take_parameters()) != nullptr;
  }));
  EXPECT_EQ(received->parameters.theta.size(), spec::kGains);
}

TEST_F(GainsStream, ANewVersionIsTriedBySomeAndReleasedWhereTheyArePaidBetter) {
  options_.promotion = {.share = 0.5, .window = 1s, .reports = 5};
  serve(options_);
  struct One {
    std::unique_ptr<WorkerClient> client;
    std::shared_ptr<const Received> held = {};
  };
  std::vector<One> nodes;
  for (const char* name : {"node-1", "node-2"}) {
    nodes.push_back({.client = work(name, "shop/web")});
    ASSERT_NE(nodes.back().held = next(*nodes.back().client), nullptr);
  }
  float more = 0;
  ASSERT_TRUE(eventually([&] {
    for (One& node : nodes) {
      if (const auto newer = node.client->take_parameters()) {
        node.held = newer;
      }
      const float gain = node.held->parameters.theta[0];
      Gradient gradient = gradient_at({3, node.held->parameters.version}, -0.5F - (more += 1e-4F));
      gradient.objective = static_cast<double>(gain + 0.01F * std::sin(1000 * more));  // more gain pays
      node.client->push(gradient);
    }
    std::this_thread::sleep_for(50ms);
    return server_->released_gains("shop/web")->version > 0;
  })) << nodes[0].held->parameters.version
      << ' ' << nodes[1].held->parameters.version;
}

}  // namespace
}  // namespace ballast::sync
