// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/options.h"

namespace ballast::sample {

/// "/users/{id}/orders": segments in braces stand for any one, a last "*" for any rest. Wrong where one
/// does not begin with a slash, or has no segment of its own and so matches everything.
options::Wrong route_patterns_form(const std::string& text);
/// Those of a text that is right, which are separated by commas.
std::vector<std::string> route_patterns(const std::string& text);

/// Names a service's paths by few templates (OpenTelemetry's http.route), learned from the paths alone:
/// ids become {id}; a segment that had more than kVariants values beside the same others becomes {name}.
/// Whatever a caller sends, a service has no more than kMost; all that come later are kOther.
class Routes {
 public:
  static constexpr std::size_t kMost = 64;
  static constexpr std::size_t kVariants = 20;
  static constexpr std::size_t kSegments = 8;  ///< deeper is one rest
  static constexpr const char* kOther = "{other}";

  /// Paths that match a pattern are named by it, before anything is learned.
  explicit Routes(std::vector<std::string> patterns = {});

  std::string of(std::string_view target);
  /// Grows when routes given before have become one; of() names each of them anew.
  std::uint64_t folds() const { return folds_; }

 private:
  using Path = std::vector<std::string>;
  void fold(Path& path);

  std::vector<Path> patterns_;
  std::map<std::string, std::set<std::string>> variants_;  ///< by the path with one segment left out
  std::set<std::string> folded_;
  std::set<std::string> known_;
  std::uint64_t folds_ = 0;
};

}  // namespace ballast::sample
