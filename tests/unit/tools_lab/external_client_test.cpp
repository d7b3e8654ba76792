// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/external_client.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <thread>

#include "core/base/file.h"

namespace ballast::lab {
namespace {

std::string error_of(const std::string& text) {
  const auto parsed = parse_client_result(text, "r.txt");
  return parsed ? "" : parsed.error().message;
}

TEST(ClientResult, ALineARequest) {
  const auto parsed = parse_client_result("0 1500 1\n2000 300 0\nend 2\n", "r.txt");
  ASSERT_TRUE(parsed) << parsed.error().message;
  ASSERT_EQ(parsed->answers.size(), 2U);
  EXPECT_EQ(parsed->arrivals[1].at_ns, 2'000'000U);
  EXPECT_EQ(parsed->answers[0].latency_ns, 1'500'000U);
  EXPECT_EQ(parsed->answers[0].outcome, Outcome::kOk);
  EXPECT_EQ(parsed->answers[1].outcome, Outcome::kError);
}

TEST(ClientResult, OneThatEndsInTheMiddleIsNamedAndGivesNothing) {
  EXPECT_NE(error_of("0 1500 1\n2000 300 1\n").find("r.txt ends in the middle, after 2 lines"),
            std::string::npos);
  EXPECT_NE(error_of("").find("ends in the middle"), std::string::npos);
  EXPECT_NE(error_of("0 1500 1\n2000 3").find("r.txt:2"), std::string::npos);
  EXPECT_NE(error_of("0 1500 1\nend 2\n").find("r.txt:2: \"end 2\" after 1 requests"), std::string::npos);
  EXPECT_NE(error_of("end 0\n0 1500 1\n").find("r.txt:1"), std::string::npos);
  EXPECT_NE(error_of("0 1500 7\nend 1\n").find("r.txt:1"), std::string::npos);
}

TEST(ExternalClient, ItsFailureIsToldInItsOwnWords) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("external_client_" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  ASSERT_TRUE(write_file_atomic(folder / "client.sh", "echo \"no plan for $BALLAST_LAB_TARGET\"\nexit 2\n"));
  auto client = ExternalClient::start("sh " + (folder / "client.sh").string(),
                                      {"BALLAST_LAB_TARGET=127.0.0.1:9"}, folder);
  ASSERT_TRUE(client) << client.error().message;
  while (!client->finished()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  const auto result = client->result();
  ASSERT_FALSE(result);
  EXPECT_NE(result.error().message.find("code 2: no plan for 127.0.0.1:9"), std::string::npos)
      << result.error().message;
  EXPECT_FALSE(ExternalClient::start(" ", {}, folder));
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace ballast::lab
