// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/cgroup_tree.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <set>

#include "core/base/file.h"

namespace ballast::sample {
namespace {

class CgroupTreeTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = TempDir::create("/tmp", "ballast-tree-");
    ASSERT_TRUE(folder.ok());
    folder_.emplace(std::move(*folder));
    make("lab/web-0");
    make("lab/web-1");
    ASSERT_TRUE(write_file_atomic(folder_->path() / "lab" / "cgroup.procs", "").ok());
  }
  void make(const std::string& path) { std::filesystem::create_directories(folder_->path() / path); }
  CgroupId inode(const std::string& path) const {
    struct stat info {};
    return ::stat((folder_->path() / path).c_str(), &info) == 0 ? info.st_ino : 0;
  }
  std::optional<TempDir> folder_;
};

TEST_F(CgroupTreeTest, MapsIdsAndPaths) {
  const auto tree = CgroupTree::create(folder_->path());
  ASSERT_TRUE(tree.ok());
  EXPECT_EQ(tree->cgroups().size(), 4U);
  EXPECT_EQ(tree->id_of("/lab/web-0"), inode("lab/web-0"));
  EXPECT_EQ(tree->id_of("/"), inode("."));
  ASSERT_NE(tree->path_of(inode("lab")), nullptr);
  EXPECT_EQ(*tree->path_of(inode("lab")), "/lab");
  EXPECT_EQ(tree->id_of("/lab/cgroup.procs"), 0U) << "files are not cgroups";
  EXPECT_EQ(tree->id_of("/gone"), 0U);
  EXPECT_EQ(tree->path_of(1ULL << 60), nullptr);
}

TEST_F(CgroupTreeTest, RefreshLooksOnlyWhenSomethingHappened) {
  auto tree = CgroupTree::create(folder_->path());
  ASSERT_TRUE(tree.ok());
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(tree->refresh().ok());
  }
  EXPECT_EQ(tree->walks(), 1U);

  make("lab/deep/er");
  ASSERT_TRUE(tree->refresh().ok());
  EXPECT_EQ(tree->id_of("/lab/deep/er"), inode("lab/deep/er"));
  make("lab/deep/er/still");  // below a folder that was not there at the start
  ASSERT_TRUE(tree->refresh().ok());
  EXPECT_EQ(tree->id_of("/lab/deep/er/still"), inode("lab/deep/er/still"));
}

TEST_F(CgroupTreeTest, RemovedOnesAreNamedOnce) {
  auto tree = CgroupTree::create(folder_->path());
  ASSERT_TRUE(tree.ok());
  const CgroupId gone = inode("lab/web-1");
  std::filesystem::remove(folder_->path() / "lab" / "web-1");
  ASSERT_TRUE(tree->refresh().ok());
  EXPECT_EQ(tree->removed(), std::vector<CgroupId>{gone});
  EXPECT_EQ(tree->id_of("/lab/web-1"), 0U);
  ASSERT_TRUE(tree->refresh().ok());
  EXPECT_TRUE(tree->removed().empty());
}

TEST_F(CgroupTreeTest, EachCgroupIsBelowTheNearestOfThePathsGiven) {
  make("pod/app/container/deep");
  make("pod/app2");
  make("pod/app/init");
  make("other");
  const auto tree = CgroupTree::create(folder_->path());
  ASSERT_TRUE(tree.ok());
  const auto ids = [&](const std::vector<std::string>& paths) {
    std::set<CgroupId> all;
    for (const std::string& path : paths) {
      all.insert(tree->id_of(path));
    }
    return all;
  };
  const auto below = tree->below({"/pod/app", "/pod/app/container", "/pod/app2", "/gone"});
  ASSERT_EQ(below.size(), 4U);
  const auto set = [&](const std::string& path) {
    return std::set<CgroupId>(below.at(path).begin(), below.at(path).end());
  };
  EXPECT_EQ(set("/pod/app"), ids({"/pod/app/init"}));
  EXPECT_EQ(set("/pod/app/container"), ids({"/pod/app/container/deep"}));
  EXPECT_TRUE(set("/pod/app2").empty()) << "a name that begins alike is another cgroup";
  EXPECT_TRUE(set("/gone").empty());
}

TEST_F(CgroupTreeTest, AMissingRootIsAnErrorThatNamesIt) {
  const auto tree = CgroupTree::create(folder_->path() / "nowhere");
  ASSERT_FALSE(tree.ok());
  EXPECT_NE(tree.error().message.find("nowhere"), std::string::npos);
}

}  // namespace
}  // namespace ballast::sample
