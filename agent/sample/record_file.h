// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <functional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace ballast::sample {

/// Records of one size, by key, in a file: what a pinned map is to a process that may use no BPF. One process
/// writes, any number read, also when the writer is dead. A reader gets each record as it was at some moment;
/// one that is being written is looked at again.
class RecordFile {
 public:
  /// An empty file, in the place of a former one. `most`: records that it takes.
  static Result<RecordFile> create(const std::filesystem::path& path, std::size_t key, std::size_t value,
                                   std::size_t most);
  /// To read.
  static Result<RecordFile> open(const std::filesystem::path& path, std::size_t key, std::size_t value);

  /// Both REQUIRE a file of create(), and bytes of its sizes.
  Status put(std::string_view key, std::string_view value);
  Status erase(std::string_view key);
  Status each(const std::function<void(const char* key, const char* value)>& sink) const;

 private:
  RecordFile(std::filesystem::path path, UniqueFd fd, std::size_t key, std::size_t value, std::size_t most)
      : path_(std::move(path)), fd_(std::move(fd)), key_(key), value_(value), most_(most) {}
  std::size_t stride() const { return sizeof(std::uint64_t) + key_ + value_; }
  Status write(std::size_t slot, bool used, std::string_view key, std::string_view value);
  Error wrong(const char* what) const;

  std::filesystem::path path_;
  UniqueFd fd_;
  std::size_t key_, value_, most_;
  std::unordered_map<std::string, std::size_t> slots_;  ///< by key
  std::vector<std::size_t> free_;
  std::vector<std::uint64_t> stamps_;  ///< by slot
};

}  // namespace ballast::sample
