// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "core/base/result.h"
#include "core/base/unique_fd.h"
#include "model/sync/network/global_network.h"

namespace ballast::sync {

/// A checkpoint file, integers and floats little-endian:
///   "BLSTCKP\n", format version (4 bytes), length of the parameters file (4), the parameters
///   file, RMSProp's mean squares (float32 each), CRC-32 of everything before (4).
std::string serialize_checkpoint(const GlobalState& state);
/// Refuses anything that is not exactly such a file of a network of `parameters` numbers, saying why.
Result<GlobalState> parse_checkpoint(std::string_view bytes, std::size_t parameters = spec::kParameters);

/// The state where nothing was saved: `fallback` at version 0, without mean squares.
GlobalState begin_from(const policy::Parameters& fallback, std::size_t parameters);
/// For a global network that lost its state, or had none: no epoch that was given before, as each lasts
/// longer than a second.
std::uint64_t first_epoch();

/// Where a global network keeps its state between its lives.
class StateStore {
 public:
  virtual ~StateStore() = default;
  /// Fails, saying why, when this process leads no longer.
  virtual Status still_leads(std::uint64_t epoch) const = 0;
  /// The newest state, with an epoch higher than all before it; `fallback` where there is none. Save it
  /// before serving it, so that the epoch is known to have been used.
  virtual Result<GlobalState> load(const policy::Parameters& fallback) = 0;
  virtual Status save(const GlobalState& state) = 0;
  /// Quicker and less durable than save(), after every version.
  virtual Status save_live(const GlobalState& state) = 0;

  /// The gains' state (GainsNetworks::state) that load() found and that save() writes beside; empty: none.
  const std::string& gains() const { return gains_; }
  void keep_gains(std::string state) { gains_ = std::move(state); }

 protected:
  std::string gains_;
};

/// The state folder of a global network:
///   checkpoint-<epoch>-<version>  the last kKept states, decimal with leading zeros
///   parameters-latest             the parameters file of the last checkpoint, for ballastd
///   gains-latest                  the gains of Services, as of the last checkpoint
///   live-0, live-1                newer states than the last checkpoint, checkpoints too, written in turn
///                                 without waiting for the disk: what a killed process leaves behind
///   lock                          held while a global network uses the folder
///
/// The lock makes the leader among replicas that share the folder: the kernel frees it when the
/// leader dies, however it dies.
class CheckpointStore final : public StateStore {
 public:
  static constexpr std::size_t kKept = 3;
  static constexpr std::string_view kLatest = "parameters-latest";
  static constexpr std::string_view kGains = "gains-latest";

  /// Makes the folder where there is none. Usage error when it cannot be written, a failure when
  /// another process holds it.
  static Result<CheckpointStore> open(const std::filesystem::path& folder,
                                      std::size_t parameters = spec::kParameters);

  /// The same, but nullopt (not an error) while another process holds the folder.
  static Result<std::optional<CheckpointStore>> try_open(const std::filesystem::path& folder,
                                                         std::size_t parameters = spec::kParameters);

  /// Of another network of this process, in a folder within this one: who holds this folder's lock leads for
  /// both.
  Result<CheckpointStore> within(const std::string& name, std::size_t parameters) const;

  /// Fails, saying why, when this process leads no longer: the lock file is gone or another one, or
  /// the folder holds a checkpoint of a higher epoch than `epoch`.
  Status still_leads(std::uint64_t epoch) const override;

  /// The newest state that is whole, live ones included. A damaged one is passed over with an error in the
  /// log; where none is left, `fallback` (the shipped policy) and no mean squares. The epoch is one more than
  /// that of any checkpoint in the folder, damaged ones too, and the seconds since 1970 in an empty folder
  /// (it may have been lost): workers never meet the same epoch twice with other parameters. Save the result
  /// before serving it, so that this holds after the next crash as well.
  Result<GlobalState> load(const policy::Parameters& fallback) override;
  Result<GlobalState> load(std::uint64_t seed) { return load(policy::initial(seed)); }

  /// Atomic; removes all but the newest kKept checkpoints afterwards.
  Status save(const GlobalState& state) override;

  /// Over the older of the two live states. It survives the death of the process, not that of the
  /// machine: that is what save() is for.
  Status save_live(const GlobalState& state) override;

 private:
  CheckpointStore(std::filesystem::path folder, std::size_t parameters, std::filesystem::path lock_file,
                  UniqueFd lock)
      : folder_(std::move(folder)),
        parameters_(parameters),
        lock_file_(std::move(lock_file)),
        lock_(std::move(lock)) {}

  std::filesystem::path folder_;
  std::size_t parameters_;
  std::filesystem::path lock_file_;
  UniqueFd lock_;
  int live_ = 0;  ///< which of the two is written next
};

}  // namespace ballast::sync
