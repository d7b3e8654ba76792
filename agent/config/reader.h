// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <yaml-cpp/yaml.h>

#include <map>
#include <string>

#include "core/base/options.h"
#include "core/base/result.h"

namespace ballast::config {

/// Walks a YAML document against a schema and remembers the origin of each value, so that
/// every error names file, line and key.
class Reader {
 public:
  /// `schema` outlives the reader.
  Reader(std::string file, const options::Schema& schema) : file_(std::move(file)), schema_(schema) {}

  Status read(const std::string& text);
  /// `origin` is what an error names, e.g. "--mode".
  Status apply(const std::string& origin, const std::string& key, const std::string& value);
  /// The schema's rules. The error stands at the first of a rule's keys that was given.
  Status check_rules() const;

 private:
  Status section(const YAML::Node& node, const std::string& prefix);
  Status scalar(const YAML::Node& node, const std::string& key, int line);
  Error unknown(const std::string& key, const std::string& prefix, int line) const;
  bool is_section(const std::string& name) const;

  std::string file_;
  const options::Schema& schema_;
  std::map<std::string, std::string> origins_;
};

}  // namespace ballast::config
