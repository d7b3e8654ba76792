// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/user_key.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "agent/sample/span.h"
#include "core/base/file.h"

namespace ballast::sample {
namespace {

class Users : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = TempDir::create(std::filesystem::temp_directory_path(), "ballast-users-");
    ASSERT_TRUE(folder.ok());
    folder_.emplace(std::move(*folder));
    options_ = {.header = "X-User-Id", .key_file = folder_->path() / "key"};
    write("0123456789abcdef");
  }
  void write(const std::string& key, std::filesystem::perms mode = std::filesystem::perms::owner_read) {
    std::filesystem::remove(options_.key_file);
    std::ofstream(options_.key_file) << key;
    std::filesystem::permissions(options_.key_file, mode);
  }
  std::string refusal() const {
    const auto key = UserKey::open(options_);
    EXPECT_FALSE(key.ok());
    EXPECT_TRUE(key.ok() || key.error().kind == Error::Kind::kUsage);
    return key ? "" : key.error().message;
  }

  std::optional<TempDir> folder_;
  UserOptions options_;
};

TEST_F(Users, AreToldApartAndNotNamed) {
  const auto key = UserKey::open(options_);
  ASSERT_TRUE(key.ok()) << key.error().message;
  // printf ada | openssl dgst -sha256 -hmac 0123456789abcdef, the first 16 digits
  EXPECT_EQ(key->of("ada"), "83eeb38e004a2953");
  EXPECT_NE(key->of("ada"), key->of("bob"));
  EXPECT_EQ(key->of(""), "");
  EXPECT_EQ(UserKey().of("ada"), "");
  write("another key of 16");
  const auto other = UserKey::open(options_);
  ASSERT_TRUE(other.ok());
  EXPECT_NE(other->of("ada"), key->of("ada"));
}

TEST_F(Users, AKeyThatOthersCanReadIsRefused) {
  using std::filesystem::perms;
  for (const perms mode : {perms::owner_read | perms::others_read, perms::owner_read | perms::group_read}) {
    write("0123456789abcdef", mode);
    EXPECT_NE(refusal().find("spans.user_key_file"), std::string::npos);
  }
  write("short");
  EXPECT_NE(refusal().find("16 bytes"), std::string::npos);
  options_.key_file = "/nonexistent/key";
  EXPECT_NE(refusal().find("/nonexistent/key"), std::string::npos);
}

TEST_F(Users, AHeaderIsAToken) {
  EXPECT_TRUE(options::validate(options_).ok());
  for (const char* header : {"x user", "x:user", "x\nuser", "\xc3\xa9"}) {
    UserOptions wrong = options_;
    wrong.header = header;
    const Status status = options::validate(wrong);
    ASSERT_FALSE(status.ok()) << header;
    EXPECT_NE(status.error().message.find("spans.user_header"), std::string::npos);
  }
  UserOptions half = options_;
  half.key_file.clear();
  EXPECT_FALSE(options::validate(half).ok()) << "a header without a key";
}

TEST_F(Users, TheHeaderIsFoundInAHead) {
  const std::string head = "GET / HTTP/1.1\r\nHost: a\r\nx-USER-id:\t ada \r\nX-User-Id-2: no\r\n\r\n";
  EXPECT_EQ(parse_request_head(head, "x-user-id").user, "ada");
  EXPECT_EQ(parse_request_head(head).user, "");
  EXPECT_EQ(parse_request_head(head, "x-user").user, "");
  EXPECT_EQ(parse_request_head("GET / HTTP/1.1\r\nx-user-id: ad", "x-user-id").user, "")
      << "cut: another one";
}

TEST_F(Users, ASpanHasTheHashAlone) {
  const auto key = UserKey::open(options_);
  ASSERT_TRUE(key.ok());
  ballast_span_value row{};
  const std::string head = "GET / HTTP/1.1\r\nX-User-Id: ada\r\n\r\n";
  head.copy(reinterpret_cast<char*>(row.head), head.size());
  row.head_len = static_cast<__ballast_u16>(head.size());
  Http2Heads heads;
  EXPECT_EQ(read_span(row, heads, *key).head.user, key->of("ada"));
  EXPECT_EQ(read_span(row, heads).head.user, "");
}

}  // namespace
}  // namespace ballast::sample
