// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "core/base/result.h"

namespace ballast {

/// Whole file as bytes. The error names the path and the reason.
Result<std::string> read_file(const std::filesystem::path& path);

/// Writes beside `path`, fsyncs, renames over it, fsyncs the folder: a reader or a crash sees the old file or
/// the new one, never a part. On error before that the old file is untouched. What is there and no regular
/// file itself (/dev/null, a pipe, a link such as /dev/stdout) is written into and stays what it is.
Status write_file_atomic(const std::filesystem::path& path, std::string_view bytes);

/// First unsigned number in a one-line kernel file (cgroup, proc); nullopt for "max", none or no file.
std::optional<std::uint64_t> read_number(const std::filesystem::path& path);

/// CRC-32 (ISO-HDLC, zlib's) of bytes.
std::uint32_t crc32(std::string_view bytes);

/// A folder that is removed with all it holds when the owner goes.
class TempDir {
 public:
  /// Made as <parent>/<prefix>XXXXXX with mode 0700.
  static Result<TempDir> create(const std::filesystem::path& parent, const std::string& prefix);
  TempDir(TempDir&& other) noexcept;
  TempDir& operator=(TempDir&& other) noexcept;
  TempDir(const TempDir&) = delete;
  TempDir& operator=(const TempDir&) = delete;
  ~TempDir();
  const std::filesystem::path& path() const { return path_; }

 private:
  explicit TempDir(std::filesystem::path path) : path_(std::move(path)) {}
  void remove();
  std::filesystem::path path_;
};

}  // namespace ballast
