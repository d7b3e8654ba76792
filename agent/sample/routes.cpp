// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/routes.h"

#include <algorithm>
#include <utility>

#include "agent/sample/span.h"

namespace ballast::sample {

namespace {

constexpr const char* kName = "{name}";
constexpr const char* kRest = "*";
/// Of shapes that are watched; beyond it nothing more is learned.
constexpr std::size_t kMostShapes = 1024;

std::vector<std::string> split(std::string_view text, char at) {
  std::vector<std::string> parts;
  while (true) {
    const std::size_t end = text.find(at);
    parts.emplace_back(text.substr(0, end));
    if (end == std::string_view::npos) {
      return parts;
    }
    text.remove_prefix(end + 1);
  }
}

/// Without the first slash.
std::vector<std::string> segments(std::string_view path) {
  return split(path.starts_with('/') ? path.substr(1) : path, '/');
}

std::string joined(const std::vector<std::string>& path) {
  std::string text;
  for (const std::string& segment : path) {
    text += "/" + segment;
  }
  return text;
}

bool any(std::string_view segment) {
  return segment == kRest || (segment.starts_with('{') && segment.ends_with('}'));
}

std::string_view trimmed(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(' '), text.size()));
  return text.substr(0, text.find_last_not_of(' ') + 1);
}

bool matches(const std::vector<std::string>& pattern, const std::vector<std::string>& path) {
  for (std::size_t i = 0; i < pattern.size(); ++i) {
    if (pattern[i] == kRest && i + 1 == pattern.size()) {
      return true;
    }
    if (i >= path.size() || (!any(pattern[i]) && pattern[i] != path[i])) {
      return false;
    }
  }
  return pattern.size() == path.size();
}

}  // namespace

options::Wrong route_patterns_form(const std::string& text) {
  for (const std::string& pattern : route_patterns(text)) {
    if (!pattern.starts_with('/')) {
      return "\"" + pattern + "\" does not begin with a slash";
    }
    const auto parts = segments(pattern);
    if (std::ranges::all_of(parts, [](const std::string& s) { return s.empty() || any(s); })) {
      return "\"" + pattern + "\" matches everything; name a segment, as in /users/{id}";
    }
    if (std::find(parts.begin(), parts.end() - 1, kRest) != parts.end() - 1) {
      return "\"" + pattern + "\" has a * that is not its last segment; write {name} for one segment";
    }
  }
  return std::nullopt;
}

std::vector<std::string> route_patterns(const std::string& text) {
  std::vector<std::string> patterns;
  for (const std::string& part : split(text, ',')) {
    if (const std::string_view pattern = trimmed(part); !pattern.empty()) {
      patterns.emplace_back(pattern);
    }
  }
  return patterns;
}

Routes::Routes(std::vector<std::string> patterns) {
  for (const std::string& pattern : patterns) {
    patterns_.push_back(segments(pattern));
  }
}

/// Segments of which there are too many become one; what is new is remembered.
void Routes::fold(Path& path) {
  for (std::string& segment : path) {
    if (any(segment)) {
      continue;
    }
    const std::string value = std::exchange(segment, kName);
    const std::string shape = joined(path);
    if (folded_.contains(shape)) {
      continue;
    }
    const auto found = variants_.find(shape);
    if (found == variants_.end() && variants_.size() >= kMostShapes) {
      segment = value;
      continue;
    }
    std::set<std::string>& values = variants_[shape];
    values.insert(value);
    if (values.size() <= kVariants) {
      segment = value;
      continue;
    }
    for (const std::string& one : values) {
      segment = one;
      known_.erase(joined(path));
    }
    segment = kName;
    variants_.erase(shape);
    folded_.insert(shape);
    ++folds_;
  }
}

std::string Routes::of(std::string_view target) {
  if (!target.starts_with('/')) {  // unknown, "*" or an authority
    return kOther;
  }
  Path path = segments(target.substr(0, target.find_first_of("?#")));
  for (const Path& pattern : patterns_) {
    if (matches(pattern, path)) {
      return joined(pattern);
    }
  }
  path = segments(path_template(target));
  if (path.size() > kSegments) {
    path.resize(kSegments);
    path.emplace_back(kRest);
  }
  fold(path);
  const std::string route = joined(path);
  if (!known_.contains(route)) {
    if (known_.size() >= kMost) {
      return kOther;
    }
    known_.insert(route);
  }
  return route;
}

}  // namespace ballast::sample
