// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/spec/forecast.h"
#include "model/policy/parameters.h"

namespace ballast::policy {

/// Files of the forecast (core/spec/forecast.h): its parameters, and samples to learn from. Little-endian:
/// magic, spec::kForecastVersion, numbers a row, float32 rows, CRC-32 of everything before. Refused, saying
/// why: another magic, version or width, a checksum that does not match, a number that is not finite; of
/// parameters also another count.
inline constexpr std::string_view kForecastMagic = "BLSTFCT\n";
inline constexpr std::string_view kSamplesMagic = "BLSTFCS\n";
/// Of the gains of one service (core/spec/gains.h), as the global network gives them: the same with
/// spec::kGainsVersion; refused beside that: a gain outside [-1, 1].
inline constexpr std::string_view kGainsMagic = "BLSTGNS\n";

std::string serialize_shared_gains(std::span<const float> gains);
Result<std::vector<float>> parse_shared_gains(std::string_view bytes);

std::string serialize_forecast(std::span<const float> theta);
Result<std::vector<float>> parse_forecast(std::string_view bytes);
/// The version that a forecast's file begins with, whatever it is; nullopt of anything else.
std::optional<std::uint32_t> forecast_version_of(std::string_view bytes);

std::string serialize_samples(std::span<const spec::ForecastSample> samples);
Result<std::vector<spec::ForecastSample>> parse_samples(std::string_view bytes);

/// Of a recording to learn from: all that can be used, and what could not, for people (empty: nothing).
struct SamplesRead {
  std::vector<spec::ForecastSample> samples;
  std::string left_out;
};
/// As parse_samples(), but rows that are not finite are left out, and of a file that is cut off or damaged
/// the whole rows are read.
Result<SamplesRead> read_samples(std::string_view bytes);

/// The file of whichever network has as many numbers as these: the forecast's or that of gains, which tell
/// neither epoch nor version, or the actor-critic's.
std::string file_of(const Parameters& parameters);

/// The bytes of model/policy/forecast.bin, compiled in: parameters of the forecast. docs/learning.md says how
/// they were made and what they were judged by.
std::string_view shipped_forecast();

}  // namespace ballast::policy
