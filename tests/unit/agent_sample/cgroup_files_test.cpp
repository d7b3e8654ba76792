// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/cgroup_files.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/base/file.h"

namespace ballast::sample {
namespace {

class CgroupFilesTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = TempDir::create("/tmp", "ballast-cgroup-");
    ASSERT_TRUE(folder.ok());
    folder_.emplace(std::move(*folder));
  }
  std::filesystem::path at(const std::string& path) const { return folder_->path() / path; }
  // In place, as the kernel does it: descriptors that are open see the new text.
  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories(at(path).parent_path());
    std::ofstream(at(path), std::ios::trunc) << text;
  }
  CgroupRoots unified() const {
    CgroupRoots roots;
    roots.v2 = at("v2");
    roots.online_cpus = 8;
    return roots;
  }
  CgroupRoots hybrid() const {
    CgroupRoots roots = unified();
    roots.v1_cpu = at("cpu");
    roots.v1_memory = at("memory");
    roots.v1_cpuset = at("cpuset");
    return roots;
  }
  std::optional<TempDir> folder_;
};

TEST(CpuList, Counts) {
  EXPECT_EQ(count_cpu_list("0-3,8\n"), 5);
  EXPECT_EQ(count_cpu_list("7\n"), 1);
  EXPECT_EQ(count_cpu_list("\n"), 0);
  EXPECT_EQ(count_cpu_list("3-1"), 0);
}

TEST_F(CgroupFilesTest, UnifiedUsage) {
  write("v2/lab/web/cpu.stat", "usage_usec 10\nnr_throttled 3\nthrottled_usec 250\n");
  write("v2/lab/web/memory.current", "1048576\n");
  CgroupFiles files(unified());
  const auto usage = files.usage("/lab/web");
  EXPECT_EQ(usage.throttled_ns, 250'000U);
  EXPECT_EQ(usage.memory_bytes, 1'048'576U);
  write("v2/lab/web/cpu.stat", "usage_usec 10\nnr_throttled 4\nthrottled_usec 300\n");
  EXPECT_EQ(files.usage("/lab/web").throttled_ns, 300'000U) << "the kept descriptor reads anew";
}

TEST_F(CgroupFilesTest, HybridReadsTheSamePathUnderV1) {
  std::filesystem::create_directories(at("v2/lab/web"));
  write("cpu/lab/web/cpu.stat", "nr_periods 1\nnr_throttled 1\nthrottled_time 777\n");
  write("cpu/lab/web/cpu.cfs_quota_us", "50000\n");
  write("cpu/lab/web/cpu.cfs_period_us", "100000\n");
  write("memory/lab/web/memory.usage_in_bytes", "4096\n");
  write("memory/lab/web/memory.limit_in_bytes", "9223372036854771712\n");
  write("memory/lab/memory.limit_in_bytes", "8192\n");
  CgroupFiles files(hybrid());
  EXPECT_EQ(files.usage("/lab/web").throttled_ns, 777U);
  EXPECT_EQ(files.usage("/lab/web").memory_bytes, 4096U);
  EXPECT_DOUBLE_EQ(files.limits("/lab/web").cpu_cores, 0.5);
  EXPECT_EQ(files.limits("/lab/web").memory_bytes, 8192U) << "the parent's limit holds too";
}

TEST_F(CgroupFilesTest, CpuTimeIsInTheUnifiedTreeWhereverTheControllerIs) {
  write("v2/lab/web/cpu.stat", "usage_usec 1500\nuser_usec 1000\nsystem_usec 500\n");
  write("cpu/lab/web/cpu.stat", "nr_periods 1\nnr_throttled 1\nthrottled_time 777\n");
  CgroupFiles on_v2(unified());
  EXPECT_EQ(on_v2.usage("/lab/web").cpu_ns, 1'500'000U);
  EXPECT_FALSE(on_v2.usage("/lab/web").throttled_ns) << "no controller, no quota";
  CgroupFiles on_v1(hybrid());
  EXPECT_EQ(on_v1.usage("/lab/web").cpu_ns, 1'500'000U);
  EXPECT_EQ(on_v1.usage("/lab/web").throttled_ns, 777U);
  EXPECT_FALSE(on_v1.usage("/lab/none").cpu_ns);
}

TEST_F(CgroupFilesTest, TheTightestQuotaUpToTheRootHolds) {
  write("v2/pods/one/app/cpu.max", "max 100000\n");
  write("v2/pods/one/cpu.max", "150000 100000\n");
  write("v2/pods/cpu.max", "600000 100000\n");
  CgroupFiles files(unified());
  EXPECT_DOUBLE_EQ(files.limits("/pods/one/app").cpu_cores, 1.5);
  EXPECT_DOUBLE_EQ(files.limits("/pods").cpu_cores, 6);
  write("v2/pods/one/app/cpu.max", "25000 100000\n");
  EXPECT_DOUBLE_EQ(files.limits("/pods/one/app").cpu_cores, 0.25);
}

TEST_F(CgroupFilesTest, NoMoreThanTheMachineAndTheCpuSet) {
  write("v2/wide/cpu.max", "6400000 100000\n");
  CgroupFiles files(unified());
  EXPECT_DOUBLE_EQ(files.limits("/wide").cpu_cores, 8);
  write("v2/wide/cpuset.cpus.effective", "0-1\n");
  EXPECT_DOUBLE_EQ(files.limits("/wide").cpu_cores, 2);
}

TEST_F(CgroupFilesTest, UnknownCgroupsHaveNoFigures) {
  CgroupFiles files(hybrid());
  EXPECT_FALSE(files.usage("/nowhere").throttled_ns.has_value());
  EXPECT_EQ(files.usage("/nowhere").memory_bytes, 0U);
  EXPECT_EQ(files.limits("/nowhere").cpu_cores, 0);
  EXPECT_EQ(files.limits("/nowhere").memory_bytes, 0U);
}

TEST_F(CgroupFilesTest, DiscoversAHybridHost) {
  write("mountinfo",
        "25 24 0:22 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct\n"
        "26 24 0:23 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n"
        "27 24 0:24 / /sys/fs/cgroup/memory rw,relatime shared:3 - cgroup cgroup rw,memory\n"
        "30 24 0:25 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n");
  const auto roots = CgroupRoots::discover({}, at("mountinfo"));
  ASSERT_TRUE(roots.ok()) << roots.error().message;
  EXPECT_EQ(roots->v2, "/sys/fs/cgroup/unified");
  EXPECT_EQ(roots->v1_cpu, "/sys/fs/cgroup/cpu,cpuacct");
  EXPECT_EQ(roots->v1_cpuset, "/sys/fs/cgroup/cpuset");
  EXPECT_EQ(roots->v1_memory, "/sys/fs/cgroup/memory");
  EXPECT_GE(roots->online_cpus, 1);
}

// In a pod, with the host's hierarchies mounted beside the container's own.
TEST_F(CgroupFilesTest, TakesTheControllersOfTheHierarchyThatIsRead) {
  write("mountinfo",
        "25 24 0:22 /kubepods/a /sys/fs/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
        "27 24 0:24 /kubepods/a /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "30 24 0:25 /kubepods/a /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw\n"
        "35 24 0:22 / /host/cgroup/cpu ro - cgroup cgroup rw,cpu\n"
        "37 24 0:24 / /host/cgroup/memory ro - cgroup cgroup rw,memory\n"
        "40 24 0:25 / /host/cgroup/unified ro - cgroup2 cgroup2 rw\n"
        "45 24 0:22 / /later/cpu ro - cgroup cgroup rw,cpu\n");
  const auto roots = CgroupRoots::discover("/host/cgroup/unified", at("mountinfo"));
  ASSERT_TRUE(roots.ok()) << roots.error().message;
  EXPECT_EQ(roots->v2, "/host/cgroup/unified");
  EXPECT_EQ(roots->v1_cpu, "/host/cgroup/cpu");
  EXPECT_EQ(roots->v1_memory, "/host/cgroup/memory");
}

TEST_F(CgroupFilesTest, DiscoversAUnifiedHost) {
  write("mountinfo", "30 24 0:25 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw,nsdelegate\n");
  const auto roots = CgroupRoots::discover({}, at("mountinfo"));
  ASSERT_TRUE(roots.ok()) << roots.error().message;
  EXPECT_EQ(roots->v2, "/sys/fs/cgroup");
  EXPECT_TRUE(roots->v1_cpu.empty());
  EXPECT_TRUE(roots->v1_memory.empty());
}

}  // namespace
}  // namespace ballast::sample
