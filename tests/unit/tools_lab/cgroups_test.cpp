// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/cgroups.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "core/base/file.h"

namespace ballast::lab {
namespace {

namespace fs = std::filesystem;

TEST(CgroupLayout, HybridHost) {
  const auto layout = parse_cgroup_layout(
      "31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n"
      "32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct\n"
      "34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
      "35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n"
      "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
  ASSERT_TRUE(layout.ok());
  EXPECT_TRUE(layout->hybrid());
  EXPECT_EQ(layout->v2, "/sys/fs/cgroup/unified");
  EXPECT_EQ(layout->v1_cpu, "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(layout->roots(), (std::vector<fs::path>{"/sys/fs/cgroup/unified", "/sys/fs/cgroup/cpu,cpuacct",
                                                    "/sys/fs/cgroup/memory"}));
}

TEST(CgroupLayout, PureV2AndNone) {
  const auto layout =
      parse_cgroup_layout("30 23 0:27 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n");
  ASSERT_TRUE(layout.ok());
  EXPECT_FALSE(layout->hybrid());
  EXPECT_EQ(layout->roots(), std::vector<fs::path>{"/sys/fs/cgroup"});
  const auto none = parse_cgroup_layout("32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n");
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().exit_code(), 3);
}

/// A tree of plain files stands in for the hierarchies.
class FakeTree : public testing::Test {
 protected:
  void SetUp() override {
    auto folder = TempDir::create(fs::temp_directory_path(), "lab-cgroups-");
    ASSERT_TRUE(folder.ok());
    root_ = std::make_unique<TempDir>(std::move(*folder));
  }
  fs::path control(const std::string& name, const std::string& text = "") {
    const auto path = root_->path() / name;
    fs::create_directories(path.parent_path());
    std::ofstream(path) << text;
    return path;
  }
  std::unique_ptr<TempDir> root_;
};

TEST_F(FakeTree, PureV2WritesCpuMaxAndReadsUsage) {
  const CgroupLayout layout{root_->path(), {}, {}, {}};
  control("cgroup.subtree_control");
  control("run/cgroup.subtree_control");
  const auto cpu_max = control("run/web-0/cpu.max");
  control("run/web-0/cpu.stat", "usage_usec 1500000\nuser_usec 7\n");
  const auto cgroup = PodCgroup::create(layout, "run/web-0");
  ASSERT_TRUE(cgroup.ok()) << cgroup.error().message;
  ASSERT_TRUE(cgroup->set_quota(0.1, 20).ok());
  EXPECT_EQ(*read_file(cpu_max), "2000 20000");
  EXPECT_EQ(*cgroup->cpu_seconds(), 1.5);
  EXPECT_EQ(cgroup->identity(), "/run/web-0");
}

TEST_F(FakeTree, HybridWritesTheV1Quota) {
  const CgroupLayout layout{root_->path() / "unified", root_->path() / "cpu", root_->path() / "cpuacct", {}};
  const auto period = control("cpu/run/web-0/cpu.cfs_period_us", "100000");
  const auto quota = control("cpu/run/web-0/cpu.cfs_quota_us", "-1");
  control("cpuacct/run/web-0/cpuacct.usage", "2500000000\n");
  const auto cgroup = PodCgroup::create(layout, "run/web-0");
  ASSERT_TRUE(cgroup.ok()) << cgroup.error().message;
  ASSERT_TRUE(cgroup->set_quota(0.4, 20).ok());
  EXPECT_EQ(read_number(period), 20000U);
  EXPECT_EQ(read_number(quota), 8000U);
  EXPECT_EQ(*cgroup->cpu_seconds(), 2.5);
  EXPECT_EQ(cgroup->folders().size(), 3U);
}

TEST_F(FakeTree, RemovingNeverTouchesARoot) {
  const CgroupLayout layout{root_->path(), {}, {}, {}};
  fs::create_directories(root_->path() / "other");
  for (const char* relative : {"", "/", "..", "."}) {
    remove_cgroups(layout, relative);
  }
  EXPECT_TRUE(fs::exists(root_->path() / "other"));
  fs::create_directories(root_->path() / "run/web-0/deep");
  remove_cgroups(layout, "run");
  EXPECT_FALSE(fs::exists(root_->path() / "run"));
  EXPECT_TRUE(fs::exists(root_->path() / "other"));
}

}  // namespace
}  // namespace ballast::lab
