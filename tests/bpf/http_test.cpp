// SPDX-License-Identifier: Apache-2.0
// What the kernel counts against what was really sent, over loopback.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <chrono>
#include <string>
#include <vector>

#include "frames.h"
#include "live.h"

namespace ballast::testing {
namespace {

std::string get(const std::string& path, const std::string& method = "GET") {
  return method + " " + path + " HTTP/1.1\r\nHost: test\r\nUser-Agent: ballast\r\n\r\n";
}

class HttpProbe : public LiveTest {
 protected:
  HttpProbe() : LiveTest(true) {}
  void SetUp() override {
    LiveTest::SetUp();
    if (!IsSkipped() && !HasFatalFailure()) {
      start_server();
    }
  }
  std::uint64_t not_measured(ballast_coverage_kind kind) const {
    return not_measured_where(kind, [this](std::uint64_t cgroup) { return cgroup == cgroup_->id(); });
  }
  std::uint64_t not_measured_anywhere(ballast_coverage_kind kind) const {
    return not_measured_where(kind, [](std::uint64_t) { return true; });
  }
  template <typename Where>
  std::uint64_t not_measured_where(ballast_coverage_kind kind, Where where) const {
    std::uint64_t events = 0;
    const auto rows = maps_->coverage();
    EXPECT_TRUE(rows.ok());
    for (const auto& each : *rows) {
      events += each.key.kind == kind && where(each.key.cgroup_id) ? each.value.events : 0;
    }
    return events;
  }
  // Losses are the whole machine's, others' traffic included, so they are not asserted here.
  void expect_exchanges(std::uint64_t count) const {
    const auto value = row();
    EXPECT_EQ(value.requests, count);
    EXPECT_EQ(value.responses, count);
    EXPECT_EQ(value.in_flight, 0);
    EXPECT_EQ(value.first_byte.count, count);
    EXPECT_EQ(value.last_byte.count, count);
  }
};

TEST_F(HttpProbe, KeepAlive) {
  const Client client(port_);
  for (int i = 0; i < 50; ++i) {
    client.send(get("/plain"));
    ASSERT_NE(client.receive_until("hello"), "");
  }
  expect_exchanges(50);
  EXPECT_EQ(row().status[2], 50U);
}

TEST_F(HttpProbe, BothEndsHaveTheirOwnRole) {
  const Client client(port_);
  client.send(get("/plain"));
  client.receive_until("hello");
  // This process is the client and sits in another cgroup.
  EXPECT_EQ(row(BALLAST_ROLE_SERVER).requests, 1U);
  EXPECT_EQ(row(BALLAST_ROLE_CLIENT).requests, 0U);
  const auto rows = maps_->requests();
  ASSERT_TRUE(rows.ok());
  bool found = false;
  for (const auto& each : *rows) {
    found = found || (each.key.cgroup_id != cgroup_->id() && each.key.role == BALLAST_ROLE_CLIENT &&
                      each.value.responses >= 1);
  }
  EXPECT_TRUE(found);
}

TEST_F(HttpProbe, ABodyThatImitatesRequestsIsNotOne) {
  const Client client(port_);
  std::string body;
  while (body.size() < 200'000) {
    body += "GET /plain HTTP/1.1\r\nHost: x\r\n\r\n";
  }
  for (int i = 0; i < 3; ++i) {
    client.send("POST /plain HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n");
    wait_a_little();
    client.send(body);
    ASSERT_NE(client.receive_until("hello"), "");
  }
  expect_exchanges(3);
}

TEST_F(HttpProbe, Chunked) {
  const Client client(port_);
  for (int i = 0; i < 4; ++i) {
    client.send(get("/chunked"));
    ASSERT_NE(client.receive_until("X-Trailer: GET / HTTP/1.1\r\n\r\n"), "");
  }
  expect_exchanges(4);
}

TEST_F(HttpProbe, LargeBodies) {
  const Client client(port_);
  for (int i = 0; i < 3; ++i) {
    client.send(get("/big"));
    ASSERT_GT(client.receive((1U << 20) + 60).size(), 1U << 20);
  }
  client.send(get("/plain"));
  ASSERT_NE(client.receive_until("hello"), "");
  expect_exchanges(4);
  const auto value = row();
  EXPECT_LE(value.first_byte.sum_ns, value.last_byte.sum_ns);
}

TEST_F(HttpProbe, AnswersWithoutABody) {
  const Client client(port_);
  client.send(get("/plain", "HEAD"));
  ASSERT_NE(client.receive_until("\r\n\r\n"), "");
  client.send(get("/none"));
  ASSERT_NE(client.receive_until("X-Empty: yes\r\n\r\n"), "");
  client.send(get("/continue"));
  ASSERT_NE(client.receive_until("went on"), "");
  client.send(get("/fail"));
  ASSERT_NE(client.receive_until("busy"), "");
  expect_exchanges(4);
  const auto value = row();
  EXPECT_EQ(value.status[2], 3U);
  EXPECT_EQ(value.status[5], 1U);
  EXPECT_EQ(value.status[1], 0U);
}

// What came before is recognised by its bytes: with other bytes of the same length, with an answer whose
// head is that of an answer to HEAD and has a body to come, nothing is taken for what it is not.
TEST_F(HttpProbe, MessagesThatComeAgain) {
  const Client client(port_);
  for (int round = 0; round < 3; ++round) {
    for (int i = 0; i < 10; ++i) {
      client.send(get("/plain", "HEAD"));
      ASSERT_NE(client.receive_until("\r\n\r\n"), "");
    }
    for (int i = 0; i < 10; ++i) {
      client.send(get("/plain"));
      ASSERT_NE(client.receive_until("hello"), "");
    }
    for (int i = 0; i < 10; ++i) {
      client.send(get("/none"));
      ASSERT_NE(client.receive_until("X-Empty: yes\r\n\r\n"), "");
      client.send(get("/fail"));
      ASSERT_NE(client.receive_until("busy"), "");
    }
  }
  client.send(get("/big"));
  ASSERT_GT(client.receive((1U << 20) + 60).size(), 1U << 20);
  expect_exchanges(121);
  EXPECT_EQ(row().status[5], 30U);
}

TEST_F(HttpProbe, PipelinedByFour) {
  const Client client(port_);
  for (int i = 0; i < 5; ++i) {
    client.send(get("/plain") + get("/none") + get("/chunked") + get("/fail"));
    ASSERT_NE(client.receive_until("busy"), "");
  }
  expect_exchanges(20);
  EXPECT_EQ(row().status[5], 5U);
}

TEST_F(HttpProbe, PipelinedBeyondTheFifo) {
  const Client client(port_);
  std::string burst;
  for (int i = 0; i < 40; ++i) {
    burst += get("/plain");
  }
  client.send(burst + get("/fail"));
  ASSERT_NE(client.receive_until("busy"), "");
  const auto value = row();
  EXPECT_EQ(value.requests, 41U);
  EXPECT_EQ(value.responses, 41U);
  EXPECT_EQ(value.in_flight, 0);
  EXPECT_GE(value.last_byte.count, 16U);
  EXPECT_GE(value.last_byte.count + loss(BALLAST_LOSS_PIPELINE_OVERFLOW).events, 41U)
      << "a request without a latency is a counted loss";
}

TEST_F(HttpProbe, OneConnectionARequest) {
  for (int i = 0; i < 20; ++i) {
    const Client client(port_);
    client.send(get("/close"));
    ASSERT_NE(client.receive_to_end().find("until the end"), std::string::npos);
  }
  expect_exchanges(20);
}

TEST_F(HttpProbe, RequestsCutAtEveryByte) {
  const std::string request = get("/plain");
  for (std::size_t cut = 1; cut < request.size(); ++cut) {
    const Client client(port_);
    client.send(request.substr(0, cut));
    wait_a_little();
    client.send(request.substr(cut));
    ASSERT_NE(client.receive_until("hello"), "") << "cut at " << cut;
  }
  expect_exchanges(request.size() - 1);
}

TEST_F(HttpProbe, IPv6) {
  const Client client(port_, Client::Address::kV6);
  if (!client.connected()) {
    GTEST_SKIP() << "no IPv6 loopback on this machine";
  }
  for (int i = 0; i < 10; ++i) {
    client.send(get("/plain"));
    ASSERT_NE(client.receive_until("hello"), "");
  }
  expect_exchanges(10);
}

TEST_F(HttpProbe, IPv4MappedIntoIPv6) {
  const Client client(port_, Client::Address::kV4Mapped);
  if (!client.connected()) {
    GTEST_SKIP() << "no IPv6 on this machine";
  }
  for (int i = 0; i < 10; ++i) {
    client.send(get("/plain"));
    ASSERT_NE(client.receive_until("hello"), "");
  }
  expect_exchanges(10);
}

TEST_F(HttpProbe, AnswersThatOutrunTheirRequests) {
  const Client client(port_);
  for (int i = 0; i < 5; ++i) {
    client.send("POST /early HTTP/1.1\r\nContent-Length: 50000\r\n\r\n");
    ASSERT_NE(client.receive_until("hello"), "");
    client.send(std::string(50'000, 'b'));
  }
  client.send(get("/plain"));
  ASSERT_NE(client.receive_until("hello"), "");
  expect_exchanges(6);
}

TEST_F(HttpProbe, ConnectBecomesATunnel) {
  const Client client(port_);
  client.send("CONNECT example:443 HTTP/1.1\r\nHost: example\r\n\r\n");
  ASSERT_NE(client.receive_until("\r\n\r\n"), "");
  client.send(get("/plain"));
  ASSERT_NE(client.receive_until("hello"), "");
  const auto value = row();
  EXPECT_EQ(value.requests, 1U);
  EXPECT_EQ(value.responses, 1U);
  EXPECT_EQ(value.status[2], 1U);
  EXPECT_EQ(value.in_flight, 0);
  EXPECT_GT(loss(BALLAST_LOSS_TUNNEL).bytes, 0U);
}

TEST_F(HttpProbe, LatencyIsTheServersOwn) {
  const Client client(port_);
  client.send(get("/slow"));
  ASSERT_NE(client.receive_until("hello"), "");
  const auto value = row();
  EXPECT_GE(value.first_byte.sum_ns, 50'000'000U);
  EXPECT_EQ(value.first_byte.max_ns, value.first_byte.sum_ns);
  EXPECT_EQ(value.first_byte.buckets[ballast_hist_bucket(value.first_byte.sum_ns)], 1U);
  EXPECT_GE(value.last_byte.sum_ns, value.first_byte.sum_ns);
}

// A head at once says nothing of when the answer is done: the last byte does, and until then it is in flight.
TEST_F(HttpProbe, AHeadAtOnceIsNoAnswer) {
  const Client client(port_);
  client.send(get("/late"));
  ASSERT_TRUE(eventually([this] { return row().first_byte.count == 1; }));
  EXPECT_EQ(row().in_flight, 1);
  ASSERT_NE(client.receive_until("hello"), "");
  const auto value = row();
  EXPECT_EQ(value.in_flight, 0);
  EXPECT_LT(value.first_byte.sum_ns, 50'000'000U);
  EXPECT_GE(value.last_byte.sum_ns, 100'000'000U);
}

TEST_F(HttpProbe, InFlightIsGivenBack) {
  Client waits(port_);
  waits.send(get("/never"));
  ASSERT_TRUE(eventually([this] { return row().in_flight == 1; }));
  waits.close();  // the server reads the end and closes: its FIN gives the request back
  EXPECT_TRUE(eventually([this] { return row().in_flight == 0; }));

  Client resets(port_);
  resets.send(get("/never"));
  ASSERT_TRUE(eventually([this] { return row().in_flight == 1; }));
  resets.reset();
  EXPECT_TRUE(eventually([this] { return row().in_flight == 0; }));

  const Client orphan(port_);
  orphan.send(get("/never") + get("/never"));
  ASSERT_TRUE(eventually([this] { return row().in_flight == 1 || row().in_flight == 2; }));
  server_.stop(std::chrono::milliseconds(0));
  EXPECT_TRUE(eventually([this] { return row().in_flight == 0; }));
  EXPECT_GE(loss(BALLAST_LOSS_ABANDONED).events, 3U);
}

TEST_F(HttpProbe, UpgradeBecomesATunnel) {
  const Client client(port_);
  client.send(get("/upgrade"));
  ASSERT_NE(client.receive_until("\r\n\r\n"), "");
  client.send(get("/plain"));
  client.receive_until("hello");
  const auto value = row();
  EXPECT_EQ(value.requests, 1U);
  EXPECT_EQ(value.status[1], 1U);
  EXPECT_EQ(value.in_flight, 0);
  EXPECT_GT(loss(BALLAST_LOSS_TUNNEL).bytes, 0U);
}

// The request that asks for HTTP/2 counts once, as HTTP/1 with its 101; its answer on stream 1 is no
// other's.
TEST_F(HttpProbe, UpgradeToHttp2) {
  namespace frame = bpf::frame;
  const Client client(port_);
  client.send("GET /h2c HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n");
  ASSERT_NE(client.receive_until("hello"), "");
  client.send(frame::kPreface + frame::settings() + frame::headers(3, "\x82\x86\x84", true));
  ASSERT_NE(client.receive_until("hello"), "");
  const auto first = row();
  EXPECT_EQ(first.requests, 1U);
  EXPECT_EQ(first.responses, 1U);
  EXPECT_EQ(first.status[1], 1U);
  EXPECT_EQ(first.in_flight, 0);
  const auto second = row(BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_HTTP2);
  EXPECT_EQ(second.requests, 1U);
  EXPECT_EQ(second.responses, 1U);
  EXPECT_EQ(second.status[2], 1U);
  EXPECT_EQ(second.in_flight, 0);
}

TEST_F(HttpProbe, OtherProtocolsAreCountedNotParsed) {
  const Client client(port_);
  client.send(std::string("\x16\x03\x01\x02\x00\x01", 6) + std::string(600, '\0'));
  client.send(get("/plain"));
  EXPECT_TRUE(eventually([this] { return loss(BALLAST_LOSS_NOT_HTTP).bytes >= 606; }));
  EXPECT_EQ(row().requests, 0U);
  EXPECT_EQ(not_measured(BALLAST_COVERAGE_TLS), 1U) << "a known gap of the server's cgroup";

  const Client other(port_);
  other.send("SSH-2.0-test\r\n" + std::string(600, 'x'));
  EXPECT_TRUE(eventually([this] { return not_measured(BALLAST_COVERAGE_OTHER) == 1; }));
  EXPECT_EQ(not_measured(BALLAST_COVERAGE_TLS), 1U);
}

// What a peer may send that is no message: to a server in a cgroup of its own, beside a connection
// whose figures stay exact.
TEST_F(HttpProbe, BadPeersHarmNobodyElse) {
  const TestCgroup cgroup(probes_->cgroup_root(), "ballast-bad-" + std::to_string(::getpid()));
  const std::uint16_t port = free_port();
  ProcessOptions options;
  options.argv = {(binary_dir() / "ballast_test_http_server").string(), std::to_string(port)};
  options.output = "/dev/null";
  options.cgroups = {cgroup.path()};
  auto server = ChildProcess::spawn(options);
  ASSERT_TRUE(server.ok()) << server.error().message;
  ASSERT_TRUE(eventually([&] { return Client(port).connected(); }));
  std::string endless = "GET /plain HTTP/1.1\r\n";
  for (int i = 0; i < 20'000; ++i) {
    endless += "X: y\r\n";
  }
  const std::string post = "POST /plain HTTP/1.1\r\n";
  struct Bad {
    const char* what;
    std::string bytes;
    bool lost;  // under a reason that counts bytes
  };
  const std::vector<Bad> peers = {
      {"garbage after a request", get("/plain") + std::string(3000, '\xfe'), true},
      {"half a request", "GET /pl", false},
      {"a length of 2^31", post + "Content-Length: 2147483648\r\n\r\n" + std::string(3000, 'x'), false},
      {"a length beyond 2^64", post + "Content-Length: 99999999999999999999999\r\n\r\n", true},
      {"a chunk beyond 2^64", post + "Transfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\n", true},
      {"a chunk of 2^31", post + "Transfer-Encoding: chunked\r\n\r\n80000000\r\nGET / HTTP/1.1\r\n\r\n",
       false},
      {"endless headers", endless, false},
      {"TLS after a request",
       get("/plain") + std::string("\x16\x03\x01\x02\x00\x01", 6) + std::string(600, '\0'), true},
      {"a frame of 2^24 on a stream of 2^31",
       bpf::frame::kPreface + std::string("\xff\xff\xff\x01\x00\x7f\xff\xff\xff", 9), false},
      {"frames of nonsense", bpf::frame::kPreface + std::string(300, '\xff'), true},
  };
  const Client good(port_);
  std::uint64_t exchanges = 0;
  for (const Bad& peer : peers) {
    const auto losses = [this] {
      return loss(BALLAST_LOSS_PARSE).bytes + loss(BALLAST_LOSS_NOT_HTTP).bytes +
             loss(BALLAST_LOSS_TUNNEL).bytes;
    };
    const std::uint64_t before = losses();
    Client bad(port);
    bad.send(peer.bytes);
    EXPECT_TRUE(!peer.lost || eventually([&] { return losses() > before; })) << peer.what;
    good.send(get("/plain"));
    ASSERT_NE(good.receive_until("hello"), "") << peer.what;
    ++exchanges;
    bad.reset();
  }
  Client trickle(port);
  for (const char byte : std::string("GET /plain HTTP/1.1\r\nHo")) {
    trickle.send(std::string(1, byte));
    wait_a_little();
  }
  trickle.close();
  EXPECT_TRUE(eventually(
      [&] { return row_of(cgroup.id(), BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_HTTP1).in_flight == 0; }));
  EXPECT_TRUE(eventually([&] { return row().responses == exchanges; }));
  expect_exchanges(exchanges);
  server->stop(std::chrono::milliseconds(0));
}

TEST_F(HttpProbe, QuicIsAKnownGap) {
  const UniqueFd fd(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port_);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(::connect(fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to), 0);
  const auto send = [&](const std::string& head) {
    const std::string packet = head + std::string(1100, 'q');
    ::send(fd.get(), packet.data(), packet.size(), MSG_NOSIGNAL);
  };
  const std::uint64_t before = not_measured_anywhere(BALLAST_COVERAGE_QUIC);
  send(std::string("\xc3\0\0\0\1", 5));  // an Initial packet, version 1
  EXPECT_GE(not_measured_anywhere(BALLAST_COVERAGE_QUIC), before + 1);
  const std::uint64_t after = not_measured_anywhere(BALLAST_COVERAGE_QUIC);
  send(std::string("\x43\0\0\0\1", 5));  // a short header
  send(std::string("\xc3\0\0\0\7", 5));  // no version that there is
  EXPECT_EQ(not_measured_anywhere(BALLAST_COVERAGE_QUIC), after) << "unless somebody else spoke QUIC now";
}

}  // namespace
}  // namespace ballast::testing
