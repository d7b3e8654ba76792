// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/spec/spec.h"

namespace ballast::policy {

/// theta of the network of core/spec/spec.h, in the order documented there. (epoch, version)
/// orders parameters across leaders: the epoch changes with the global network's leader, the
/// version with each gradient that was applied.
struct Parameters {
  std::uint64_t epoch = 0;
  std::uint64_t version = 0;
  std::vector<float> theta;

  bool operator==(const Parameters&) const = default;
};

/// Layout of a parameters file, all integers and floats little-endian:
///
///   offset  size  what
///        0     8  kMagic
///        8     4  kFormatVersion
///       12     4  spec::kVersion
///       16    16  spec::kObservation, kHidden, kActions, kParameters (4 bytes each)
///       32    16  epoch, version (8 bytes each)
///       48    4n  theta, float32
///   48 + 4n    4  CRC-32 (ISO-HDLC) of everything before
inline constexpr std::string_view kMagic = "BLSTPOL\n";
inline constexpr std::uint32_t kFormatVersion = 1;
inline constexpr std::size_t kHeaderBytes = 48;
inline constexpr std::size_t kFileBytes = kHeaderBytes + 4 * spec::kParameters + 4;

/// The lighter form: format version 2, and from offset 48 on, in theta's order, each row of a weight matrix
/// as its largest magnitude / 127 (float32) and one signed byte a weight, each bias vector as float32.
/// A weight is then known to half a step of its row; 8.7 kB in place of 31.
inline constexpr std::uint32_t kLightVersion = 2;
inline constexpr std::size_t kLightRows = 2 * spec::kHidden + spec::kActions + 1;
inline constexpr std::size_t kLightBiases = 2 * spec::kHidden + spec::kActions + 1;
inline constexpr std::size_t kLightBytes =
    kHeaderBytes + 4 * kLightRows + (spec::kParameters - kLightBiases) + 4 * kLightBiases + 4;

/// REQUIRES theta.size() == spec::kParameters: parse() refuses the result otherwise.
std::string serialize(const Parameters& parameters);
/// REQUIRES check(parameters).
std::string serialize_light(const Parameters& parameters);

/// Reads both forms. Refuses, saying why and what was found: a truncated file, trailing bytes, another magic,
/// format, spec version or shape, a checksum that does not match, values that are not finite.
Result<Parameters> parse(std::string_view bytes);

/// Is it a parameters file of another build: one whose format or spec version is not ours, whatever else it
/// holds? False of what is no such file, and of a damaged one of ours.
bool of_another_version(std::string_view bytes);

/// What tells one file from another, in reports and logs: the CRC-32 of all but the four bytes at the end,
/// which are that CRC-32. (Over all bytes it would be 2144df1c for every file, the residue of the CRC.)
/// 0 for fewer than five bytes.
std::uint32_t fingerprint(std::string_view bytes);

/// OK when theta has spec::kParameters values and all are finite.
Status check(const Parameters& parameters);

/// An untrained network, the built-in default where no file is given. The encoder is
/// He-initialised from the seed (the same on every platform), actor and critic are zero: all
/// logits are equal, so an untrained policy is the prior. Epoch and version are 0.
Parameters initial(std::uint64_t seed);

}  // namespace ballast::policy
