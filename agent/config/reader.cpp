// SPDX-License-Identifier: Apache-2.0
#include "agent/config/reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <vector>

#include "core/yaml/section.h"

namespace ballast::config {
namespace {

int line_of(const YAML::Node& node) {
  return node.Mark().line + 1;
}

std::string joined(const std::string& prefix, const std::string& key) {
  return prefix.empty() ? key : prefix + "." + key;
}

}  // namespace

Status Reader::read(const std::string& text) {
  YamlErrors errors(file_);
  const auto root = load_yaml(text, errors);
  if (!root) {
    return root.error();
  }
  if (root->IsNull()) {
    return ok();
  }
  if (!root->IsMap()) {
    return Error::usage(file_ + ":" + std::to_string(line_of(*root)) +
                        ": the document is not a map; write `key: value` lines");
  }
  return section(*root, "");
}

Status Reader::section(const YAML::Node& node, const std::string& prefix) {
  std::set<std::string> seen;
  for (const auto& entry : node) {
    const int line = line_of(entry.first);
    const std::string where = file_ + ":" + std::to_string(line) + ": ";
    if (!entry.first.IsScalar()) {
      return Error::usage(where + prefix + ": a key is not a plain word; write `key: value`");
    }
    const std::string key = joined(prefix, entry.first.Scalar());
    if (!seen.insert(key).second) {
      return Error::usage(where + key + ": given twice; keep one of them");
    }
    if (is_section(key)) {
      if (entry.second.IsNull()) {
        continue;
      }
      if (!entry.second.IsMap()) {
        return Error::usage(where + key + ": has keys of its own; indent them below it");
      }
      if (Status status = section(entry.second, key); !status) {
        return status;
      }
      continue;
    }
    if (schema_.find(key) == nullptr) {
      return unknown(key, prefix, line);
    }
    if (Status status = scalar(entry.second, key, line); !status) {
      return status;
    }
  }
  return ok();
}

Status Reader::scalar(const YAML::Node& node, const std::string& key, int line) {
  const std::string where = file_ + ":" + std::to_string(line) + ": " + key;
  if (!node.IsScalar()) {
    const char* what = node.IsNull() ? "no value" : node.IsMap() ? "a map" : "a list";
    return Error::usage(where + ": is " + what + ", but a single value belongs here");
  }
  return apply(where, key, node.Scalar());
}

Status Reader::apply(const std::string& origin, const std::string& key, const std::string& value) {
  const options::Key* found = schema_.find(key);
  if (found == nullptr) {
    return Error::usage(origin + ": there is no key " + key);
  }
  if (const auto wrong = found->set(value)) {
    return Error::usage(origin + ": " + *wrong);
  }
  origins_[key] = origin;
  return ok();
}

Status Reader::check_rules() const {
  for (const options::Rule& rule : schema_.rules()) {
    if (const auto wrong = rule.check()) {
      for (const std::string& key : rule.keys) {
        if (const auto given = origins_.find(key); given != origins_.end()) {
          return Error::usage(given->second + ": " + *wrong);
        }
      }
      return Error::usage(rule.keys.front() + ": " + *wrong);
    }
  }
  return ok();
}

Error Reader::unknown(const std::string& key, const std::string& prefix, int line) const {
  const std::string start = prefix.empty() ? "" : prefix + ".";
  const std::string own = key.substr(start.size());
  std::vector<std::string> here, elsewhere;
  for (const options::Key& known : schema_.keys()) {
    if (known.name.starts_with(start)) {
      const std::string rest = known.name.substr(start.size());
      const std::string word = rest.substr(0, rest.find('.'));
      if (std::find(here.begin(), here.end(), word) == here.end()) {
        here.push_back(word);
      }
    }
    if (known.name.substr(known.name.find('.') + 1) == own) {
      elsewhere.push_back(known.name);
    }
  }
  const std::string hint =
      elsewhere.empty() ? options::did_you_mean(own, here) : ", did you mean " + elsewhere.front() + "?";
  return Error::usage(fmt::format("{}:{}: {}: unknown key{}{} known here: {}", file_, line, key, hint,
                                  hint.empty() ? ";" : "", fmt::join(here, ", ")));
}

bool Reader::is_section(const std::string& name) const {
  const auto& keys = schema_.keys();
  return std::any_of(keys.begin(), keys.end(),
                     [&](const options::Key& key) { return key.name.starts_with(name + "."); });
}

}  // namespace ballast::config
