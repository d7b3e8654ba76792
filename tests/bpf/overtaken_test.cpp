// SPDX-License-Identifier: Apache-2.0
// Segments that overtake each other, as they do where a sender changes CPUs in a burst or a network has two
// ways: over a TCP made by hand, behind a TUN device, so that their order is what the test says.
#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/if_tun.h>
#include <net/if.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "frames.h"
#include "live.h"

namespace ballast::testing {
namespace {

namespace frame = bpf::frame;

/// The other end of a connection to ADDRESS:port, which acknowledges nothing and never sends again.
class HandMadePeer {
 public:
  HandMadePeer() : tun_(::open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK)) {
    ifreq device{};
    device.ifr_flags = IFF_TUN | IFF_NO_PI;
    UniqueFd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    up_ = tun_ && ::ioctl(tun_.get(), TUNSETIFF, &device) == 0 &&
          set(socket, device, SIOCSIFADDR, server()) && set(socket, device, SIOCSIFNETMASK, 0xfffffffcU);
    device.ifr_flags = IFF_UP | IFF_RUNNING;
    up_ = up_ && ::ioctl(socket.get(), SIOCSIFFLAGS, &device) == 0;
  }
  bool up() const { return up_; }

  /// The handshake, whose last segment may be left to the first that is sent. false: no answer in two
  /// seconds.
  bool connect(std::uint16_t port, bool whole = true) {
    port_ = port;
    put(first_ - 1, 0x02, "");
    for (int i = 0; i < 200; ++i) {
      std::string packet(2048, '\0');
      const ssize_t n = ::read(tun_.get(), packet.data(), packet.size());
      if (n >= 40 && packet[9] == 6 && packet[33] == 0x12) {
        std::memcpy(&acknowledged_, packet.data() + 24, 4);
        acknowledged_ = ntohl(acknowledged_) + 1;
        if (whole) {
          put(first_, 0x10, "");
        }
        return true;
      }
      pollfd wait{tun_.get(), POLLIN, 0};
      ::poll(&wait, 1, 10);
    }
    return false;
  }
  /// Sends segments in the order of `order`, which are next to each other in the stream as they are in
  /// `segments`.
  void send(const std::vector<std::string>& segments, const std::vector<std::size_t>& order) {
    std::vector<std::uint32_t> at;
    for (const std::string& bytes : segments) {
      at.push_back(next_);
      next_ += static_cast<std::uint32_t>(bytes.size());
    }
    for (const std::size_t i : order) {
      put(at[i], 0x18, segments[i]);
    }
  }
  /// What is sent next begins where the first did.
  void again() { next_ = first_; }
  void reset() { put(next_, 0x14, ""); }

 private:
  static std::uint32_t net() { return 0xc6120000U + (static_cast<std::uint32_t>(::getpid()) % 0x4000U) * 4; }
  static std::uint32_t server() { return net() + 1; }  // 198.18.0.0/15 is for tests (RFC 2544)

  static bool set(const UniqueFd& socket, ifreq device, unsigned long what, std::uint32_t address) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_addr.s_addr = htonl(address);
    std::memcpy(&device.ifr_addr, &in, sizeof in);
    return ::ioctl(socket.get(), what, &device) == 0;
  }
  static std::uint16_t checksum(const std::string& bytes, std::uint32_t sum = 0) {
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const auto byte = static_cast<std::uint32_t>(static_cast<unsigned char>(bytes[i]));
      sum += i % 2 == 0 ? byte << 8 : byte;
    }
    while (sum >> 16 != 0) {
      sum = (sum & 0xffff) + (sum >> 16);
    }
    return static_cast<std::uint16_t>(~sum);
  }
  void put(std::uint32_t seq, int flags, const std::string& bytes) {
    const auto length = static_cast<std::uint32_t>(20 + bytes.size());
    const std::string ends = frame::number(net() + 2, 4) + frame::number(server(), 4);
    const auto ip = [&](std::uint32_t sum) {
      return frame::number(0x4500, 2) + frame::number(20 + length, 2) + frame::number(0x4000, 4) +
             frame::number(0x4006, 2) + frame::number(sum, 2) + ends;
    };
    const auto tcp = [&](std::uint32_t sum) {
      return frame::number(40000, 2) + frame::number(port_, 2) + frame::number(seq, 4) +
             frame::number(acknowledged_, 4) + frame::number(0x5000U | static_cast<std::uint32_t>(flags), 2) +
             frame::number(0xffff, 2) + frame::number(sum, 2) + frame::number(0, 2) + bytes;
    };
    const std::string packet = ip(checksum(ip(0))) + tcp(checksum(ends + tcp(0), 6 + length));
    ASSERT_EQ(::write(tun_.get(), packet.data(), packet.size()), static_cast<ssize_t>(packet.size()));
  }

  UniqueFd tun_;
  bool up_ = false;
  std::uint16_t port_ = 0;
  std::uint32_t first_ = 0xfffff001U;  // sequence numbers wrap soon
  std::uint32_t next_ = first_;
  std::uint32_t acknowledged_ = 0;
};

class OvertakenFromTheStart : public LiveTest {
 protected:
  OvertakenFromTheStart() : LiveTest(true) {}

  void SetUp() override {
    LiveTest::SetUp();
    if (IsSkipped()) {
      return;
    }
    if (!peer_.up()) {
      GTEST_SKIP() << "no TUN device can be made here";
    }
    port_ = free_port();
    start_server({(binary_dir() / "ballast_test_http_server").string(), std::to_string(port_), "anywhere"},
                 port_);
  }
  // Its segments end at `cuts` and come in `order`; the first that comes is the handshake's last, too.
  void expect_request(const std::string& request, const std::vector<std::size_t>& cuts,
                      const std::vector<std::size_t>& order) {
    ASSERT_TRUE(peer_.connect(port_, false));
    std::vector<std::string> segments;
    std::size_t from = 0;
    for (const std::size_t to : cuts) {
      segments.push_back(request.substr(from, to - from));
      from = to;
    }
    segments.push_back(request.substr(from));
    for (std::uint64_t counted = 1; counted < 4; ++counted) {
      peer_.send(segments, order);
      EXPECT_TRUE(eventually([&] { return row().status[2] == counted; })) << row().status[2] << " answers";
      EXPECT_EQ(row().requests, counted);
      EXPECT_EQ(row().in_flight, 0);
    }
    peer_.reset();
  }

  HandMadePeer peer_;
};

TEST_F(OvertakenFromTheStart, ByWhatLooksLikeARequest) {
  expect_request("GET /plain HTTP/1.1\r\nHost: a\r\n\r\n", {2}, {1, 0});
}

TEST_F(OvertakenFromTheStart, ByWhatLooksLikeNothing) {
  expect_request("GET /plain HTTP/1.1\r\nHost: a\r\n\r\n", {4}, {1, 0});
}

TEST_F(OvertakenFromTheStart, ByTheMiddleOfThree) {
  expect_request("GET /plain HTTP/1.1\r\nHost: a\r\n\r\n", {2, 21}, {1, 2, 0});
}

TEST_F(OvertakenFromTheStart, ByItsBody) {
  expect_request("POST /plain HTTP/1.1\r\nContent-Length: 34\r\n\r\nGET /plain HTTP/1.1\r\nHost: a\r\n\r\nxy",
                 {44}, {1, 0});
}

// The listener's queue is full when the first bytes come: they come again, and more with them.
TEST_F(OvertakenFromTheStart, ByARetransmissionOfMore) {
  ASSERT_TRUE(peer_.connect(port_, false));
  ASSERT_EQ(::kill(server_.pid(), SIGSTOP), 0);
  std::vector<std::unique_ptr<Client>> crowd;
  for (int i = 0; i < 129; ++i) {
    crowd.push_back(std::make_unique<Client>(port_));
  }
  peer_.send({"GE"}, {0});
  ASSERT_EQ(::kill(server_.pid(), SIGCONT), 0);
  crowd.back()->send("GET /plain HTTP/1.1\r\n\r\n");
  EXPECT_NE(crowd.back()->receive_until("hello"), "");
  peer_.again();
  peer_.send({"GET /plain HTTP/1.1\r\n\r\n"}, {0});
  EXPECT_TRUE(eventually([this] { return row().status[2] == 2; })) << row().status[2] << " answers";
  EXPECT_EQ(row().requests, 2U);
  peer_.reset();
}

class Overtaken : public OvertakenFromTheStart {
 protected:
  static constexpr int kStreams = 300;

  void SetUp() override {
    OvertakenFromTheStart::SetUp();
    if (IsSkipped()) {
      return;
    }
    ASSERT_TRUE(peer_.connect(port_));
    peer_.send({frame::kPreface + frame::settings()}, {0});
  }
  ballast_request_value grpc() const { return row(BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_GRPC); }

  // One frame a segment: `kStreams` requests, and their ends.
  static std::vector<std::string> opened(std::size_t head = 0) {
    std::vector<std::string> out;
    for (std::uint32_t i = 0; i < kStreams; ++i) {
      std::string fields =
          "\x83\x86\x84\x5f\x10"
          "application/grpc";
      for (std::size_t at = 0; at < head; at += 100) {
        fields += frame::field(0, "x", std::string(100, 'x'));
      }
      out.push_back(frame::headers(2 * i + 1, fields, true));
    }
    return out;
  }
  static std::vector<std::string> reset() {
    std::vector<std::string> out;
    for (std::uint32_t i = 0; i < kStreams; ++i) {
      out.push_back(frame::make(HTTP2_RST_STREAM, 0, 2 * i + 1, frame::number(8, 4)));
    }
    return out;
  }
  static std::vector<std::size_t> in_order() {
    std::vector<std::size_t> out(kStreams);
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = i;
    }
    return out;
  }
  void expect_all(const std::vector<std::size_t>& order, std::size_t head = 0) {
    peer_.send(opened(head), order);
    EXPECT_TRUE(eventually([this] { return grpc().in_flight == kStreams; }))
        << grpc().requests << " of " << kStreams << " requests, " << grpc().in_flight << " in flight";
    peer_.send(reset(), order);
    EXPECT_TRUE(eventually([this] { return grpc().in_flight == 0; }))
        << grpc().in_flight << " in flight after all were reset";
    EXPECT_EQ(grpc().requests, static_cast<std::uint64_t>(kStreams));
    EXPECT_EQ(loss(BALLAST_LOSS_GAP).events, 0U);
    peer_.reset();
  }
};

TEST_F(Overtaken, NotAtAll) {
  expect_all(in_order());
}

TEST_F(Overtaken, OneByAllOthers) {
  std::vector<std::size_t> order = in_order();
  std::rotate(order.begin(), order.begin() + 1, order.end());
  expect_all(order);
}

TEST_F(Overtaken, EachByTheNext) {
  std::vector<std::size_t> order = in_order();
  for (std::size_t i = 0; i + 1 < order.size(); i += 2) {
    std::swap(order[i], order[i + 1]);
  }
  expect_all(order);
}

TEST_F(Overtaken, ManyHoles) {
  std::vector<std::size_t> order = in_order();
  std::stable_partition(order.begin(), order.end(), [](std::size_t i) { return i % 3 != 0; });
  expect_all(order);
}

TEST_F(Overtaken, BySegmentsOfManyPieces) {
  std::vector<std::size_t> order = in_order();
  std::swap(order[10], order[13]);
  std::swap(order[100], order[101]);
  expect_all(order, 1000);
}

// What is longer than what is kept is a gap, which is counted, and what follows it is read again.
TEST_F(Overtaken, ByMoreThanIsKept) {
  std::vector<std::string> segments = opened();
  segments[2] = frame::make(HTTP2_PING, 0, 0, std::string(8, 'p'));
  for (int i = 0; i < 200; ++i) {
    segments[2] += frame::make(HTTP2_PING, 0, 0, std::string(8, 'p'));
  }
  std::vector<std::size_t> order = in_order();
  std::swap(order[1], order[2]);
  peer_.send(segments, order);
  EXPECT_TRUE(eventually([this] { return grpc().in_flight == kStreams - 1; })) << grpc().in_flight;
  EXPECT_EQ(loss(BALLAST_LOSS_GAP).events, 1U);
  peer_.reset();
  EXPECT_TRUE(eventually([this] { return grpc().in_flight == 0; }));
}

}  // namespace
}  // namespace ballast::testing
