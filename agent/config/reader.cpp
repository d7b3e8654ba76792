// SPDX-License-Identifier: Apache-2.0
#include "agent/config/reader.h"

#include <algorithm>
#include <utility>

namespace ballast::config {
namespace {

int line_of(const YAML::Node& node) {
  return node.Mark().line + 1;
}

std::string joined(const std::string& prefix, const std::string& key) {
  return prefix.empty() ? key : prefix + "." + key;
}

}  // namespace

Reader::Reader(std::string file, std::vector<Key> keys) : file_(std::move(file)), keys_(std::move(keys)) {}

Status Reader::read(const std::string& text) {
  // yaml-cpp reports through exceptions; they end here.
  try {
    const YAML::Node root = YAML::Load(text);
    if (root.IsNull()) {
      return ok();
    }
    if (!root.IsMap()) {
      return Error::usage(file_ + ":" + std::to_string(line_of(root)) +
                          ": the document is not a map; write `key: value` lines");
    }
    return section(root, "");
  } catch (const YAML::Exception& e) {
    return Error::usage(file_ + ":" + std::to_string(e.mark.line + 1) + ": not YAML: " + e.msg);
  }
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
    if (std::none_of(keys_.begin(), keys_.end(), [&](const Key& k) { return k.name == key; })) {
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
  const auto found = std::find_if(keys_.begin(), keys_.end(), [&](const Key& k) { return k.name == key; });
  if (found == keys_.end()) {
    return Error::usage(origin + ": there is no key " + key);
  }
  if (const auto wrong = found->set(value)) {
    return Error::usage(origin + ": " + *wrong);
  }
  origins_[key] = origin;
  return ok();
}

std::string Reader::origin(const std::string& key) const {
  const auto found = origins_.find(key);
  return found == origins_.end() ? key : found->second;
}

Error Reader::unknown(const std::string& key, const std::string& prefix, int line) const {
  std::set<std::string> known;
  const std::string start = prefix.empty() ? "" : prefix + ".";
  for (const Key& k : keys_) {
    if (k.name.rfind(start, 0) == 0) {
      const std::string rest = k.name.substr(start.size());
      known.insert(rest.substr(0, rest.find('.')));
    }
  }
  std::string list;
  for (const std::string& name : known) {
    list += (list.empty() ? "" : ", ") + name;
  }
  return Error::usage(file_ + ":" + std::to_string(line) + ": " + key + ": unknown key; known here: " + list);
}

bool Reader::is_section(const std::string& name) const {
  return std::any_of(keys_.begin(), keys_.end(),
                     [&](const Key& k) { return k.name.rfind(name + ".", 0) == 0; });
}

}  // namespace ballast::config
