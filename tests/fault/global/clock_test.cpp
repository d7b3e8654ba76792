// SPDX-License-Identifier: Apache-2.0
//
// The wall clock of real processes jumps while they serve. libfaketime gives them another one (and leaves the
// monotonic clock, by which everything but certificates and a first epoch goes, alone).
#include <signal.h>

#include "certified.h"

namespace ballast::sync {
namespace {

namespace fs = std::filesystem;

constexpr const char* kLibrary = "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1";

class ClockJump : public Certified {
 protected:
  void SetUp() override {
    if (!fs::exists(kLibrary)) {
      GTEST_SKIP() << "SKIPPED: needs " << kLibrary;
    }
    Certified::SetUp();
  }
  // As faketime writes it: "+1h" is an hour ahead of ours.
  void set_clock(const std::string& offset) { ASSERT_TRUE(write_file_atomic(path("clock"), offset + "\n")); }
  std::vector<std::string> env() const {
    return {std::string("LD_PRELOAD=") + kLibrary, "FAKETIME_TIMESTAMP_FILE=" + path("clock"),
            "FAKETIME_NO_CACHE=1", "FAKETIME_DONT_FAKE_MONOTONIC=1"};
  }
  Replica replica() {
    return start({"--listen", "unix:" + path("global.sock"), "--state", path("state"), "--standby",
                  "--worker-rate", "0"},
                 env());
  }
  static std::unique_ptr<BusyWorker> busy(const std::string& address, const std::string& id,
                                          const TlsFiles& tls = {}) {
    return std::make_unique<BusyWorker>(WorkerOptions{.address = address,
                                                      .worker_id = id,
                                                      .pull_interval = 20ms,
                                                      .first_wait = 20ms,
                                                      .longest_wait = 200ms,
                                                      .queue = 4,
                                                      .tls = tls});
  }
};

TEST_F(ClockJump, AnHourAheadAndAnHourBackChangeNothingForThoseWhoServeAndLearn) {
  set_clock("+1h");
  Replica leader = replica();
  ASSERT_FALSE(leader.said("listening address=").empty()) << leader.text();
  Replica follower = replica();
  ASSERT_TRUE(eventually([&] { return follower.text().find("following") != std::string::npos; }));
  std::vector<std::unique_ptr<BusyWorker>> workers;
  for (int i = 0; i < 4; ++i) {
    workers.push_back(busy("unix:" + path("global.sock"), "node-" + std::to_string(i)));
  }
  const auto learnt = [&](std::uint64_t more) {
    const std::uint64_t from = workers.front()->newest().version;
    return eventually([&] {
      return std::all_of(workers.begin(), workers.end(),
                         [&](const auto& w) { return w->newest().version > from + more; });
    });
  };
  ASSERT_TRUE(learnt(20)) << leader.text();
  const std::uint64_t epoch = workers.front()->newest().epoch;
  const auto wall = std::chrono::system_clock::now().time_since_epoch() / 1s;
  ASSERT_GT(epoch, static_cast<std::uint64_t>(wall + 1800)) << "the clock is not the one that was set";

  for (const char* offset : {"-1h", "+1h", "-1d", "+0"}) {
    set_clock(offset);
    EXPECT_TRUE(learnt(40)) << offset << "\n" << leader.text();
  }
  for (const auto& worker : workers) {
    EXPECT_EQ(worker->newest().epoch, epoch);
    EXPECT_FALSE(worker->went_back());
    EXPECT_EQ(worker->counters().connects, 1U) << "no stream was ended";
    // On a busy machine some gradients come too late; a worker that was shut out has hardly one accepted.
    EXPECT_GT(worker->counters().accepted, 4 * worker->counters().rejected);
  }
  EXPECT_EQ(leader.text().find("worker quarantined"), std::string::npos) << leader.text();
  EXPECT_EQ(follower.text().find("listening"), std::string::npos) << "nobody took over";

  // An hour after the epoch was made out of the clock the clock is an hour before.
  set_clock("-1h");
  leader.process.signal(SIGKILL);
  leader.process.wait(10s);
  EXPECT_TRUE(eventually([&] {
    return std::all_of(workers.begin(), workers.end(),
                       [&](const auto& w) { return w->newest().epoch > epoch; });
  })) << follower.text();
  EXPECT_TRUE(learnt(20)) << "under the next leader";
}

TEST_F(ClockJump, OnlyTheValidityOfCertificatesGoesByTheWallClock) {
  set_clock("+0");
  const Replica server = serve(env());
  const std::string address = server.said("listening address=");
  ASSERT_FALSE(address.empty()) << server.text();
  certificate("node", "URI:spiffe://ballast/node/n1", "ca");
  const auto before = busy(address, "spiffe://ballast/node/n1", files("node"));
  ASSERT_TRUE(eventually([&] { return before->newest().version > 5; })) << server.text();

  set_clock("+3d");  // the server finds that all certificates have expired
  const auto late = work(address, files("node"), "spiffe://ballast/node/n1/late");
  EXPECT_FALSE(served(*late, 1s)) << "a new connection";
  const std::uint64_t then = before->newest().version;
  EXPECT_TRUE(eventually([&] { return before->newest().version > then + 20; })) << "one that was made before";
  EXPECT_EQ(before->counters().connects, 1U);

  set_clock("+0");
  EXPECT_TRUE(served(*late)) << server.text();
}

}  // namespace
}  // namespace ballast::sync
