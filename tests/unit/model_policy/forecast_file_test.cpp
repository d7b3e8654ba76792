// SPDX-License-Identifier: Apache-2.0
#include "model/policy/forecast_file.h"

#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "core/base/file.h"

namespace ballast::policy {
namespace {

std::vector<float> theta() {
  std::vector<float> numbers(spec::kForecastParameters);
  for (std::size_t i = 0; i < numbers.size(); ++i) {
    numbers[i] = 0.001F * static_cast<float>(i);
  }
  return numbers;
}

std::string why(std::string bytes, bool mend_checksum = true) {
  if (mend_checksum) {
    const std::uint32_t crc = crc32(std::string_view(bytes).substr(0, bytes.size() - 4));
    std::memcpy(bytes.data() + bytes.size() - 4, &crc, 4);
  }
  const auto read = parse_forecast(bytes);
  return read ? "" : read.error().message;
}

TEST(ForecastFile, ReadsWhatItWrote) {
  const auto read = parse_forecast(serialize_forecast(theta()));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(*read, theta());
  spec::ForecastSample sample;
  sample.input.features[3] = 1;
  sample.input.guesses[2] = 2;
  sample.came = -1;
  const std::vector<spec::ForecastSample> samples(3, sample);
  const auto back = parse_samples(serialize_samples(samples));
  ASSERT_TRUE(back) << back.error().message;
  ASSERT_EQ(back->size(), 3U);
  EXPECT_EQ(back->back().input.features[3], 1);
  EXPECT_EQ(back->back().input.guesses[2], 2);
  EXPECT_EQ(back->back().came, -1);
}

TEST(ForecastFile, RefusesWhatItCannotKnow) {
  const std::string good = serialize_forecast(theta());
  std::string other = good;
  other[8] = static_cast<char>(spec::kForecastVersion + 1);
  EXPECT_NE(why(other).find("version 2, this build's is 1"), std::string::npos) << why(other);
  other = good;
  other[12] = 7;
  EXPECT_NE(why(other).find("rows of"), std::string::npos);
  other = good;
  other[100] = static_cast<char>(other[100] ^ 1);
  EXPECT_NE(why(other, false).find("checksum"), std::string::npos);
  EXPECT_NE(why(good.substr(0, 12), false).find("too short"), std::string::npos);
  EXPECT_NE(why("BLSTPOL\n" + good.substr(8)).find("another kind"), std::string::npos);
  EXPECT_NE(why(good.substr(0, 16) + good.substr(good.size() - 4)).find("no parameters"), std::string::npos);
  auto broken = theta();
  broken[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_NE(why(serialize_forecast(broken)).find("not finite"), std::string::npos);
}

}  // namespace
}  // namespace ballast::policy
