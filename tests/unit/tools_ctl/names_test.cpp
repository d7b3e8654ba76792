// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/names.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <cstring>

#include "core/base/file.h"

namespace ballast::ctl {
namespace {

namespace fs = std::filesystem;

TEST(Matches, EverySpellingOfAPod) {
  const Name name{"/lab/web-0", "web-0", "shop", "main", "web"};
  for (const char* target :
       {"", "web", "web-0", "web/web-0", "shop/web", "shop/web-0", "shop/web/web-0", "/lab/web-0", "42"}) {
    EXPECT_TRUE(matches(name, 42, target)) << target;
  }
  for (const char* target : {"we", "web-1", "web/web-1", "other/web", "shop", "/lab", "43", "/"}) {
    EXPECT_FALSE(matches(name, 42, target)) << target;
  }
}

TEST(Matches, ACgroupWithoutAPodOnlyByPathAndId) {
  const Name name{.cgroup = "/system.slice"};
  EXPECT_TRUE(matches(name, 7, "/system.slice"));
  EXPECT_TRUE(matches(name, 7, "7"));
  EXPECT_FALSE(matches(name, 7, "/"));
}

TEST(Names, FromTheMapFirstThenFromTheTree) {
  auto tree = TempDir::create(fs::temp_directory_path(), "ballast-tree-");
  ASSERT_TRUE(tree.ok());
  fs::create_directories(tree->path() / "kube" / "pod1");
  const auto inode = [](const fs::path& path) {
    struct stat info {};
    EXPECT_EQ(::stat(path.c_str(), &info), 0);
    return static_cast<sample::CgroupId>(info.st_ino);
  };
  ballast_identity_value named{};
  std::strncpy(named.cgroup, "/from/map", sizeof named.cgroup - 1);
  std::strncpy(named.pod, "web-0", sizeof named.pod - 1);
  Names names({{inode(tree->path() / "kube"), named}}, tree->path());

  EXPECT_EQ(names.of(inode(tree->path() / "kube")).cgroup, "/from/map");
  EXPECT_EQ(names.of(inode(tree->path() / "kube")).pod, "web-0");
  EXPECT_EQ(names.of(inode(tree->path() / "kube" / "pod1")).cgroup, "/kube/pod1");
  EXPECT_EQ(names.of(inode(tree->path())).cgroup, "/");
  EXPECT_EQ(names.of(1ULL << 60).cgroup, "(gone)");
}

/// Whoever may make cgroups below its own names them as it likes; a terminal and JSON take no such bytes.
TEST(Names, HaveNoBytesThatATerminalWouldObey) {
  auto tree = TempDir::create(fs::temp_directory_path(), "ballast-tree-");
  ASSERT_TRUE(tree.ok());
  const fs::path odd = tree->path() / "a\x1b[2J\xff";
  fs::create_directories(odd);
  struct stat info {};
  ASSERT_EQ(::stat(odd.c_str(), &info), 0);
  ballast_identity_value named{};
  std::strncpy(named.cgroup, "/b\n\x80", sizeof named.cgroup - 1);
  Names names({{7, named}}, tree->path());
  EXPECT_EQ(names.of(info.st_ino).cgroup, "/a?[2J?");
  EXPECT_EQ(names.of(7).cgroup, "/b??");
}

TEST(Names, ACgroupBelowAContainerHasThePodsName) {
  auto tree = TempDir::create(fs::temp_directory_path(), "ballast-tree-");
  ASSERT_TRUE(tree.ok());
  const fs::path below = tree->path() / "kube" / "pod1" / "app" / "container";
  fs::create_directories(below);
  struct stat info {};
  ASSERT_EQ(::stat(below.c_str(), &info), 0);
  ballast_identity_value named{};
  std::strncpy(named.cgroup, "/kube/pod1/app", sizeof named.cgroup - 1);
  std::strncpy(named.pod, "web-0", sizeof named.pod - 1);
  Names names({{7, named}}, tree->path());
  EXPECT_EQ(names.of(info.st_ino).pod, "web-0");
  EXPECT_EQ(names.of(info.st_ino).cgroup, "/kube/pod1/app/container");
  ASSERT_EQ(::stat((tree->path() / "kube").c_str(), &info), 0);
  EXPECT_EQ(names.of(info.st_ino).pod, "") << "what is above a pod is no pod";
}

TEST(Field, MayLackItsEnd) {
  const char full[4] = {'a', 'b', 'c', 'd'};
  EXPECT_EQ(field(full), "abcd");
  const char ended[4] = {'a', 0, 'x', 'y'};
  EXPECT_EQ(field(ended), "a");
}

}  // namespace
}  // namespace ballast::ctl
