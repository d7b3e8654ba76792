// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <string_view>

#include "bpf/lib/http1_again.h"
#include "bpf/lib/http1_pipeline.h"

namespace ballast::bpf {
namespace {

class Sum : public ::testing::Test {
 protected:
  Sum() {
    for (auto& key : keys_) {
      key = random_();
    }
  }
  u64 of(std::string_view bytes, int behind = 0) const {
    const auto window = std::make_unique<http1_window>();
    std::memset(window->bytes, behind, sizeof window->bytes);
    std::memcpy(window->bytes, bytes.data(), bytes.size());
    window->end = static_cast<u32>(bytes.size());
    return http1_sum(keys_.data(), window.get());
  }
  std::string bytes(std::size_t size) {
    std::string made(size, '\0');
    for (char& each : made) {
      each = static_cast<char>(random_());
    }
    return made;
  }

  std::mt19937_64 random_{7};
  std::array<u64, HTTP1_KEYS> keys_{};
};

TEST_F(Sum, IsOfTheMessagesBytesAndOfNoOthers) {
  for (std::size_t size = 1; size <= HTTP1_WINDOW; ++size) {
    const std::string message = bytes(size);
    EXPECT_EQ(of(message, 0x0a), of(message, 0xff)) << size;
  }
}

TEST_F(Sum, AnyOtherByteMakesAnother) {
  for (const std::size_t size : {1U, 7U, 8U, 9U, 31U, 32U, 33U, 160U, 255U, 256U}) {
    const std::string message = bytes(size);
    const u64 sum = of(message);
    for (std::size_t at = 0; at < size; ++at) {
      for (int bit = 0; bit < 8; ++bit) {
        std::string other = message;
        other[at] = static_cast<char>(other[at] ^ (1 << bit));
        EXPECT_NE(of(other), sum) << size << " bytes, bit " << bit << " of byte " << at;
      }
    }
  }
}

TEST_F(Sum, WordsThatChangePlacesMakeAnother) {
  const std::string message = bytes(64);
  for (std::size_t first = 0; first + 4 < 64; first += 4) {
    std::string other = message;
    std::swap_ranges(other.begin() + static_cast<std::ptrdiff_t>(first),
                     other.begin() + static_cast<std::ptrdiff_t>(first + 4),
                     other.begin() + static_cast<std::ptrdiff_t>(first + 4));
    EXPECT_NE(of(other), of(message)) << first;
  }
}

// Two bits that would make up for each other if the keys were known, or the sum were one of words.
TEST_F(Sum, NoTwoBitsMakeUpForEachOther) {
  const std::string message = bytes(32);
  const u64 sum = of(message);
  for (std::size_t first = 0; first < 32 * 8; ++first) {
    for (std::size_t second = first + 1; second < 32 * 8; ++second) {
      std::string other = message;
      other[first / 8] = static_cast<char>(other[first / 8] ^ (1 << first % 8));
      other[second / 8] = static_cast<char>(other[second / 8] ^ (1 << second % 8));
      ASSERT_NE(of(other), sum) << first << " " << second;
    }
  }
}

TEST(PlainlyAsked, IsWhatWasAnsweredLast) {
  http1_pipeline pipeline{};
  http1_push(&pipeline, 100, HTTP1_HEAD_METHOD);
  ++pipeline.ended;
  EXPECT_FALSE(http1_plainly_asked(&pipeline));
  http1_push(&pipeline, 200, 0);
  EXPECT_FALSE(http1_plainly_asked(&pipeline)) << "its slot is the next request's already";
  ++pipeline.ended;
  EXPECT_TRUE(http1_plainly_asked(&pipeline));
  http1_push(&pipeline, 300, 0);
  http1_push(&pipeline, 400, HTTP1_HEAD_METHOD);
  ++pipeline.ended;
  EXPECT_TRUE(http1_plainly_asked(&pipeline));
  ++pipeline.ended;
  EXPECT_FALSE(http1_plainly_asked(&pipeline));
}

}  // namespace
}  // namespace ballast::bpf
