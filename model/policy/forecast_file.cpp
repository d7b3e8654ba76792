// SPDX-License-Identifier: Apache-2.0
#include "model/policy/forecast_file.h"

#include <fmt/format.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "core/base/file.h"

namespace ballast::policy {
namespace {

static_assert(std::endian::native == std::endian::little);
static_assert(sizeof(spec::ForecastSample) % sizeof(float) == 0);
constexpr std::size_t kHeader = 16;
constexpr std::size_t kSampleNumbers = sizeof(spec::ForecastSample) / sizeof(float);

std::string file_of(std::string_view magic, std::size_t width, const void* numbers, std::size_t bytes) {
  std::string out(magic);
  const std::uint32_t head[] = {spec::kForecastVersion, static_cast<std::uint32_t>(width)};
  out.append(reinterpret_cast<const char*>(head), sizeof head);
  out.append(static_cast<const char*>(numbers), bytes);
  const std::uint32_t crc = crc32(out);
  out.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  return out;
}

Result<std::vector<float>> numbers_of(std::string_view magic, std::size_t width, std::string_view bytes) {
  const auto refuse = [](const std::string& why) { return Error::failed("forecast file refused: " + why); };
  if (bytes.size() < kHeader + 4 || !bytes.starts_with(magic)) {
    return refuse("it is too short or of another kind");
  }
  std::uint32_t head[2];
  std::memcpy(head, bytes.data() + magic.size(), sizeof head);
  if (head[0] != spec::kForecastVersion) {
    return refuse(fmt::format("version {}, this build's is {}", head[0], spec::kForecastVersion));
  }
  const std::size_t body = bytes.size() - kHeader - 4;
  if (head[1] != width || body % (width * sizeof(float)) != 0) {
    return refuse(fmt::format("rows of {} numbers, this build's have {}", head[1], width));
  }
  std::uint32_t crc = 0;
  std::memcpy(&crc, bytes.data() + bytes.size() - 4, 4);
  if (crc != crc32(bytes.substr(0, bytes.size() - 4))) {
    return refuse("its checksum does not match");
  }
  std::vector<float> numbers(body / sizeof(float));
  if (body > 0) {
    std::memcpy(numbers.data(), bytes.data() + kHeader, body);
  }
  for (const float each : numbers) {
    if (!std::isfinite(each)) {
      return refuse("a number is not finite");
    }
  }
  return numbers;
}

}  // namespace

std::string serialize_forecast(std::span<const float> theta) {
  return file_of(kForecastMagic, theta.size(), theta.data(), theta.size_bytes());
}

Result<std::vector<float>> parse_forecast(std::string_view bytes) {
  auto theta = numbers_of(kForecastMagic, spec::kForecastParameters, bytes);
  if (theta && theta->size() != spec::kForecastParameters) {
    return Error::failed("forecast file refused: it holds no parameters or several");
  }
  return theta;
}

std::string serialize_samples(std::span<const spec::ForecastSample> samples) {
  return file_of(kSamplesMagic, kSampleNumbers, samples.data(), samples.size_bytes());
}

Result<std::vector<spec::ForecastSample>> parse_samples(std::string_view bytes) {
  const auto numbers = numbers_of(kSamplesMagic, kSampleNumbers, bytes);
  if (!numbers) {
    return numbers.error();
  }
  std::vector<spec::ForecastSample> samples(numbers->size() / kSampleNumbers);
  if (!samples.empty()) {
    std::memcpy(static_cast<void*>(samples.data()), numbers->data(), numbers->size() * sizeof(float));
  }
  return samples;
}

}  // namespace ballast::policy
