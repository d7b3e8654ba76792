// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/spec/forecast.h"

namespace ballast::policy {

/// Files of the forecast (core/spec/forecast.h): its parameters, and samples to learn from. Little-endian:
/// magic, spec::kForecastVersion, numbers a row, float32 rows, CRC-32 of everything before. Refused, saying
/// why: another magic, version or width, a checksum that does not match, a number that is not finite; of
/// parameters also another count.
inline constexpr std::string_view kForecastMagic = "BLSTFCT\n";
inline constexpr std::string_view kSamplesMagic = "BLSTFCS\n";

std::string serialize_forecast(std::span<const float> theta);
Result<std::vector<float>> parse_forecast(std::string_view bytes);

std::string serialize_samples(std::span<const spec::ForecastSample> samples);
Result<std::vector<spec::ForecastSample>> parse_samples(std::string_view bytes);

/// The bytes of model/policy/forecast.bin, compiled in: parameters of the forecast. docs/learning.md says how
/// they were made and what they were judged by.
std::string_view shipped_forecast();

}  // namespace ballast::policy
