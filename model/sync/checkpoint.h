// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "model/sync/global_network.h"

namespace ballast::sync {

/// A checkpoint file, integers and floats little-endian:
///   "BLSTCKP\n", format version (4 bytes), length of the parameters file (4), the parameters
///   file, RMSProp's mean squares (float32 each), CRC-32 of everything before (4).
std::string serialize_checkpoint(const GlobalState& state);
/// Refuses anything that is not exactly such a file, saying why.
Result<GlobalState> parse_checkpoint(std::string_view bytes);

/// The state folder of a global network:
///   checkpoint-<epoch>-<version>  the last kKept states, decimal with leading zeros
///   parameters-latest             the parameters file of the last checkpoint, for ballastd
///   lock                          held while a global network uses the folder
class CheckpointStore {
 public:
  static constexpr std::size_t kKept = 3;
  static constexpr std::string_view kLatest = "parameters-latest";

  /// Makes the folder where there is none. Usage error when it cannot be written, a failure when
  /// another process holds it.
  static Result<CheckpointStore> open(const std::filesystem::path& folder);

  /// The newest checkpoint that is whole. A damaged one is passed over with an error in the log;
  /// where none is left, policy::initial(seed). The epoch is one more than that of any checkpoint in
  /// the folder, damaged ones too, and the seconds since 1970 in an empty folder (it may have been
  /// lost): workers never meet the same epoch twice with other parameters. Save the result before
  /// serving it, so that this holds after the next crash as well.
  Result<GlobalState> load(std::uint64_t seed) const;

  /// Atomic; removes all but the newest kKept checkpoints afterwards.
  Status save(const GlobalState& state) const;

 private:
  CheckpointStore(std::filesystem::path folder, UniqueFd lock)
      : folder_(std::move(folder)), lock_(std::move(lock)) {}

  std::filesystem::path folder_;
  UniqueFd lock_;
};

}  // namespace ballast::sync
