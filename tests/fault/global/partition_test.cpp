// SPDX-License-Identifier: Apache-2.0
//
// A network partition: half of the workers speak to the real ballast-global through a relay that stops
// to carry bytes, without a word to either side.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <list>
#include <utility>

#include "core/base/unique_fd.h"
#include "replica.h"

namespace ballast::sync {
namespace {

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in out{};
  out.sin_family = AF_INET;
  out.sin_port = htons(port);
  out.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return out;
}

class Relay {
 public:
  explicit Relay(std::uint16_t to) : to_(to), listener_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in any = loopback(0);
    socklen_t length = sizeof any;
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<sockaddr*>(&any), length), 0);
    EXPECT_EQ(::listen(listener_.get(), 16), 0);
    ::getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&any), &length);
    port_ = ntohs(any.sin_port);
    thread_ = std::jthread([this](const std::stop_token& stop) { run(stop); });
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port_); }
  void cut(bool on) { cut_ = on; }

 private:
  struct Pair {
    UniqueFd near, far;
  };
  // False when either side has closed.
  static bool carry(int from, int to) {
    char bytes[65536];
    const ssize_t n = ::recv(from, bytes, sizeof bytes, MSG_DONTWAIT);
    if (n <= 0) {
      return n < 0 && errno == EAGAIN;
    }
    return ::send(to, bytes, static_cast<std::size_t>(n), MSG_NOSIGNAL) == n;
  }
  void accept_one() {
    Pair pair{UniqueFd(::accept(listener_.get(), nullptr, nullptr)),
              UniqueFd(::socket(AF_INET, SOCK_STREAM, 0))};
    const sockaddr_in to = loopback(to_);
    if (::connect(pair.far.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0) {
      pairs_.push_back(std::move(pair));
    }
  }
  void run(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::vector<pollfd> waits;
      if (!cut_) {
        waits.push_back({listener_.get(), POLLIN, 0});
        for (const Pair& pair : pairs_) {
          waits.push_back({pair.near.get(), POLLIN, 0});
          waits.push_back({pair.far.get(), POLLIN, 0});
        }
      }
      if (::poll(waits.data(), waits.size(), 10) <= 0) {
        continue;
      }
      pairs_.remove_if([](const Pair& pair) {
        return !carry(pair.near.get(), pair.far.get()) || !carry(pair.far.get(), pair.near.get());
      });
      if ((waits.front().revents & POLLIN) != 0) {
        accept_one();
      }
    }
  }

  std::uint16_t to_;
  std::uint16_t port_ = 0;
  UniqueFd listener_;
  std::list<Pair> pairs_;
  std::atomic<bool> cut_{false};
  std::jthread thread_;
};

class Partition : public Replicas {};

TEST_F(Partition, TheOtherHalfLearnsOnAndTheCutHalfComesBack) {
  const Replica server = start({"--listen", "127.0.0.1:0", "--state", path("state"), "--worker-rate", "0"});
  const std::string address = server.said("listening address=");
  ASSERT_FALSE(address.empty()) << server.text();
  Relay relay(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  std::vector<std::unique_ptr<BusyWorker>> here;
  std::vector<std::unique_ptr<BusyWorker>> beyond;
  for (int i = 0; i < 6; ++i) {
    const bool far = i % 2 == 1;
    (far ? beyond : here)
        .push_back(std::make_unique<BusyWorker>(WorkerOptions{.address = far ? relay.address() : address,
                                                              .worker_id = "node-" + std::to_string(i),
                                                              .pull_interval = 20ms,
                                                              .first_wait = 20ms,
                                                              .longest_wait = 200ms,
                                                              .queue = 4}));
  }
  const auto all = [](const auto& workers, std::uint64_t version) {
    return eventually([&] {
      return std::all_of(workers.begin(), workers.end(),
                         [&](const auto& w) { return w->newest().version > version; });
    });
  };
  ASSERT_TRUE(all(here, 20) && all(beyond, 20)) << server.text();
  relay.cut(true);
  std::this_thread::sleep_for(200ms);
  std::vector<Version> held;
  for (const auto& worker : beyond) {
    held.push_back(worker->newest());
  }
  const std::uint64_t cut_at = here.front()->newest().version;
  EXPECT_TRUE(all(here, cut_at + 100)) << "half of the workers learn on";
  for (std::size_t i = 0; i < beyond.size(); ++i) {
    EXPECT_EQ(beyond[i]->newest(), held[i]) << "what it held it holds";
  }
  relay.cut(false);
  EXPECT_TRUE(all(beyond, cut_at + 100)) << "the others come back to what was learned meanwhile";
  for (const auto* half : {&here, &beyond}) {
    for (const auto& worker : *half) {
      EXPECT_FALSE(worker->went_back());
      EXPECT_EQ(worker->newest().epoch, held.front().epoch);
    }
  }
}

}  // namespace
}  // namespace ballast::sync
