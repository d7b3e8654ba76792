// SPDX-License-Identifier: Apache-2.0
#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "core/base/cgroup_root.h"
#include "core/base/file.h"
#include "core/base/human.h"
#include "core/base/table.h"

namespace {

/// What went to the disk, in order.
std::vector<std::string> flushed;

}  // namespace

extern "C" int fsync(int fd) {
  std::error_code ignored;
  flushed.push_back("fsync " +
                    std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd), ignored).string());
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

extern "C" int rename(const char* from, const char* to) noexcept {
  flushed.push_back(std::string("rename ") + to);
  return static_cast<int>(::syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0));
}

namespace ballast {
namespace {

TEST(Table, AlignsByColumnsOfTheScreen) {
  Table table({{"pod"}, {"p50", Table::Align::kRight}, {"why"}});
  table.row({"web-0", "12 µs", "slow"});
  table.row({"web-10", "3 ms"});
  EXPECT_EQ(table.text(),
            "pod       p50  why\n"
            "web-0   12 µs  slow\n"
            "web-10   3 ms\n");
}

TEST(Table, CutsLinesToTheWidth) {
  Table table({{"a"}, {"why"}});
  table.row({"µµ", "a long reason"});
  EXPECT_EQ(table.text(8), "a   why\nµµ  a l…\n");
}

TEST(Fit, PadsAndCuts) {
  EXPECT_EQ(fit("ab", 4), "ab  ");
  EXPECT_EQ(fit("µbcd", 3), "µb…");
  EXPECT_EQ(fit("abc", 0), "");
}

TEST(Human, ThreeDigitsAndAUnit) {
  EXPECT_EQ(human_duration_ns(0), "0 ns");
  EXPECT_EQ(human_duration_ns(870), "870 ns");
  EXPECT_EQ(human_duration_ns(999'900), "1.00 ms");
  EXPECT_EQ(human_duration_ns(12'345), "12.3 µs");
  EXPECT_EQ(human_duration_ns(4'560'000), "4.56 ms");
  EXPECT_EQ(human_duration_ns(90e9), "90.0 s");
  EXPECT_EQ(human_duration_ns(2.5 * 3600e9), "2.50 h");
  EXPECT_EQ(human_bytes(512), "512 B");
  EXPECT_EQ(human_bytes(12.5 * 1024 * 1024), "12.5 MiB");
  EXPECT_EQ(human_percent(0.123), "12.3 %");
  EXPECT_EQ(human_number(std::numeric_limits<double>::quiet_NaN()), "-");
  EXPECT_EQ(human_number(1234.4), "1234");
}

TEST(CgroupRoot, IsTheFirstOfTypeCgroup2) {
  auto dir = TempDir::create(std::filesystem::temp_directory_path(), "ballast-mounts-");
  ASSERT_TRUE(dir.ok());
  const auto path = dir->path() / "mountinfo";
  std::ofstream(path)
      << "25 20 0:22 / /sys/fs/cgroup/cpu rw,nosuid shared:7 - cgroup cgroup rw,cpu\n"
         "30 20 0:26 / /sys/fs/cgroup/a\\040b rw,nosuid shared:9 master:1 - cgroup2 cgroup2 rw\n"
         "31 20 0:27 / /other rw - cgroup2 cgroup2 rw\n";
  const auto root = find_cgroup_root(path);
  ASSERT_TRUE(root.ok()) << root.error().message;
  EXPECT_EQ(*root, "/sys/fs/cgroup/a b");
}

TEST(CgroupRoot, IsKnownByItsFileSystem) {
  if (const auto root = find_cgroup_root()) {
    EXPECT_TRUE(check_cgroup_root(*root).ok());
  }
  for (const char* wrong : {"/proc", "/absent"}) {
    const Status checked = check_cgroup_root(wrong);
    ASSERT_FALSE(checked.ok()) << wrong;
    EXPECT_EQ(checked.error().exit_code(), 2);
    EXPECT_NE(checked.error().message.find(wrong), std::string::npos) << checked.error().message;
  }
}

TEST(CgroupRoot, IsMissedByName) {
  const auto root = find_cgroup_root("/dev/null");
  ASSERT_FALSE(root.ok());
  EXPECT_EQ(root.error().exit_code(), 3);
  EXPECT_NE(root.error().message.find("cgroup v2"), std::string::npos);
}

TEST(WriteFileAtomic, IsOnTheDiskByItsNewNameWhenItReturns) {
  const auto folder = TempDir::create(std::filesystem::temp_directory_path(), "ballast-file-");
  ASSERT_TRUE(folder.ok());
  const std::string file = folder->path() / "file";
  flushed.clear();
  ASSERT_TRUE(write_file_atomic(file, "bytes").ok());
  ASSERT_EQ(flushed.size(), 3U);
  EXPECT_EQ(flushed[0].find("fsync " + file + "."), 0U) << flushed[0];
  EXPECT_EQ(flushed[1], "rename " + file);
  EXPECT_EQ(flushed[2], "fsync " + folder->path().string());
}

TEST(WriteFileAtomic, WhatIsNoFileStaysWhatItIs) {
  const auto folder = TempDir::create(std::filesystem::temp_directory_path(), "ballast-file-");
  ASSERT_TRUE(folder.ok());
  const auto file = folder->path() / "file";
  const auto link = folder->path() / "link";  // as /dev/stdout is
  ASSERT_TRUE(write_file_atomic(file, "before, and longer").ok());
  std::filesystem::create_symlink(file, link);
  ASSERT_TRUE(write_file_atomic(link, "after").ok());
  EXPECT_TRUE(std::filesystem::is_symlink(link));
  EXPECT_EQ(read_file(file).value(), "after");
  const auto device = folder->path() / "null";
  if (::mknod(device.c_str(), S_IFCHR | 0600, makedev(1, 3)) != 0) {
    GTEST_SKIP() << "needs CAP_MKNOD for the rest";
  }
  const Status written = write_file_atomic(device, "gone");
  EXPECT_TRUE(std::filesystem::is_character_file(device)) << "written over";
  // A file system without devices refuses to open it.
  EXPECT_TRUE(written.ok() || written.error().message.find("opening") != std::string::npos);
}

}  // namespace
}  // namespace ballast
