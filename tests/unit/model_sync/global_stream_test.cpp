// SPDX-License-Identifier: Apache-2.0
//
// The worker's client and the global network's server over a real socket in one process.
#include <cmath>

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

}  // namespace
}  // namespace ballast::sync
