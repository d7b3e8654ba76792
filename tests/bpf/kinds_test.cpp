// SPDX-License-Identifier: Apache-2.0
// Kinds of traffic that real servers and their callers make, each of which was once counted wrongly: what the
// kernel counts against what was really sent, over loopback.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <chrono>
#include <cstdlib>
#include <string>
#include <vector>

#include "frames.h"
#include "live.h"

namespace ballast::testing {
namespace {

namespace frame = bpf::frame;

std::string request(const std::string& method, const std::string& path) {
  return method + " " + path + " HTTP/1.1\r\nHost: test\r\n\r\n";
}

class Kinds : public LiveTest {
 protected:
  Kinds() : LiveTest(true) {}

  void start(const std::vector<std::string>& how = {}) {
    const std::uint16_t port = free_port();
    std::vector<std::string> argv = {(binary_dir() / "ballast_test_http_server").string(),
                                     std::to_string(port)};
    argv.insert(argv.end(), how.begin(), how.end());
    start_server(argv, port);
  }
  void expect_exchanges(std::uint64_t count) const {
    EXPECT_TRUE(eventually([&] { return row().responses == count; }));
    const auto value = row();
    EXPECT_EQ(value.requests, count);
    EXPECT_EQ(value.responses, count);
    EXPECT_EQ(value.in_flight, 0);
    EXPECT_EQ(value.first_byte.count, count);
    EXPECT_EQ(value.last_byte.count, count);
  }
  static void expect_answer(const Client& client, const std::string& text) {
    ASSERT_NE(client.receive_until(text).find(text), std::string::npos);
  }
};

TEST_F(Kinds, MethodsAreTokens) {
  start();
  const Client client(port_);
  for (const char* method :
       {"GET", "PROPFIND", "M-SEARCH", "VERSION-CONTROL", "GET_SETTINGS", "x", "PATCH"}) {
    client.send(request(method, "/plain"));
    expect_answer(client, "hello");
  }
  expect_exchanges(7);
}

TEST_F(Kinds, ABodyThatWasRefusedIsNotWaitedFor) {
  start();
  const Client client(port_);
  for (int i = 0; i < 5; ++i) {
    client.send("POST /plain HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1000000\r\n\r\n");
    expect_answer(client, "417");
    client.send(request("GET", "/plain"));
    expect_answer(client, "hello");
  }
  expect_exchanges(10);
  EXPECT_EQ(row().status[4], 5U);
}

TEST_F(Kinds, ThousandsOfTinyChunksInOneWrite) {
  start();
  const Client client(port_);
  for (int i = 0; i < 5; ++i) {
    client.send(request("GET", "/tiny"));
    expect_answer(client, "\r\n0\r\n\r\n");
  }
  client.send(request("GET", "/plain"));
  expect_answer(client, "hello");
  expect_exchanges(6);
  EXPECT_EQ(loss(BALLAST_LOSS_TRUNCATED).events, 0U);
}

TEST_F(Kinds, AProxyHeaderComesFirst) {
  start();
  const std::string second = std::string("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16);
  for (const std::string& header : {std::string("PROXY TCP4 192.0.2.1 192.0.2.2 56324 8080\r\n"), second}) {
    for (const bool apart : {false, true}) {
      const Client client(port_);
      if (apart) {
        client.send(header);
        wait_a_little();
      }
      for (int i = 0; i < 3; ++i) {
        client.send((apart || i > 0 ? "" : header) + request("GET", "/plain"));
        expect_answer(client, "hello");
      }
    }
  }
  expect_exchanges(12);
}

// The first packet is some other protocol's: what follows is HTTP, and counts.
TEST_F(Kinds, AConnectionMayBecomeHttpLater) {
  start();
  const Client client(port_);
  client.send("\x05\x01\n");  // no message begins like this; the server's parser takes it for part of a head
  wait_a_little();
  client.send("\r\n\r\n");
  wait_a_little();
  client.receive_until("hello");
  const auto before = row().requests;
  client.send(request("GET", "/plain"));
  expect_answer(client, "hello");
  EXPECT_TRUE(eventually([&] { return row().requests == before + 1; }));
  EXPECT_EQ(row().in_flight, 0);
}

// Deferred accept: the handshake's last segment brings the first request.
TEST_F(Kinds, TheFirstRequestComesWithTheHandshake) {
  start({"deferred"});
  // The server's own connection test found no data, and counts for nothing.
  for (int i = 0; i < 20; ++i) {
    const Client client(port_);
    client.send(request("GET", "/slow"));
    expect_answer(client, "hello");
    client.send(request("HEAD", "/plain") + request("GET", "/plain"));
    expect_answer(client, "hello");
  }
  expect_exchanges(60);
  const auto value = row();
  EXPECT_GE(value.first_byte.sum_ns, 20 * 50'000'000ULL) << "from when the request came";
  Client waits(port_);
  waits.send(request("GET", "/never"));
  EXPECT_TRUE(eventually([this] { return row().in_flight == 1; })) << "while it waits, too";
  waits.close();
  EXPECT_TRUE(eventually([this] { return row().in_flight == 0; }));
}

TEST_F(Kinds, Http2WithTheHandshake) {
  start({"deferred"});
  // No server of HTTP/2 is behind this port; requests that nobody answers have to be there all the same.
  Client client(port_);
  client.send(frame::kPreface + frame::settings() + frame::headers(1, "\x82\x86\x84", true) +
              frame::headers(3, "\x82\x86\x84", true));
  const auto http2 = [this] { return row(BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_HTTP2); };
  EXPECT_TRUE(eventually([&] { return http2().requests == 2 && http2().in_flight == 2; }));
  client.reset();
  EXPECT_TRUE(eventually([&] { return http2().in_flight == 0; }));
  EXPECT_EQ(http2().abandoned, 2U);
}

/// A network namespace of the test's own, in which servers may take data with the SYN.
class OwnNetwork {
 public:
  OwnNetwork() : before_(::open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC)) {
    ready_ = before_ && ::unshare(CLONE_NEWNET) == 0 && std::system("ip link set lo up") == 0 &&
             std::system("echo 3 > /proc/sys/net/ipv4/tcp_fastopen") == 0;
  }
  ~OwnNetwork() { EXPECT_EQ(::setns(before_.get(), CLONE_NEWNET), 0); }
  OwnNetwork(const OwnNetwork&) = delete;
  OwnNetwork& operator=(const OwnNetwork&) = delete;
  bool ready() const { return ready_; }

 private:
  UniqueFd before_;
  bool ready_ = false;
};

TEST_F(Kinds, TheFirstRequestComesWithTheSyn) {
  const OwnNetwork network;
  if (!network.ready()) {
    GTEST_SKIP() << "no network namespace of its own, in which net.ipv4.tcp_fastopen is 3";
  }
  start({"fastopen"});
  for (int i = 0; i < 10; ++i) {  // the first one fetches the cookie
    const Client client(port_, request("GET", "/slow"));
    expect_answer(client, "hello");
    client.send(request("GET", "/plain"));
    expect_answer(client, "hello");
  }
  expect_exchanges(20);
  EXPECT_GE(row().first_byte.sum_ns, 10 * 50'000'000ULL);
}

// systemd's socket activation, a process that is moved after it began to listen.
TEST_F(Kinds, RequestsAreThoseOfThePodThatServes) {
  const TestCgroup pod(probes_->cgroup_root(), "ballast-pod-" + std::to_string(::getpid()));
  start({"moves", pod.path().string()});
  const auto served = [&] { return row_of(pod.id(), BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_HTTP1); };
  const Client client(port_);
  for (int i = 0; i < 5; ++i) {
    client.send(request("GET", "/plain"));
    expect_answer(client, "hello");
  }
  EXPECT_EQ(served().requests, 5U);
  EXPECT_EQ(served().responses, 5U);
  EXPECT_EQ(served().in_flight, 0);
  EXPECT_EQ(served().first_byte.count, 5U);
  EXPECT_EQ(row().requests, 0U) << "where it listened first";
  EXPECT_EQ(row().in_flight, 0);
  Client waits(port_);
  waits.send(request("GET", "/never"));
  EXPECT_TRUE(eventually([&] { return served().in_flight == 1; })) << "known of the listener from then on";
  waits.close();
  EXPECT_TRUE(eventually([&] { return served().in_flight == 0; }));
  server_.stop(std::chrono::milliseconds(0));
}

// After an answer that nobody asked for nothing is known of the requests that follow, HEAD among them, whose
// answers have no body whatever they announce.
TEST_F(Kinds, AnAnswerToHeadInDoubtIsItsHeadAlone) {
  start();
  const Client client(port_);
  client.send(request("GET", "/twice"));
  expect_answer(client, "again");
  for (const char* path : {"/plain", "/open"}) {
    client.send(request("HEAD", path));
    expect_answer(client, "\r\n\r\n");
    for (int i = 0; i < 3; ++i) {
      client.send(request("GET", "/plain"));
      expect_answer(client, "hello");
    }
  }
  EXPECT_TRUE(eventually([this] { return row().responses == 9; }));
  EXPECT_EQ(row().requests, 9U);
  EXPECT_EQ(row().in_flight, 0);
  EXPECT_EQ(row().status[2], 9U);
}

// A pod that makes requests to itself looks busy and quick by them, and is neither for anybody.
TEST_F(Kinds, WhatAPodAsksItselfIsTold) {
  start();
  ProcessOptions own;
  own.argv = {"/bin/bash", "-c",
              "exec 3<>/dev/tcp/127.0.0.1/" + std::to_string(port_) +
                  "; for i in 1 2 3 4 5; do printf 'GET /plain HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n' >&3;"
                  " while read -r -n1 -u3 c; [ \"$c\" != O ]; do :; done; done"};
  own.cgroups = {cgroup_->path()};
  auto asks = ChildProcess::spawn(own);
  ASSERT_TRUE(asks.ok()) << asks.error().message;
  const auto self = [this] {
    const auto rows = maps_->requests();
    for (const sample::RequestRow& each : rows ? *rows : std::vector<sample::RequestRow>()) {
      if (each.key.cgroup_id == cgroup_->id() && each.key.role == BALLAST_ROLE_SELF) {
        return each.value;
      }
    }
    return ballast_request_value{};
  };
  EXPECT_TRUE(eventually([&] { return self().responses == 5; }));
  EXPECT_EQ(self().requests, 5U);
  EXPECT_EQ(self().in_flight, 0);
  EXPECT_EQ(self().first_byte.count, 5U);
  EXPECT_EQ(row().requests, 0U);
  EXPECT_EQ(row().in_flight, 0);
  const Client client(port_);
  client.send(request("GET", "/plain"));
  expect_answer(client, "hello");
  EXPECT_EQ(row().requests, 1U);
  EXPECT_EQ(row().responses, 1U);
  EXPECT_EQ(self().requests, 5U);
}

TEST_F(Kinds, WhoGaveUpIsTold) {
  start();
  for (int i = 0; i < 3; ++i) {
    const Client client(port_);
    client.send(request("GET", "/gone"));
    client.receive_to_end();
  }
  EXPECT_TRUE(eventually([this] { return row().no_answer == 3; })) << "the pod closed";
  Client gives_up(port_);
  gives_up.send(request("GET", "/never"));
  EXPECT_TRUE(eventually([this] { return row().in_flight == 1; }));
  gives_up.close();
  EXPECT_TRUE(eventually([this] { return row().abandoned == 1; })) << "the peer closed";
  Client resets(port_);
  resets.send(request("GET", "/never"));
  EXPECT_TRUE(eventually([this] { return row().in_flight == 1; }));
  resets.reset();
  EXPECT_TRUE(eventually([this] { return row().abandoned == 2; }));
  Client answered(port_);
  answered.send(request("GET", "/plain"));
  answered.receive_until("hello");
  answered.close();
  wait_a_little();
  const auto value = row();
  EXPECT_EQ(value.requests, 6U);
  EXPECT_EQ(value.responses, 1U);
  EXPECT_EQ(value.no_answer, 3U);
  EXPECT_EQ(value.abandoned, 2U);
  EXPECT_EQ(value.in_flight, 0);
}

/// Streams by hand, both ends ours: the server is a socket of this process, and its cgroup ours.
class ManyStreams : public Kinds {
 protected:
  std::string open_streams(int from, int count) const {
    std::string out;
    for (int i = from; i < from + count; ++i) {
      out += frame::headers(static_cast<std::uint32_t>(2 * i + 1),
                            "\x83\x86\x84\x5f\x10"
                            "application/grpc",
                            true);
    }
    return out;
  }
  std::string reset_streams(int from, int count) const {
    std::string out;
    for (int i = from; i < from + count; ++i) {
      out += frame::make(HTTP2_RST_STREAM, 0, static_cast<std::uint32_t>(2 * i + 1), frame::number(8, 4));
    }
    return out;
  }
  ballast_request_value grpc() const { return row(BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_GRPC); }
};

TEST_F(ManyStreams, AreHeldAndGivenBack) {
  start();
  Client client(port_);
  client.send(frame::kPreface + frame::settings());
  for (int i = 0; i < 1200; i += 100) {
    client.send(open_streams(i, 100));
  }
  EXPECT_TRUE(eventually([this] { return grpc().in_flight == 1200; }));
  client.send(reset_streams(0, 600));
  EXPECT_TRUE(eventually([this] { return grpc().in_flight == 600; }));
  client.send(open_streams(1200, 200) + reset_streams(1200, 200) + reset_streams(600, 600));
  EXPECT_TRUE(eventually([this] { return grpc().in_flight == 0; }));
  EXPECT_EQ(grpc().requests, 1400U);
  EXPECT_EQ(grpc().abandoned, 1400U) << "no answer had begun";
  client.send(open_streams(1400, 300));
  EXPECT_TRUE(eventually([this] { return grpc().in_flight == 300; }));
  client.close();
  EXPECT_TRUE(eventually([this] { return grpc().in_flight == 0; }));
}

// Socket storage is charged to the agent: connections that only sent a preface may not fill it.
TEST_F(Kinds, WhatIsKeptIsBoundedAndWhoWasRefusedIsNamed) {
  start();
  const auto kb = [this] { return connections().followed_kb; };
  Client one(port_);
  one.send(frame::kPreface + frame::settings());
  EXPECT_TRUE(eventually([&] { return kb() == BALLAST_HTTP_KB + BALLAST_HTTP2_KB; }));
  Client other(port_);
  other.send(std::string("\x16\x03\x01\x02\x00\x01", 6) + std::string(600, '\0'));
  wait_a_little();
  EXPECT_EQ(kb(), BALLAST_HTTP_KB + BALLAST_HTTP2_KB) << "TLS is not followed, and takes nothing";
  one.close();
  EXPECT_TRUE(eventually([&] { return kb() == 0; }));
}

}  // namespace
}  // namespace ballast::testing
