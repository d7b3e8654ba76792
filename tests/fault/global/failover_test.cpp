// SPDX-License-Identifier: Apache-2.0
//
// Two replicas of the real ballast-global on one state folder, workers that push all the while.
#include <signal.h>
#include <sys/mount.h>
#include <unistd.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "replica.h"

namespace ballast::sync {
namespace {

namespace fs = std::filesystem;

WorkerOptions options(const std::string& address, const std::string& id) {
  return {.address = address,
          .worker_id = id,
          .pull_interval = 20ms,
          .first_wait = 20ms,
          .longest_wait = 200ms,
          .queue = 4};
}

class Failover : public Replicas {
 protected:
  Replica replica(const std::string& socket, std::vector<std::string> more = {}) {
    std::vector<std::string> flags = {"--listen", "unix:" + path(socket), "--state", path("state"),
                                      "--standby"};
    flags.insert(flags.end(), more.begin(), more.end());
    return start(flags);
  }
};

TEST_F(Failover, TheFollowerServesWhenTheLeaderIsKilledUnderLoadAndNothingGoesBack) {
  // One address for both, as a Kubernetes Service is: whoever leads listens there.
  Replica leader = replica("global.sock");
  ASSERT_FALSE(leader.said("listening address=").empty()) << leader.text();
  Replica follower = replica("global.sock");
  ASSERT_TRUE(eventually([&] { return follower.text().find("following") != std::string::npos; }));

  std::vector<std::unique_ptr<BusyWorker>> workers;
  for (int i = 0; i < 8; ++i) {
    workers.push_back(
        std::make_unique<BusyWorker>(options("unix:" + path("global.sock"), "node-" + std::to_string(i))));
  }
  const auto all_at = [&](const std::function<bool(const BusyWorker&)>& holds) {
    return eventually([&] {
      return std::all_of(workers.begin(), workers.end(), [&](const auto& w) { return holds(*w); });
    });
  };
  ASSERT_TRUE(all_at([](const BusyWorker& w) { return w.newest().version > 50; })) << leader.text();
  const Version before = workers.front()->newest();
  std::this_thread::sleep_for(300ms);  // longer than a live state waits to be written
  leader.process.signal(SIGKILL);
  leader.process.wait(10s);
  const auto killed = std::chrono::steady_clock::now();
  ASSERT_TRUE(all_at([&](const BusyWorker& w) { return w.newest().epoch > before.epoch; }))
      << follower.text();
  const auto took = std::chrono::steady_clock::now() - killed;
  RecordProperty("failover_ms", static_cast<int>(took / 1ms));
  const Version taken_over = workers.front()->newest();
  EXPECT_GE(taken_over.version, before.version) << "what was learned is kept";
  EXPECT_TRUE(all_at([&](const BusyWorker& w) { return w.newest().version > taken_over.version + 20; }))
      << "learning goes on";
  for (const auto& worker : workers) {
    EXPECT_FALSE(worker->went_back());
  }
}

TEST_F(Failover, ALeaderWhoseLockIsGoneStopsServing) {
  Replica leader = replica("global.sock");
  ASSERT_FALSE(leader.said("listening address=").empty()) << leader.text();
  fs::remove(path("state/lock"));
  const auto status = leader.process.wait(30s);
  ASSERT_TRUE(status) << "it still serves";
  EXPECT_EQ(status->code, 1);
  EXPECT_NE(leader.text().find("deposed"), std::string::npos) << leader.text();
}

TEST_F(Failover, AFrozenLeaderThatWakesUpAfterAnotherTookOverNeitherServesNorSaves) {
  Replica first = replica("first.sock");
  ASSERT_FALSE(first.said("listening address=").empty()) << first.text();
  first.process.signal(SIGSTOP);
  fs::remove(path("state/lock"));  // as a lease that runs out
  Replica second = replica("second.sock");
  ASSERT_FALSE(second.said("listening address=").empty()) << second.text();
  first.process.signal(SIGCONT);
  const auto status = first.process.wait(30s);
  ASSERT_TRUE(status) << "it still serves";
  EXPECT_EQ(status->code, 1);
  BusyWorker worker(options("unix:" + path("second.sock"), "node"));
  EXPECT_TRUE(eventually([&] { return worker.newest().version > 5; }));
  second.process.signal(SIGTERM);
  ASSERT_TRUE(second.process.wait(30s));
  const auto latest = policy::parse(*read_file(path("state/parameters-latest")));
  ASSERT_TRUE(latest);
  EXPECT_EQ(std::to_string(latest->epoch),
            second.said("listening address=unix:" + path("second.sock") + " epoch="));
}

TEST_F(Failover, AFullDiskStopsNoLearning) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "SKIPPED: needs CAP_SYS_ADMIN to mount a small tmpfs";
  }
  fs::create_directory(path("state"));
  if (::mount("tmpfs", path("state").c_str(), "tmpfs", 0, "size=1m") != 0) {
    GTEST_SKIP() << "SKIPPED: a small tmpfs cannot be mounted here";
  }
  const auto unmount = [](const std::string* at) { ::umount2(at->c_str(), MNT_DETACH); };
  const std::string at = path("state");
  const std::unique_ptr<const std::string, decltype(unmount)> mounted(&at, unmount);
  {
    Replica leader = replica("global.sock", {"--checkpoint-seconds", "0"});
    ASSERT_FALSE(leader.said("listening address=").empty()) << leader.text();
    BusyWorker worker(options("unix:" + path("global.sock"), "node"));
    ASSERT_TRUE(eventually([&] { return worker.newest().version > 3; }));
    {
      std::ofstream filler(at + "/filler", std::ios::binary);
      const std::string block(4096, 'x');
      while (filler.write(block.data(), static_cast<std::streamsize>(block.size())).flush()) {
      }
    }
    ASSERT_TRUE(eventually([&] { return leader.text().find("state not saved") != std::string::npos; }))
        << leader.text();
    const auto full = worker.newest();
    EXPECT_TRUE(eventually([&] { return worker.newest().version > full.version + 20; }))
        << "learning goes on";
    fs::remove(at + "/filler");
    const auto freed = worker.newest();
    EXPECT_TRUE(eventually([&] {
      const auto latest = read_file(at + "/parameters-latest");
      const auto parsed = latest ? policy::parse(*latest) : Result<policy::Parameters>(latest.error());
      return parsed && parsed->version > freed.version;
    })) << "and is saved again";
    leader.process.stop(10s);
  }
  Replica again = replica("global.sock");
  EXPECT_FALSE(again.said("listening address=").empty()) << again.text();
  again.process.stop(10s);
}

TEST_F(Failover, TheBenchmarksWriterSeesAllEndpointsOfAllNodes) {
  auto bench = ChildProcess::spawn(
      {.argv = {testing::program("ballast-bench"), "fleet", "--nodes", "50", "--pods", "7", "--writer",
                "--seconds", "2", "--interval", "0.5", "-o", path("fleet.json")},
       .output = path("bench.log")});
  ASSERT_TRUE(bench);
  const auto status = bench->wait(120s);
  ASSERT_TRUE(status);
  ASSERT_EQ(status->code, 0) << *read_file(path("bench.log"));
  const auto row = nlohmann::json::parse(*read_file(path("fleet.json")));
  EXPECT_EQ(row["writer_endpoints"], 50 * 7) << row.dump();
  EXPECT_GT(row["writer_views"], 0) << row.dump();
  EXPECT_EQ(row["broken_streams"], 0) << row.dump();
}

TEST_F(Failover, AThousandWorkersReturnAtOnceToARestartedServer) {
  // The benchmark's workers come all within one interval; the server is new and empty.
  auto bench = ChildProcess::spawn(
      {.argv = {testing::program("ballast-bench"), "sync", "--workers", "1000", "--params", "1000",
                "--seconds", "2", "--interval", "2", "-o", path("sync.json")},
       .output = path("bench.log")});
  ASSERT_TRUE(bench);
  const auto status = bench->wait(120s);
  ASSERT_TRUE(status);
  ASSERT_EQ(status->code, 0) << *read_file(path("bench.log"));
  const auto row = nlohmann::json::parse(*read_file(path("sync.json")));
  EXPECT_EQ(row["broken_streams"], 0) << row.dump();
  EXPECT_EQ(row["workers"], 1000);
  for (const auto& [verdict, count] : row["verdicts"].items()) {
    EXPECT_TRUE(verdict == "ACCEPTED" || verdict == "REJECTED_STALE" || verdict == "VERDICT_UNSPECIFIED")
        << verdict << " " << count;
  }
  EXPECT_GT(row["syncs"].get<int>(), 0);
}

}  // namespace
}  // namespace ballast::sync
