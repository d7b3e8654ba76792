// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/host_features.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "core/base/file.h"

namespace ballast::sample {
namespace {

using ::testing::HasSubstr;

class HostFeaturesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = TempDir::create("/tmp", "ballast-host-");
    ASSERT_TRUE(folder.ok());
    folder_.emplace(std::move(*folder));
    roots_.v2 = folder_->path();
    controllers("cpuset cpu io memory pids");
    std::ofstream(folder_->path() / "cpu") << "some avg10=0.00\n";
    sockets_.cgroups[1].open = 1;
  }
  void controllers(const std::string& names) const {
    std::ofstream(folder_->path() / "cgroup.controllers", std::ios::trunc) << names << "\n";
  }
  // By place: cpu controller, memory controller, socket table, pressure.
  std::vector<Feature> features() const { return host_features(roots_, sockets_, folder_->path()); }

  std::optional<TempDir> folder_;
  CgroupRoots roots_;
  SocketTable sockets_;
};

TEST_F(HostFeaturesTest, AHostThatHasAllNamesNoFallback) {
  const auto all = features();
  ASSERT_EQ(all.size(), 4U);
  for (const Feature& feature : all) {
    EXPECT_TRUE(feature.available) << feature.name;
    EXPECT_EQ(feature.fallback, "") << feature.name;
  }
}

TEST_F(HostFeaturesTest, OnAHybridHostTheControllersOfV1AreNamed) {
  controllers("");
  roots_.v1_cpu = "/sys/fs/cgroup/cpu,cpuacct";
  roots_.v1_memory = "/sys/fs/cgroup/memory";
  const auto all = features();
  EXPECT_FALSE(all[0].available);
  EXPECT_EQ(all[0].fallback, "quotas and throttling from cgroup v1, /sys/fs/cgroup/cpu,cpuacct");
  EXPECT_FALSE(all[1].available);
  EXPECT_EQ(all[1].fallback, "memory from cgroup v1, /sys/fs/cgroup/memory");
}

TEST_F(HostFeaturesTest, AControllerThatIsNowhereIsNotKnown) {
  controllers("cpuset cpu pids");
  const auto all = features();
  EXPECT_TRUE(all[0].available);
  EXPECT_FALSE(all[1].available);
  EXPECT_THAT(all[1].fallback, HasSubstr("memory not known"));
}

TEST_F(HostFeaturesTest, ASocketTableThatIsRefusedOrTellsNoCgroups) {
  const Result<SocketTable> refused(Error::privilege("sock_diag: Operation not permitted"));
  const auto without = host_features(roots_, refused, folder_->path());
  EXPECT_FALSE(without[2].available);
  EXPECT_THAT(without[2].fallback, HasSubstr("our own count alone; sock_diag: Operation not permitted"));
  sockets_.cgroups.clear();
  EXPECT_TRUE(features()[2].available) << "no sockets at all";
  sockets_.without_cgroup = 3;
  EXPECT_FALSE(features()[2].available);
}

TEST_F(HostFeaturesTest, PressureMayBeSwitchedOff) {
  const auto all = host_features(roots_, sockets_, folder_->path() / "absent");
  EXPECT_FALSE(all[3].available);
  EXPECT_THAT(all[3].fallback, HasSubstr("psi=1"));
}

}  // namespace
}  // namespace ballast::sample
