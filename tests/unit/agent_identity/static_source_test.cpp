// SPDX-License-Identifier: Apache-2.0
#include "agent/identity/static_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <sstream>

#include "core/base/file.h"
#include "core/base/log.h"

namespace ballast::identity {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;

std::uint64_t inode(const fs::path& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? info.st_ino : 0;
}

std::size_t count(const std::string& text, const std::string& part) {
  std::size_t found = 0;
  for (auto at = text.find(part); at != std::string::npos; at = text.find(part, at + 1)) {
    ++found;
  }
  return found;
}

class StaticSourceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(fs::temp_directory_path(), "ballast-identity-");
    ASSERT_TRUE(made) << made.error().message;
    dir_ = std::make_unique<TempDir>(std::move(*made));
    fs::create_directories(root());
    before_ = spdlog::default_logger();
    spdlog::set_default_logger(
        std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log_)));
  }
  void TearDown() override { spdlog::set_default_logger(before_); }

  fs::path root() const { return dir_->path() / "cgroup"; }
  fs::path file() const { return dir_->path() / "pods.yaml"; }
  void write(const std::string& pods) {
    const auto status = write_file_atomic(file(), "pods:\n" + pods);
    ASSERT_TRUE(status) << status.error().message;
  }
  std::unique_ptr<StaticSource> open() {
    auto source = StaticSource::open(file(), root());
    EXPECT_TRUE(source) << source.error().message;
    return std::move(*source);
  }

  std::unique_ptr<TempDir> dir_;
  std::ostringstream log_;
  std::shared_ptr<spdlog::logger> before_;
};

constexpr const char* kWeb0 = "- {cgroup: /lab/web-0, pod: web-0, namespace: shop}\n";
constexpr const char* kWeb1 = "- {cgroup: /lab/web-1, pod: web-1, namespace: shop}\n";

TEST_F(StaticSourceTest, IdIsTheInodeOfTheCgroup) {
  fs::create_directories(root() / "lab/web-0");
  write(kWeb0);
  auto source = open();
  ASSERT_EQ(source->pods().size(), 1U);
  EXPECT_EQ(source->pods().front().cgroup_id, inode(root() / "lab/web-0"));
  EXPECT_EQ(log_.str(), "");
}

TEST_F(StaticSourceTest, CgroupThatComesGoesAndComesBackIsFollowed) {
  write(kWeb0);
  auto source = open();
  EXPECT_EQ(source->pods().front().cgroup_id, 0U);
  EXPECT_EQ(source->pods().front().cgroup_id, 0U);
  EXPECT_EQ(count(log_.str(), "cgroup not found"), 1U) << log_.str();
  EXPECT_THAT(log_.str(), HasSubstr("cgroup=/lab/web-0"));
  fs::create_directories(root() / "lab/web-0");
  EXPECT_EQ(source->pods().front().cgroup_id, inode(root() / "lab/web-0"));
  fs::remove(root() / "lab/web-0");
  EXPECT_EQ(source->pods().front().cgroup_id, 0U);
  EXPECT_EQ(count(log_.str(), "cgroup not found"), 2U) << "gone is news again";
}

TEST_F(StaticSourceTest, RemoteEndpointHasNoCgroupAndNoWarning) {
  write("- {pod: web-9, namespace: shop, service: web, address: 10.0.0.9, port: 80}\n");
  auto source = open();
  EXPECT_FALSE(source->pods().front().local);
  EXPECT_EQ(source->pods().front().cgroup_id, 0U);
  EXPECT_EQ(log_.str(), "");
}

TEST_F(StaticSourceTest, ChangedFileIsReadAnewAndABadOneIsNot) {
  write(kWeb0);
  auto source = open();
  write(std::string(kWeb0) + kWeb1);
  EXPECT_EQ(source->pods().size(), 2U);
  EXPECT_EQ(count(log_.str(), "cgroup not found"), 2U) << "one for each missing cgroup";
  write("- {pod: broken}\n");
  EXPECT_EQ(source->pods().size(), 2U);
  EXPECT_EQ(source->pods().size(), 2U);
  EXPECT_EQ(count(log_.str(), "namespace: is missing"), 1U) << log_.str();
  EXPECT_THAT(source->trouble(), HasSubstr("namespace: is missing"));
  fs::remove(file());
  EXPECT_EQ(source->pods().size(), 2U);
  EXPECT_THAT(source->trouble(), HasSubstr("in force"));
  write(kWeb1);
  ASSERT_EQ(source->pods().size(), 1U);
  EXPECT_EQ(source->trouble(), "");
  EXPECT_EQ(source->pods().front().pod, "web-1");
}

TEST_F(StaticSourceTest, FileThatCannotBeReadIsAUsageError) {
  const auto source = StaticSource::open(dir_->path() / "absent.yaml", root());
  ASSERT_FALSE(source);
  EXPECT_EQ(source.error().kind, Error::Kind::kUsage);
  EXPECT_THAT(source.error().message, HasSubstr("absent.yaml"));
}

}  // namespace
}  // namespace ballast::identity
