// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <yaml-cpp/yaml.h>

#include <cstdint>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "core/base/result.h"

namespace ballast {

/// The first thing found wrong in a file, as "FILE:LINE: KEY: what".
class YamlErrors {
 public:
  explicit YamlErrors(std::string file) : file_(std::move(file)) {}
  void add(const YAML::Mark& mark, const std::string& key, const std::string& what);
  const std::optional<Error>& first() const { return first_; }
  const std::string& file() const { return file_; }

 private:
  std::string file_;
  std::optional<Error> first_;
};

/// The document of `text`; what is no YAML is noted and answered as the error.
Result<YAML::Node> load_yaml(const std::string& text, YamlErrors& errors);

/// One mapping of a file, none of whose keys may stand twice. Reads what it is asked for and, at the end,
/// refuses what nobody asked for. A getter whose key is missing gives the default; one whose value is wrong
/// notes the error and gives the default too.
class YamlSection {
 public:
  YamlSection(const YAML::Node& node, std::string name, YamlErrors& errors);

  bool has(const std::string& key);
  /// Where the mapping begins, from 1.
  int line() const { return node_.Mark().line + 1; }
  /// Notes an error where the key is missing.
  void require(const std::string& key);
  double number(const std::string& key, double standard, double least = 0,
                double most = std::numeric_limits<double>::max());
  std::uint64_t whole(const std::string& key, std::uint64_t standard, std::uint64_t least = 0,
                      std::uint64_t most = std::numeric_limits<std::uint32_t>::max());
  bool flag(const std::string& key, bool standard);
  std::string text(const std::string& key, const std::string& standard);
  /// Index in `choices`.
  std::size_t choice(const std::string& key, const std::vector<std::string>& choices, std::size_t standard);
  std::vector<double> numbers(const std::string& key, double least = 0);
  std::vector<std::uint32_t> indices(const std::string& key);
  std::vector<std::vector<double>> table(const std::string& key);
  /// Mappings of a list; none when the key is missing.
  std::vector<YamlSection> list(const std::string& key);
  std::optional<YamlSection> section(const std::string& key);

  /// Notes an error at the key, or with an empty key at the mapping.
  void fail(const std::string& key, const std::string& what);
  void refuse_unknown();

 private:
  YAML::Node find(const std::string& key);
  /// Of a list; none, and an error noted, where the key holds anything else.
  std::vector<YAML::Node> items(const std::string& key, const char* what);
  std::string path(const std::string& key) const;
  std::optional<double> as_number(const YAML::Node& node, const std::string& key, double least, double most);

  YAML::Node node_;
  std::string name_;
  YamlErrors* errors_;
  std::set<std::string> asked_;
};

}  // namespace ballast
