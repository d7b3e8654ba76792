// SPDX-License-Identifier: Apache-2.0
#include "core/yaml/section.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/base/options.h"

namespace ballast {

namespace {

std::string given(const YAML::Node& node) {
  return node.IsScalar() ? fmt::format(", not \"{}\"", node.Scalar()) : "";
}

}  // namespace

void YamlErrors::add(const YAML::Mark& mark, const std::string& key, const std::string& what) {
  if (!first_) {
    const int line = mark.is_null() ? 1 : mark.line + 1;
    first_ = Error::usage(fmt::format("{}:{}: {}: {}", file_, line, key, what));
  }
}

Result<YAML::Node> load_yaml(const std::string& text, YamlErrors& errors) {
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception& e) {
    errors.add(e.mark, "not YAML", e.msg);
    return *errors.first();
  }
}

YamlSection::YamlSection(const YAML::Node& node, std::string name, YamlErrors& errors)
    : node_(node), name_(std::move(name)), errors_(&errors) {
  if (!node_.IsMap()) {
    errors_->add(node_.Mark(), path(""), "has to be a mapping of keys to values");
    node_ = YAML::Node(YAML::NodeType::Map);
  }
  std::set<std::string> seen;
  for (const auto& item : node_) {
    if (item.first.IsScalar() && !seen.insert(item.first.Scalar()).second) {
      errors_->add(item.first.Mark(), path(item.first.Scalar()), "stands twice");
    }
  }
}

std::string YamlSection::path(const std::string& key) const {
  return name_.empty() ? (key.empty() ? "(top level)" : key) : key.empty() ? name_ : name_ + "." + key;
}

YAML::Node YamlSection::find(const std::string& key) {
  asked_.insert(key);
  const YAML::Node& readable = node_;
  return readable[key];
}

bool YamlSection::has(const std::string& key) {
  return find(key).IsDefined();
}

void YamlSection::require(const std::string& key) {
  if (!has(key)) {
    fail(key, "is missing");
  }
}

std::optional<double> YamlSection::as_number(const YAML::Node& node, const std::string& key, double least,
                                             double most) {
  double value = 0;
  if (!node.IsScalar() || !YAML::convert<double>::decode(node, value) || !std::isfinite(value)) {
    errors_->add(node.Mark(), path(key), "has to be a number" + given(node));
    return std::nullopt;
  }
  if (value < least || value > most) {
    errors_->add(node.Mark(), path(key),
                 (most < 1e300 ? fmt::format("has to be a number between {} and {}", least, most)
                               : fmt::format("has to be a number from {} up", least)) +
                     given(node));
    return std::nullopt;
  }
  return value;
}

double YamlSection::number(const std::string& key, double standard, double least, double most) {
  const YAML::Node node = find(key);
  return node.IsDefined() ? as_number(node, key, least, most).value_or(standard) : standard;
}

std::uint64_t YamlSection::whole(const std::string& key, std::uint64_t standard, std::uint64_t least,
                                 std::uint64_t most) {
  const YAML::Node node = find(key);
  if (!node.IsDefined()) {
    return standard;
  }
  const auto value = as_number(node, key, static_cast<double>(least), static_cast<double>(most));
  if (value && *value != std::floor(*value)) {
    errors_->add(node.Mark(), path(key), "has to be a whole number");
  }
  return value ? static_cast<std::uint64_t>(*value) : standard;
}

bool YamlSection::flag(const std::string& key, bool standard) {
  const YAML::Node node = find(key);
  if (!node.IsDefined()) {
    return standard;
  }
  bool value = standard;
  if (!node.IsScalar() || !YAML::convert<bool>::decode(node, value)) {
    errors_->add(node.Mark(), path(key), "has to be true or false" + given(node));
  }
  return value;
}

std::string YamlSection::text(const std::string& key, const std::string& standard) {
  const YAML::Node node = find(key);
  if (!node.IsDefined()) {
    return standard;
  }
  if (!node.IsScalar()) {
    fail(key, "has to be text");
    return standard;
  }
  return node.Scalar();
}

std::size_t YamlSection::choice(const std::string& key, const std::vector<std::string>& choices,
                                std::size_t standard) {
  const std::string value = text(key, choices[standard]);
  const auto it = std::find(choices.begin(), choices.end(), value);
  if (it == choices.end()) {
    fail(key, fmt::format("'{}' is not one of {}", value, fmt::join(choices, ", ")));
    return standard;
  }
  return static_cast<std::size_t>(it - choices.begin());
}

std::vector<YAML::Node> YamlSection::items(const std::string& key, const char* what) {
  const YAML::Node node = find(key);
  if (node.IsDefined() && !node.IsSequence()) {
    fail(key, what);
    return {};
  }
  return {node.begin(), node.end()};
}

std::vector<double> YamlSection::numbers(const std::string& key, double least) {
  std::vector<double> values;
  for (const YAML::Node& item : items(key, "has to be a list of numbers")) {
    values.push_back(as_number(item, key, least, std::numeric_limits<double>::max()).value_or(least));
  }
  return values;
}

std::vector<std::uint32_t> YamlSection::indices(const std::string& key) {
  std::vector<std::uint32_t> values;
  for (const double value : numbers(key)) {
    if (value != std::floor(value) || value > 1e6) {
      fail(key, fmt::format("{} is not an index", value));
      return {};
    }
    values.push_back(static_cast<std::uint32_t>(value));
  }
  return values;
}

std::vector<std::vector<double>> YamlSection::table(const std::string& key) {
  constexpr const char* kWhat = "has to be a list of lists of numbers";
  std::vector<std::vector<double>> rows;
  for (const YAML::Node& row : items(key, kWhat)) {
    rows.emplace_back();
    if (!row.IsSequence()) {
      errors_->add(row.Mark(), path(key), kWhat);
      return {};
    }
    for (const auto& item : row) {
      rows.back().push_back(as_number(item, key, 0, std::numeric_limits<double>::max()).value_or(0));
    }
  }
  return rows;
}

std::vector<YamlSection> YamlSection::list(const std::string& key) {
  std::vector<YamlSection> sections;
  for (const YAML::Node& item : items(key, "has to be a list")) {
    sections.emplace_back(item, fmt::format("{}[{}]", path(key), sections.size()), *errors_);
  }
  return sections;
}

std::optional<YamlSection> YamlSection::section(const std::string& key) {
  const YAML::Node node = find(key);
  if (!node.IsDefined()) {
    return std::nullopt;
  }
  return YamlSection(node, path(key), *errors_);
}

void YamlSection::fail(const std::string& key, const std::string& what) {
  const YAML::Node node = find(key);
  YAML::Mark mark = node.IsDefined() ? node.Mark() : node_.Mark();
  for (const auto& item : node_) {
    // An empty value has the place of what follows it.
    if (node.IsDefined() && node.IsNull() && item.first.IsScalar() && item.first.Scalar() == key) {
      mark = item.first.Mark();
    }
  }
  errors_->add(mark, path(key), what);
}

void YamlSection::refuse_unknown() {
  for (const auto& item : node_) {
    const std::string key = item.first.IsScalar() ? item.first.Scalar() : "(not a name)";
    if (!asked_.contains(key)) {
      const YAML::Mark mark = item.first.Mark().is_null() ? item.second.Mark() : item.first.Mark();
      const std::string slip = options::did_you_mean(key, {asked_.begin(), asked_.end()});
      errors_->add(
          mark, path(key),
          fmt::format("unknown key{}{} known: {}", slip, slip.empty() ? ";" : "", fmt::join(asked_, ", ")));
    }
  }
}

}  // namespace ballast
