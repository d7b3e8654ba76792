// SPDX-License-Identifier: Apache-2.0
#include "agent/identity/cgroup_path.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "core/base/file.h"

namespace ballast::identity {
namespace {

std::vector<std::string> describe(const std::optional<ContainerRef>& ref) {
  if (!ref) {
    return {"none"};
  }
  return {ref->pod_uid,       ref->container_id,        runtime_name(ref->runtime),
          qos_name(ref->qos), driver_name(ref->driver), ref->nested ? "yes" : "no"};
}

TEST(CgroupPath, EveryPathOfTheFixtureIsReadAsExpected) {
  const char* source = std::getenv("BALLAST_SOURCE_DIR");
  ASSERT_NE(source, nullptr) << "run by ctest, or set BALLAST_SOURCE_DIR to the checkout";
  const auto text = read_file(std::filesystem::path(source) / "tests/fixtures/identity/cgroup_paths.txt");
  ASSERT_TRUE(text) << text.error().message;
  std::istringstream lines(*text);
  std::size_t read = 0;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("#")) {
      continue;
    }
    std::istringstream columns(line);
    std::string path;
    std::getline(columns, path, '\t');
    std::vector<std::string> expected;
    for (std::string column; std::getline(columns, column, '\t');) {
      expected.push_back(column);
    }
    EXPECT_EQ(describe(parse_cgroup_path(path)), expected) << path;
    ++read;
  }
  EXPECT_GE(read, 30U);
}

TEST(CgroupPath, AnyBytesAreAnsweredWithoutAPod) {
  EXPECT_FALSE(parse_cgroup_path(""));
  EXPECT_FALSE(parse_cgroup_path("7"));
  EXPECT_FALSE(parse_cgroup_path("////"));
  EXPECT_FALSE(parse_cgroup_path("::::"));
  EXPECT_FALSE(parse_cgroup_path(std::string(100'000, '/') + "kubepods/pod/"));
  EXPECT_FALSE(parse_cgroup_path(std::string_view("\0kubepods\0/pod", 14)));
}

}  // namespace
}  // namespace ballast::identity
