// SPDX-License-Identifier: Apache-2.0
#include "agent/identity/cgroup_path_source.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>

#include "core/base/file.h"

namespace ballast::identity {
namespace {

namespace fs = std::filesystem;

const std::string kId(64, 'a');
const std::string kUid = "12345678-1234-1234-1234-123456789abc";

std::uint64_t inode(const fs::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

class CgroupPathSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(fs::temp_directory_path(), "ballast-identity-");
    ASSERT_TRUE(made) << made.error().message;
    dir_ = std::make_unique<TempDir>(std::move(*made));
  }
  fs::path add(const std::string& relative) {
    const fs::path path = dir_->path() / relative;
    fs::create_directories(path);
    return path;
  }
  std::unique_ptr<TempDir> dir_;
  ManualClock clock_;
};

TEST_F(CgroupPathSourceTest, NamesContainersByUidAndIdAndOthersByPath) {
  const fs::path container = add("kubepods/burstable/pod" + kUid + "/" + kId);
  const fs::path service = add("system.slice/ssh.service");
  CgroupPathSource source({.cgroup_root = dir_->path()}, clock_);
  const auto& pods = source.pods();
  ASSERT_EQ(pods.size(), 6U);  // the folders between are cgroups as well
  const auto find = [&](const fs::path& path) {
    return *std::find_if(pods.begin(), pods.end(),
                         [&](const Pod& pod) { return pod.cgroup_id == inode(path); });
  };
  EXPECT_EQ(find(container).pod, kUid);
  EXPECT_EQ(find(container).container, kId);
  EXPECT_EQ(find(container).cgroup, "/kubepods/burstable/pod" + kUid + "/" + kId);
  EXPECT_EQ(find(container).service, "");
  EXPECT_EQ(find(service).pod, "");
  EXPECT_EQ(find(service).cgroup, "/system.slice/ssh.service");
  EXPECT_TRUE(std::is_sorted(pods.begin(), pods.end(),
                             [](const Pod& a, const Pod& b) { return a.cgroup < b.cgroup; }));
}

TEST_F(CgroupPathSourceTest, WalksAgainOnlyAfterTheRefreshTime) {
  add("one");
  CgroupPathSource source({.cgroup_root = dir_->path(), .refresh_ns = 1000}, clock_);
  EXPECT_EQ(source.pods().size(), 1U);
  add("two");
  clock_.advance(999);
  EXPECT_EQ(source.pods().size(), 1U);
  clock_.advance(1);
  EXPECT_EQ(source.pods().size(), 2U);
  fs::remove(dir_->path() / "one");
  clock_.advance(1000);
  ASSERT_EQ(source.pods().size(), 1U);
  EXPECT_EQ(source.pods().front().cgroup, "/two");
}

TEST_F(CgroupPathSourceTest, StopsAtTheBound) {
  for (int i = 0; i < 10; ++i) {
    add("c" + std::to_string(i));
  }
  CgroupPathSource source({.cgroup_root = dir_->path(), .max_cgroups = 4}, clock_);
  EXPECT_EQ(source.pods().size(), 4U);
}

TEST_F(CgroupPathSourceTest, DoesNotFollowLinksOrNeedTheRoot) {
  add("one");
  fs::create_directory_symlink(dir_->path(), dir_->path() / "one" / "loop");
  CgroupPathSource source({.cgroup_root = dir_->path()}, clock_);
  EXPECT_EQ(source.pods().size(), 1U);
  CgroupPathSource none({.cgroup_root = dir_->path() / "absent"}, clock_);
  EXPECT_TRUE(none.pods().empty());
}

}  // namespace
}  // namespace ballast::identity
