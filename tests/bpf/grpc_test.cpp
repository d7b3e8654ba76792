// SPDX-License-Identifier: Apache-2.0
// gRPC's own C++ server and client over loopback, all four kinds of call.
#include <gtest/gtest.h>

#include <chrono>
#include <string>

#include "live.h"

namespace ballast::testing {
namespace {

class GrpcProbe : public LiveTest {
 protected:
  GrpcProbe() : LiveTest(true) {}

  void SetUp() override {
    LiveTest::SetUp();
    if (!IsSkipped() && !HasFatalFailure()) {
      const std::uint16_t port = free_port();
      start_server({program(), "server", std::to_string(port)}, port);
    }
  }
  static std::string program() { return (binary_dir() / "ballast_test_grpc").string(); }

  void run(const std::string& kind, int calls) const {
    ProcessOptions options;
    options.argv = {program(), "client", std::to_string(port_), kind, std::to_string(calls)};
    auto client = ChildProcess::spawn(options);
    ASSERT_TRUE(client.ok()) << client.error().message;
    const auto ended = client->wait(std::chrono::seconds(60));
    ASSERT_TRUE(ended.has_value()) << kind << " does not end";
    EXPECT_EQ(ended->code, 0) << kind;
  }

  ballast_request_value server() const { return row(BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_GRPC); }
};

TEST_F(GrpcProbe, EveryKindOfCall) {
  std::uint64_t sum = 0;
  for (const char* kind : {"once", "collect", "repeat", "converse"}) {
    run(kind, 200);
    sum += 200;
    // The client may be gone before the server's last frame has left.
    EXPECT_TRUE(eventually([&] { return server().responses == sum; })) << kind;
    const auto value = server();
    EXPECT_EQ(value.requests, sum) << kind;
    EXPECT_EQ(value.responses, sum) << kind;
    EXPECT_EQ(value.in_flight, 0) << kind;
    EXPECT_EQ(value.status[2], sum) << kind;
    EXPECT_EQ(value.grpc_status[0], sum) << kind;
    EXPECT_EQ(value.first_byte.count, sum) << kind;
    EXPECT_EQ(value.last_byte.count, sum) << kind;
    EXPECT_LE(value.first_byte.sum_ns, value.last_byte.sum_ns) << kind;
  }
  EXPECT_EQ(row(BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_HTTP2).requests, 0U);
}

TEST_F(GrpcProbe, StatusFromTheTrailers) {
  run("fail", 50);
  run("once", 10);
  EXPECT_TRUE(eventually([this] { return server().responses == 60; }));
  const auto value = server();
  EXPECT_EQ(value.grpc_status[14], 50U);
  EXPECT_EQ(value.grpc_status[0], 10U);
  EXPECT_EQ(value.in_flight, 0);
}

}  // namespace
}  // namespace ballast::testing
