// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <yaml-cpp/yaml.h>

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace ballast::config {

/// Turns the text of a scalar into a value; gives what is wrong with it, or nothing.
using Setter = std::function<std::optional<std::string>(const std::string& text)>;

/// One settable key: its dotted name and how its text is taken over.
struct Key {
  std::string name;
  Setter set;
};

/// Walks a YAML document and hands each scalar to the key of its dotted name.
class Reader {
 public:
  Reader(std::string file, std::vector<Key> keys);

  /// Parses and applies the whole document; the first error wins.
  Status read(const std::string& text);
  /// Applies one value that came from elsewhere; `origin` stands in front of the error.
  Status apply(const std::string& origin, const std::string& key, const std::string& value);
  /// "FILE:LINE: KEY", or the flag that set the key, or the key alone where it kept its default.
  std::string origin(const std::string& key) const;

 private:
  Status section(const YAML::Node& node, const std::string& prefix);
  Status scalar(const YAML::Node& node, const std::string& key, int line);
  Error unknown(const std::string& key, const std::string& prefix, int line) const;
  bool is_section(const std::string& name) const;

  std::string file_;
  std::vector<Key> keys_;
  std::map<std::string, std::string> origins_;
};

}  // namespace ballast::config
