// SPDX-License-Identifier: Apache-2.0
#include "model/policy/parameters.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "core/base/file.h"

namespace ballast::policy {
namespace {

using ::testing::HasSubstr;

Parameters random_parameters(std::uint64_t seed) {
  Parameters p;
  p.epoch = 0x0102030405060708ULL;
  p.version = 42;
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  for (std::size_t i = 0; i < spec::kParameters; ++i) {
    p.theta.push_back(normal(random));
  }
  return p;
}

void reseal(std::string& bytes) {
  const std::uint32_t crc = crc32(std::string_view(bytes).substr(0, bytes.size() - 4));
  for (std::size_t i = 0; i < 4; ++i) {
    bytes[bytes.size() - 4 + i] = static_cast<char>(static_cast<unsigned char>(crc >> (8 * i)));
  }
}

std::string why(std::string_view bytes) {
  const Result<Parameters> result = parse(bytes);
  return result.ok() ? "" : result.error().message;
}

TEST(Parameters, FingerprintsTellFilesApart) {
  const std::string one = serialize(random_parameters(1));
  const std::string other = serialize(random_parameters(2));
  EXPECT_NE(fingerprint(one), fingerprint(other));
  EXPECT_EQ(fingerprint(one), fingerprint(serialize(random_parameters(1))));
  EXPECT_EQ(crc32(one), crc32(other)) << "why the CRC-32 at the end is left out";
  EXPECT_EQ(fingerprint("abc"), 0U);
}

TEST(Parameters, RoundTripKeepsEveryBit) {
  const Parameters p = random_parameters(1);
  const std::string bytes = serialize(p);
  EXPECT_EQ(bytes.size(), kFileBytes);
  const Result<Parameters> back = parse(bytes);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(*back, p);
}

TEST(Parameters, TheLightFormKeepsEveryWeightToHalfAStepOfItsRow) {
  const Parameters p = random_parameters(11);
  const std::string bytes = serialize_light(p);
  EXPECT_EQ(bytes.size(), kLightBytes);
  EXPECT_LT(3 * bytes.size(), kFileBytes);
  const Result<Parameters> back = parse(bytes);
  ASSERT_TRUE(back.ok()) << back.error().message;
  EXPECT_EQ(back->version, p.version);
  std::size_t at = 0;
  const auto expect_close = [&](std::size_t n, bool weights) {
    float largest = 0;
    for (std::size_t i = at; i < at + n; ++i) {
      largest = std::max(largest, std::abs(p.theta[i]));
    }
    for (const std::size_t end = at + n; at < end; ++at) {
      ASSERT_NEAR(back->theta[at], p.theta[at], weights ? largest / 127 * 0.501F : 0) << at;
    }
  };
  for (const std::size_t inputs : {spec::kObservation, spec::kHidden}) {
    for (std::size_t row = 0; row < spec::kHidden; ++row) {
      expect_close(inputs, true);
    }
    expect_close(spec::kHidden, false);
  }
  for (std::size_t row = 0; row < spec::kActions; ++row) {
    expect_close(spec::kHidden, true);
  }
  expect_close(spec::kActions, false);
  expect_close(spec::kHidden, true);
  expect_close(1, false);
  EXPECT_EQ(at, spec::kParameters);
}

TEST(Parameters, ADamagedLightFormIsRefused) {
  const std::string bytes = serialize_light(random_parameters(12));
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    ASSERT_NE(why(std::string_view(bytes).substr(0, at)), "");
    std::string damaged = bytes;
    damaged[at] = static_cast<char>(damaged[at] ^ 0x10);
    ASSERT_NE(why(damaged), "") << at;
  }
  EXPECT_EQ(parse(serialize_light({1, 2, std::vector<float>(spec::kParameters, 0.0F)}))->theta,
            std::vector<float>(spec::kParameters, 0.0F));
}

TEST(Parameters, LayoutIsTheDocumentedOne) {
  const std::string bytes = serialize(random_parameters(2));
  EXPECT_EQ(bytes.substr(0, 8), "BLSTPOL\n");
  EXPECT_EQ(bytes[8], 1);
  EXPECT_EQ(static_cast<unsigned char>(bytes[16]), spec::kObservation);
  EXPECT_EQ(bytes[32], 8) << "epoch is little-endian";
  EXPECT_EQ(bytes[39], 1);
  EXPECT_EQ(bytes[40], 42);
}

TEST(Parameters, EveryTruncationIsRefused) {
  const std::string bytes = serialize(random_parameters(3));
  for (std::size_t n = 0; n < bytes.size(); ++n) {
    ASSERT_THAT(why(std::string_view(bytes).substr(0, n)), HasSubstr("truncated")) << n;
  }
}

TEST(Parameters, EveryFlippedBitOfHeaderAndTailIsRefused) {
  const std::string bytes = serialize(random_parameters(4));
  for (std::size_t at = 0; at < bytes.size(); ++at) {
    if (at == kHeaderBytes + 64) {
      at = bytes.size() - 64;
    }
    for (int bit = 0; bit < 8; ++bit) {
      std::string damaged = bytes;
      damaged[at] = static_cast<char>(damaged[at] ^ (1 << bit));
      ASSERT_NE(why(damaged), "") << "byte " << at << " bit " << bit;
    }
  }
}

TEST(Parameters, FlippedBitsAnywhereAreRefused) {
  const std::string bytes = serialize(random_parameters(5));
  std::mt19937_64 random(5);
  for (int i = 0; i < 2000; ++i) {
    std::string damaged = bytes;
    const std::size_t at = kHeaderBytes + random() % (4 * spec::kParameters);
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << (random() % 8)));
    ASSERT_THAT(why(damaged), HasSubstr("checksum"));
  }
}

TEST(Parameters, RandomBytesAreRefused) {
  std::mt19937_64 random(6);
  for (int i = 0; i < 2000; ++i) {
    std::string bytes(random() % 200, '\0');
    for (char& c : bytes) {
      c = static_cast<char>(random() & 0xFF);
    }
    if (i % 2 == 0) {
      bytes = std::string(kMagic) + bytes;
    }
    ASSERT_NE(why(bytes), "");
  }
}

TEST(Parameters, TrailingBytesAreRefused) {
  EXPECT_THAT(why(serialize(random_parameters(7)) + '\0'), HasSubstr("trailing bytes"));
}

TEST(Parameters, OtherHeaderFieldsAreRefusedByName) {
  const struct {
    std::size_t at;
    const char* what;
  } cases[] = {{0, "magic"},        {8, "format version"}, {12, "spec version"},   {16, "observation size"},
               {20, "hidden size"}, {24, "action count"},  {28, "parameter count"}};
  for (const auto& c : cases) {
    std::string bytes = serialize(random_parameters(8));
    bytes[c.at] = static_cast<char>(bytes[c.at] + 2);
    reseal(bytes);
    EXPECT_THAT(why(bytes), HasSubstr(c.what));
  }
}

TEST(Parameters, ValuesThatAreNotFiniteAreRefused) {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                          -std::numeric_limits<float>::infinity()}) {
    Parameters p = random_parameters(9);
    p.theta[123] = bad;
    EXPECT_THAT(why(serialize(p)), HasSubstr("value 123 is not finite"));
  }
}

TEST(Parameters, WrongCountIsRefused) {
  Parameters p = random_parameters(10);
  p.theta.pop_back();
  EXPECT_FALSE(check(p).ok());
  EXPECT_THAT(why(serialize(p)), HasSubstr("truncated"));
}

TEST(Parameters, InitialHasZeroHeadsAndHeScale) {
  const Parameters p = initial(0);
  ASSERT_TRUE(check(p).ok());
  const std::size_t w2 = spec::kObservation * spec::kHidden + spec::kHidden;
  const std::size_t heads = w2 + spec::kHidden * spec::kHidden + spec::kHidden;
  for (std::size_t i = heads; i < spec::kParameters; ++i) {
    ASSERT_EQ(p.theta[i], 0.0F) << i;
  }
  const auto deviation = [&p](std::size_t at, std::size_t n) {
    double squares = 0;
    for (std::size_t i = 0; i < n; ++i) {
      squares += static_cast<double>(p.theta[at + i]) * p.theta[at + i];
    }
    return std::sqrt(squares / static_cast<double>(n));
  };
  EXPECT_NEAR(deviation(0, spec::kObservation * spec::kHidden), std::sqrt(2.0 / spec::kObservation), 0.01);
  EXPECT_NEAR(deviation(w2, spec::kHidden * spec::kHidden), std::sqrt(2.0 / spec::kHidden), 0.01);
}

TEST(Parameters, InitialDependsOnTheSeedAlone) {
  EXPECT_EQ(initial(1), initial(1));
  EXPECT_NE(initial(1), initial(2));
}

}  // namespace
}  // namespace ballast::policy
