// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "model/train/learner.h"

namespace ballast::train {

/// A run on disk, so that it can be gone on with.
struct Checkpoint {
  std::string identity;  ///< learner, environment and what else has to agree; a mismatch is refused
  LearnerState state;
  std::vector<float> best_theta;
  double best_return = 0;
  bool operator==(const Checkpoint&) const = default;
};

/// Little-endian: magic "BLSTTRN\n", format version, the fields, CRC-32 of all before.
std::string serialize(const Checkpoint& checkpoint);
/// Refuses truncation, trailing bytes, another magic or version, a checksum that does not match and
/// numbers that are not finite.
Result<Checkpoint> parse_checkpoint(std::string_view bytes);

/// Atomic: a reader, a crash or a full disk leaves the last good file whole.
Status save(const std::filesystem::path& path, const Checkpoint& checkpoint);
Result<Checkpoint> load(const std::filesystem::path& path);

}  // namespace ballast::train
