// SPDX-License-Identifier: Apache-2.0
#include "model/sync/transport/listen.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/base/file.h"

namespace ballast::sync {
namespace {

TEST(Listen, OnlyThisHostUnlessToldOtherwise) {
  for (const char* address : {"127.0.0.1:50051", "127.1.2.3:0", "[::1]:50051", "localhost:50051",
                              "unix:/run/ballast/global.sock"}) {
    EXPECT_TRUE(check_address(address, false)) << address;
  }
  for (const char* address : {"0.0.0.0:50051", "10.0.0.1:50051", "[::]:50051", "[2001:db8::1]:50051"}) {
    const auto status = check_address(address, false);
    ASSERT_FALSE(status) << address;
    EXPECT_EQ(status.error().kind, Error::Kind::kUsage);
    EXPECT_NE(status.error().message.find(address), std::string::npos);
    EXPECT_TRUE(check_address(address, true)) << address;
  }
}

TEST(Listen, RefusesWhatIsNoAddress) {
  for (const std::string& address :
       {std::string(), std::string("50051"), std::string("127.0.0.1"), std::string("127.0.0.1:65536"),
        std::string("127.0.0.1:80x"), std::string("example.org:80"), std::string("::1:80"),
        std::string("unix:"), "unix:/" + std::string(107, 'a')}) {
    const auto status = check_address(address, true);
    ASSERT_FALSE(status) << address;
    EXPECT_EQ(status.error().kind, Error::Kind::kUsage) << address;
  }
}

TEST(Listen, AFileInTheWayOfASocketIsNamed) {
  const auto folder = TempDir::create(std::filesystem::temp_directory_path(), "ballast-listen-");
  ASSERT_TRUE(folder);
  const auto path = folder->path() / "file";
  std::ofstream(path) << "mine";
  const auto status = probe_address("unix:" + path.string());
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find(path.string()), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(path));
}

}  // namespace
}  // namespace ballast::sync
