// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "core/base/options.h"
#include "core/base/result.h"

namespace ballast::sample {

/// Where requests say whose they are. Off until both are given.
struct UserOptions {
  std::string header;              ///< in lower case, or as given: names are compared without case
  std::filesystem::path key_file;  ///< at least kLeastKey bytes, its owner's alone
  bool operator==(const UserOptions&) const = default;

  void declare(options::Schema& s);
};

/// Tells users apart without saying who they are: HMAC-SHA-256 by a key of the installation, cut to
/// 64 bits. Without the key nobody can try names against it.
class UserKey {
 public:
  static constexpr std::size_t kLeastKey = 16;

  UserKey() = default;  ///< of no header: every user is unknown
  /// kUsage: the file cannot be read, is short, or others than its owner can read it.
  static Result<UserKey> open(const UserOptions& options);

  const std::string& header() const { return header_; }
  /// 16 hexadecimal digits; empty for an empty value, and without a key.
  std::string of(std::string_view value) const;

 private:
  std::string header_;
  std::string key_;
};

}  // namespace ballast::sample
