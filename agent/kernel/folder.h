// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>

#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace ballast::kernel {

/// The bpffs folder that holds our pins, locked for one owner while this object lives.
class PinFolder {
 public:
  /// Mounts a bpffs where there is none (needs CAP_SYS_ADMIN), makes the folder, locks it. A path
  /// below /sys/fs/bpf gets the system's usual mount there; any other folder gets one of its own.
  /// Errors: kFailed naming the pid that holds the folder; kPrivilege when no bpffs can be mounted.
  static Result<PinFolder> acquire(const std::filesystem::path& path);
  /// As acquire(), for a folder that should exist; a folder that does not is kFailed.
  static Result<PinFolder> open_existing(const std::filesystem::path& path);

  const std::filesystem::path& path() const { return path_; }
  /// Takes away every pin; the folder stays ours.
  Status clear() const;
  /// clear(), then takes away the folder and a mount of its own. Best done last.
  Status remove_all();

 private:
  PinFolder() = default;
  std::filesystem::path path_;
  UniqueFd lock_;
};

}  // namespace ballast::kernel
