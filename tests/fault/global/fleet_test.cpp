// SPDX-License-Identifier: Apache-2.0
//
// The fleet of real processes: two ballastd that report to one ballast-global.
#include <signal.h>
#include <unistd.h>

#include <nlohmann/json.hpp>

#include "replica.h"

namespace ballast::sync {
namespace {

namespace fs = std::filesystem;

class Fleet : public Replicas {
 protected:
  void TearDown() override {
    for (const std::string& bpffs : loaded_) {
      auto child = ChildProcess::spawn({.argv = {testing::program("ballastd"), "--unload", "--bpffs", bpffs},
                                        .output = path("unload.log")});
      ASSERT_TRUE(child);
      child->wait(30s);
      EXPECT_FALSE(fs::exists(bpffs)) << *read_file(path("unload.log"));
    }
  }
  Replica serve() {
    return start(
        {"--listen", "unix:" + path("global.sock"), "--state", path("state"), "--operations", "127.0.0.1:0"});
  }
  Replica node(const std::string& name) {
    const std::string bpffs = "/sys/fs/bpf/" + fs::path(path("")).parent_path().filename().string() + name;
    loaded_.push_back(bpffs);
    EXPECT_TRUE(write_file_atomic(path(name + ".yaml"), "bpffs: " + bpffs +
                                                            "\ntick_ms: 100\n"
                                                            "fleet:\n  remote: unix:" +
                                                            path("global.sock") + "\n  node: " + name +
                                                            "\n  interval_ms: 100\n  max_age_s: 0.5\n"));
    Replica out{path(name + ".log"), {}};
    auto child = ChildProcess::spawn(
        {.argv = {testing::program("ballastd"), "--config", path(name + ".yaml")}, .output = out.log});
    EXPECT_TRUE(child) << child.error().message;
    if (child) {
      out.process = std::move(*child);
    }
    return out;
  }
  nlohmann::json fleet_of(const Replica& server) {
    const std::string answer = path("ctl-" + std::to_string(++asked_) + ".json");
    auto child = ChildProcess::spawn(
        {.argv = {testing::program("ballastctl"), "global", server.said("operations address="), "-o", "json"},
         .output = answer});
    if (!child || !child->wait(10s)) {
      return nlohmann::json::object();
    }
    const auto status = nlohmann::json::parse(*read_file(answer), nullptr, false);
    return status.is_object() && status.contains("fleet") ? status["fleet"] : nlohmann::json::object();
  }
  static std::size_t times(const Replica& who, const std::string& said) {
    std::size_t count = 0;
    const std::string all = who.text();
    for (std::size_t at = all.find(said); at != std::string::npos; at = all.find(said, at + 1)) {
      ++count;
    }
    return count;
  }
  std::vector<std::string> loaded_;
  int asked_ = 0;
};

TEST_F(Fleet, NodesJoinAreAloneWhileTheServerIsAwayAndComeBack) {
  if (::geteuid() != 0) {
    GTEST_SKIP() << "SKIPPED: ballastd needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN";
  }
  Replica a = node("a");
  Replica b = node("b");
  Replica server = serve();
  ASSERT_FALSE(server.said("listening address=").empty()) << server.text();
  for (Replica* one : {&a, &b}) {
    ASSERT_TRUE(eventually([&] { return times(*one, "fleet state=\"joined\"") == 1; })) << one->text();
  }
  ASSERT_TRUE(eventually([&] { return fleet_of(server).value("nodes", 0) == 2; })) << server.text();

  server.process.signal(SIGKILL);
  ASSERT_TRUE(server.process.wait(10s));
  for (Replica* one : {&a, &b}) {
    EXPECT_TRUE(eventually([&] { return times(*one, "fleet state=\"away") == 1; })) << one->text();
    EXPECT_TRUE(one->process.running());
  }
  Replica again = serve();
  for (Replica* one : {&a, &b}) {
    EXPECT_TRUE(eventually([&] { return times(*one, "fleet state=\"joined\"") == 2; })) << one->text();
  }
  const auto fleet = fleet_of(again);
  EXPECT_EQ(fleet.value("nodes", 0), 2) << fleet.dump();
  ASSERT_TRUE(fleet.contains("refused")) << fleet.dump();
  EXPECT_EQ(fleet["refused"].value("replay", 1), 0) << fleet.dump();
  for (Replica* one : {&a, &b}) {
    one->process.signal(SIGTERM);
    const auto status = one->process.wait(30s);
    ASSERT_TRUE(status);
    EXPECT_EQ(status->code, 0) << one->text();
  }
}

}  // namespace
}  // namespace ballast::sync
