// SPDX-License-Identifier: Apache-2.0
#include "model/policy/forecast_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/base/file.h"
#include "core/spec/gains.h"

namespace ballast::policy {
namespace {

static_assert(std::endian::native == std::endian::little);
static_assert(sizeof(spec::ForecastSample) % sizeof(float) == 0);
constexpr std::size_t kHeader = 16;

/// What a file holds.
struct Kind {
  std::string_view magic;
  std::uint32_t version;
  std::size_t width;  ///< numbers a row
};
constexpr Kind kForecast{kForecastMagic, spec::kForecastVersion, spec::kForecastParameters};
constexpr Kind kSamples{kSamplesMagic, spec::kForecastVersion, sizeof(spec::ForecastSample) / sizeof(float)};
constexpr Kind kSharedGains{kGainsMagic, spec::kGainsVersion, spec::kGains};

std::string file_of(const Kind& kind, const void* numbers, std::size_t bytes) {
  std::string out(kind.magic);
  const std::uint32_t head[] = {kind.version, static_cast<std::uint32_t>(kind.width)};
  out.append(reinterpret_cast<const char*>(head), sizeof head);
  out.append(static_cast<const char*>(numbers), bytes);
  const std::uint32_t crc = crc32(out);
  out.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  return out;
}

Error refuse(const Kind& kind, const std::string& why) {
  return Error::failed((kind.magic == kGainsMagic ? "gains" : "forecast file") + (" refused: " + why));
}

Status check_head(const Kind& kind, std::string_view bytes) {
  if (bytes.size() < kHeader + 4 || !bytes.starts_with(kind.magic)) {
    return refuse(kind, "it is too short or of another kind");
  }
  std::uint32_t head[2];
  std::memcpy(head, bytes.data() + kind.magic.size(), sizeof head);
  if (head[0] != kind.version) {
    return refuse(kind, fmt::format("version {}, this build's is {}", head[0], kind.version));
  }
  return head[1] == kind.width ? ok()
                               : Status(refuse(kind, fmt::format("rows of {} numbers, this build's have {}",
                                                                 head[1], kind.width)));
}

Result<std::vector<float>> numbers_of(const Kind& kind, std::string_view bytes) {
  if (Status head = check_head(kind, bytes); !head) {
    return head.error();
  }
  const std::size_t body = bytes.size() - kHeader - 4;
  if (body % (kind.width * sizeof(float)) != 0) {
    return refuse(kind, fmt::format("it does not hold whole rows of {} numbers", kind.width));
  }
  std::uint32_t crc = 0;
  std::memcpy(&crc, bytes.data() + bytes.size() - 4, 4);
  if (crc != crc32(bytes.substr(0, bytes.size() - 4))) {
    return refuse(kind, "its checksum does not match");
  }
  std::vector<float> numbers(body / sizeof(float));
  if (body > 0) {
    std::memcpy(numbers.data(), bytes.data() + kHeader, body);
  }
  for (const float each : numbers) {
    if (!std::isfinite(each)) {
      return refuse(kind, "a number is not finite");
    }
  }
  return numbers;
}

/// One row.
Result<std::vector<float>> parameters_of(const Kind& kind, std::string_view bytes) {
  auto theta = numbers_of(kind, bytes);
  if (theta && theta->size() != kind.width) {
    return refuse(kind, "it holds no parameters or several");
  }
  return theta;
}

}  // namespace

std::string serialize_forecast(std::span<const float> theta) {
  return file_of({kForecast.magic, kForecast.version, theta.size()}, theta.data(), theta.size_bytes());
}

Result<std::vector<float>> parse_forecast(std::string_view bytes) {
  return parameters_of(kForecast, bytes);
}

std::string serialize_shared_gains(std::span<const float> gains) {
  return file_of(kSharedGains, gains.data(), gains.size_bytes());
}

Result<std::vector<float>> parse_shared_gains(std::string_view bytes) {
  auto gains = parameters_of(kSharedGains, bytes);
  if (gains && std::ranges::any_of(*gains, [](float each) { return std::abs(each) > 1; })) {
    return refuse(kSharedGains, "a gain is outside [-1, 1]");
  }
  return gains;
}

std::optional<std::uint32_t> forecast_version_of(std::string_view bytes) {
  if (bytes.size() < kHeader || !bytes.starts_with(kForecastMagic)) {
    return std::nullopt;
  }
  std::uint32_t version = 0;
  std::memcpy(&version, bytes.data() + kForecastMagic.size(), sizeof version);
  return version;
}

std::string file_of(const Parameters& parameters) {
  static_assert(spec::kForecastParameters != spec::kParameters && spec::kGains != spec::kParameters &&
                spec::kGains != spec::kForecastParameters);
  if (parameters.theta.size() == spec::kGains) {
    return serialize_shared_gains(parameters.theta);
  }
  return parameters.theta.size() == spec::kForecastParameters ? serialize_forecast(parameters.theta)
                                                              : serialize(parameters);
}

std::string serialize_samples(std::span<const spec::ForecastSample> samples) {
  return file_of(kSamples, samples.data(), samples.size_bytes());
}

Result<std::vector<spec::ForecastSample>> parse_samples(std::string_view bytes) {
  const auto numbers = numbers_of(kSamples, bytes);
  if (!numbers) {
    return numbers.error();
  }
  std::vector<spec::ForecastSample> samples(numbers->size() / kSamples.width);
  if (!samples.empty()) {
    std::memcpy(static_cast<void*>(samples.data()), numbers->data(), numbers->size() * sizeof(float));
  }
  return samples;
}

Result<SamplesRead> read_samples(std::string_view bytes) {
  if (Status head = check_head(kSamples, bytes); !head) {
    return head.error();
  }
  const std::size_t row = sizeof(spec::ForecastSample);
  const std::size_t body = bytes.size() - kHeader - 4;
  std::uint32_t crc = 0;
  std::memcpy(&crc, bytes.data() + bytes.size() - 4, 4);
  const bool whole = body % row == 0 && crc == crc32(bytes.substr(0, bytes.size() - 4));
  SamplesRead out;
  std::size_t broken = 0;
  for (std::size_t i = 0; i < body / row; ++i) {
    std::array<float, kSamples.width> numbers{};
    std::memcpy(numbers.data(), bytes.data() + kHeader + i * row, row);
    if (std::ranges::all_of(numbers, [](float each) { return std::isfinite(each); })) {
      std::memcpy(static_cast<void*>(&out.samples.emplace_back()), numbers.data(), row);
    } else {
      ++broken;
    }
  }
  out.left_out = broken > 0 ? fmt::format("{} pairs are not finite and left out", broken) : "";
  if (!whole) {
    out.left_out += fmt::format("{}the file is cut off or damaged: {} pairs of it are used",
                                broken > 0 ? "; " : "", out.samples.size());
  }
  return out;
}

}  // namespace ballast::policy
