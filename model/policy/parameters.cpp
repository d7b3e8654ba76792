// SPDX-License-Identifier: Apache-2.0
#include "model/policy/parameters.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <numbers>
#include <random>
#include <span>

#include "core/base/file.h"

namespace ballast::policy {

namespace {

template <typename T>
void put(std::string& out, T value) {
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    out.push_back(static_cast<char>(static_cast<unsigned char>(value >> (8 * i))));
  }
}

template <typename T>
T get(std::string_view bytes, std::size_t at) {
  T value = 0;
  for (std::size_t i = 0; i < sizeof(T); ++i) {
    value |= static_cast<T>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
  }
  return value;
}

Error refuse(const std::string& why) {
  return Error::failed("policy parameters refused: " + why);
}

struct HeaderField {
  std::size_t at;
  std::uint32_t expected;
  const char* what;
};

constexpr std::array<HeaderField, 5> kFields = {{
    {12, spec::kVersion, "spec version"},
    {16, spec::kObservation, "observation size"},
    {20, spec::kHidden, "hidden size"},
    {24, spec::kActions, "action count"},
    {28, spec::kParameters, "parameter count"},
}};

/// A part of theta: a matrix by rows, or a bias vector.
struct Block {
  std::size_t rows;
  std::size_t width;
  bool weights;
};

constexpr std::array<Block, 8> kBlocks = {{{spec::kHidden, spec::kObservation, true},
                                           {1, spec::kHidden, false},
                                           {spec::kHidden, spec::kHidden, true},
                                           {1, spec::kHidden, false},
                                           {spec::kActions, spec::kHidden, true},
                                           {1, spec::kActions, false},
                                           {1, spec::kHidden, true},
                                           {1, 1, false}}};
constexpr float kLevels = 127;

std::string header(const Parameters& parameters, std::uint32_t format) {
  std::string out(kMagic);
  put(out, format);
  for (const HeaderField& field : kFields) {
    put(out, field.expected);
  }
  put(out, parameters.epoch);
  put(out, parameters.version);
  return out;
}

void put_light_row(std::string& out, std::span<const float> row) {
  float largest = 0;
  for (const float value : row) {
    largest = std::max(largest, std::abs(value));
  }
  const float step = largest / kLevels;
  put(out, std::bit_cast<std::uint32_t>(step));
  for (const float value : row) {
    const long level = step > 0 ? std::lround(value / step) : 0;
    out.push_back(static_cast<char>(std::clamp(level, -127L, 127L)));
  }
}

std::vector<float> full_theta(std::string_view bytes) {
  std::vector<float> theta(spec::kParameters);
  for (std::size_t i = 0; i < spec::kParameters; ++i) {
    theta[i] = std::bit_cast<float>(get<std::uint32_t>(bytes, kHeaderBytes + 4 * i));
  }
  return theta;
}

std::vector<float> light_theta(std::string_view bytes) {
  std::vector<float> theta;
  std::size_t at = kHeaderBytes;
  const auto number = [&] {
    at += 4;
    return std::bit_cast<float>(get<std::uint32_t>(bytes, at - 4));
  };
  for (const Block& block : kBlocks) {
    for (std::size_t row = 0; row < block.rows; ++row) {
      const float step = block.weights ? number() : 0;
      for (std::size_t i = 0; i < block.width; ++i) {
        theta.push_back(block.weights ? step * static_cast<float>(static_cast<signed char>(bytes[at++]))
                                      : number());
      }
    }
  }
  return theta;
}

}  // namespace

std::string serialize(const Parameters& parameters) {
  std::string out = header(parameters, kFormatVersion);
  for (const float value : parameters.theta) {
    put(out, std::bit_cast<std::uint32_t>(value));
  }
  put(out, crc32(out));
  return out;
}

std::string serialize_light(const Parameters& parameters) {
  std::string out = header(parameters, kLightVersion);
  std::span<const float> left = parameters.theta;
  for (const Block& block : kBlocks) {
    for (std::size_t row = 0; row < block.rows; ++row) {
      const auto values = left.first(block.width);
      left = left.subspan(block.width);
      if (block.weights) {
        put_light_row(out, values);
        continue;
      }
      for (const float value : values) {
        put(out, std::bit_cast<std::uint32_t>(value));
      }
    }
  }
  put(out, crc32(out));
  return out;
}

Result<Parameters> parse(std::string_view bytes) {
  if (bytes.size() < kHeaderBytes) {
    return refuse("truncated: " + std::to_string(bytes.size()) + " bytes do not hold the header of " +
                  std::to_string(kHeaderBytes));
  }
  if (bytes.substr(0, kMagic.size()) != kMagic) {
    return refuse("the magic is not that of a Ballast parameters file");
  }
  const auto format = get<std::uint32_t>(bytes, kMagic.size());
  if (format != kFormatVersion && format != kLightVersion) {
    return refuse("format version is " + std::to_string(format) + ", this build wants " +
                  std::to_string(kFormatVersion) + " or " + std::to_string(kLightVersion));
  }
  for (const HeaderField& field : kFields) {
    const auto found = get<std::uint32_t>(bytes, field.at);
    if (found != field.expected) {
      return refuse(std::string(field.what) + " is " + std::to_string(found) + ", this build wants " +
                    std::to_string(field.expected));
    }
  }
  const std::size_t whole = format == kFormatVersion ? kFileBytes : kLightBytes;
  if (bytes.size() != whole) {
    return refuse(std::string(bytes.size() < whole ? "truncated" : "trailing bytes") + ": " +
                  std::to_string(bytes.size()) + " bytes, expected " + std::to_string(whole));
  }
  const auto stored = get<std::uint32_t>(bytes, whole - 4);
  if (stored != crc32(bytes.substr(0, whole - 4))) {
    return refuse("the checksum does not match, the file is damaged");
  }
  Parameters parameters;
  parameters.epoch = get<std::uint64_t>(bytes, 32);
  parameters.version = get<std::uint64_t>(bytes, 40);
  parameters.theta = format == kFormatVersion ? full_theta(bytes) : light_theta(bytes);
  if (Status status = check(parameters); !status.ok()) {
    return status.error();
  }
  return parameters;
}

bool of_another_version(std::string_view bytes) {
  if (bytes.size() < kMagic.size() + 8 || bytes.substr(0, kMagic.size()) != kMagic) {
    return false;
  }
  const auto format = get<std::uint32_t>(bytes, kMagic.size());
  return (format != kFormatVersion && format != kLightVersion) ||
         get<std::uint32_t>(bytes, kMagic.size() + 4) != spec::kVersion;
}

std::uint32_t fingerprint(std::string_view bytes) {
  return bytes.size() > 4 ? crc32(bytes.substr(0, bytes.size() - 4)) : 0;
}

Status check(const Parameters& parameters) {
  if (parameters.theta.size() != spec::kParameters) {
    return refuse("parameter count is " + std::to_string(parameters.theta.size()) + ", this build wants " +
                  std::to_string(spec::kParameters));
  }
  for (std::size_t i = 0; i < parameters.theta.size(); ++i) {
    if (!std::isfinite(parameters.theta[i])) {
      return refuse("value " + std::to_string(i) + " is not finite");
    }
  }
  return ok();
}

Parameters initial(std::uint64_t seed) {
  Parameters parameters;
  parameters.theta.assign(spec::kParameters, 0.0F);
  std::mt19937_64 random(seed);
  // Box-Muller by hand: std::normal_distribution differs between standard libraries.
  const auto normal = [&random] {
    const double u = (static_cast<double>(random() >> 11) + 0.5) * 0x1.0p-53;
    const double v = (static_cast<double>(random() >> 11) + 0.5) * 0x1.0p-53;
    return std::sqrt(-2.0 * std::log(u)) * std::cos(2.0 * std::numbers::pi * v);
  };
  const auto he = [&](std::size_t at, std::size_t fan_in) {
    const double sigma = std::sqrt(2.0 / static_cast<double>(fan_in));
    for (std::size_t i = 0; i < fan_in * spec::kHidden; ++i) {
      parameters.theta[at + i] = static_cast<float>(sigma * normal());
    }
  };
  he(0, spec::kObservation);
  he(spec::kObservation * spec::kHidden + spec::kHidden, spec::kHidden);
  return parameters;
}

}  // namespace ballast::policy
