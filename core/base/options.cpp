// SPDX-License-Identifier: Apache-2.0
#include "core/base/options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <system_error>

#include "core/base/listen_address.h"
#include "core/base/url.h"

namespace ballast::options {
namespace {

template <typename T>
bool parse(const std::string& text, T& out) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, out);
  return error == std::errc() && stopped == end;
}

/// Insertions, deletions, changes and swaps of neighbours that make one of the other (Damerau, Levenshtein).
std::size_t distance(const std::string& a, const std::string& b) {
  std::vector<std::vector<std::size_t>> d(a.size() + 1, std::vector<std::size_t>(b.size() + 1));
  for (std::size_t i = 0; i <= a.size(); ++i) {
    for (std::size_t j = 0; j <= b.size(); ++j) {
      if (i == 0 || j == 0) {
        d[i][j] = i + j;
        continue;
      }
      d[i][j] =
          std::min({d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] == b[j - 1] ? 0U : 1U)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        d[i][j] = std::min(d[i][j], d[i - 2][j - 2] + 1);
      }
    }
  }
  return d[a.size()][b.size()];
}

}  // namespace

std::string Schema::full(const std::string& name) const {
  if (name.starts_with('.')) {
    return name.substr(1);
  }
  return section_.empty() || name.find('.') != std::string::npos ? name : section_ + "." + name;
}

Key& Schema::add(const char* name, const char* type, std::string allowed, const char* help) {
  Key& key = keys_.emplace_back();
  key.name = full(name);
  key.type = type;
  key.allowed = std::move(allowed);
  key.help = help;
  return key;
}

void Schema::add_number(const char* name, bool whole, double least, double most, const char* unit,
                        const char* help, std::function<double()> get, std::function<void(double)> set,
                        bool single) {
  Key& key = add(name, whole ? "whole number" : "number", fmt::format("{} to {}", least, most), help);
  key.unit = unit;
  key.get = [get = std::move(get), single] {
    return single ? fmt::format("{}", static_cast<float>(get())) : fmt::format("{}", get());
  };
  key.set = [=, set = std::move(set)](const std::string& text) -> Wrong {
    double value = 0;
    std::int64_t count = 0;
    if (whole ? !parse(text, count) : !parse(text, value) || !std::isfinite(value)) {
      return fmt::format("\"{}\" is not a {}; give {} to {}", text, whole ? "whole number" : "number", least,
                         most);
    }
    value = whole ? static_cast<double>(count) : value;
    if (value < least || value > most) {
      return fmt::format("{} is out of range; give {} to {}", text, least, most);
    }
    set(value);
    return std::nullopt;
  };
  key.standard = key.get();
}

void Schema::milliseconds(const char* name, std::chrono::milliseconds& field, double least, double most,
                          const char* help) {
  add_number(
      name, true, least, most, "ms", help, [&field] { return static_cast<double>(field.count()); },
      [&field](double value) { field = std::chrono::milliseconds(static_cast<std::int64_t>(value)); });
}

void Schema::seconds(const char* name, std::chrono::milliseconds& field, double least, double most,
                     const char* help) {
  add_number(
      name, false, least, most, "s", help, [&field] { return static_cast<double>(field.count()) / 1000; },
      [&field](double value) { field = std::chrono::milliseconds(std::llround(value * 1000)); });
}

void Schema::add_word(const char* name, const std::vector<std::string>& words, const char* help,
                      std::function<std::string()> get, const std::function<bool(const std::string&)>& set) {
  Key& key = add(name, "word", fmt::format("{}", fmt::join(words, ", ")), help);
  key.get = std::move(get);
  key.set = [set, words, allowed = key.allowed](const std::string& text) -> Wrong {
    if (set(text)) {
      return std::nullopt;
    }
    return fmt::format("\"{}\" is not one of {}{}", text, allowed, did_you_mean(text, words));
  };
  key.standard = key.get();
}

void Schema::text(const char* name, std::string& field, const char* allowed, const char* help,
                  const std::function<Wrong(const std::string&)>& check) {
  Key& key = add(name, "text", allowed, help);
  key.get = [&field] { return field; };
  key.set = [&field, check](const std::string& text) -> Wrong {
    Wrong wrong = check ? check(text) : std::nullopt;
    if (!wrong) {
      field = text;
    }
    return wrong;
  };
  key.standard = field;
}

void Schema::path(const char* name, std::filesystem::path& field, const char* allowed, const char* help,
                  const std::function<Wrong(const std::string&)>& check) {
  Key& key = add(name, "text", allowed, help);
  key.get = [&field] { return field.string(); };
  key.set = [&field, check](const std::string& text) -> Wrong {
    Wrong wrong = check ? check(text) : std::nullopt;
    if (!wrong) {
      field = text;
    }
    return wrong;
  };
  key.standard = field.string();
}

Wrong existing_file(const std::string& path) {
  std::error_code ignored;
  if (path.empty() || std::filesystem::is_regular_file(path, ignored)) {
    return std::nullopt;
  }
  return fmt::format("there is no file {}; give the path of an existing one", path);
}

Wrong not_empty(const std::string& text) {
  return text.empty() ? Wrong("must not be empty") : std::nullopt;
}

Wrong http_url(const std::string& url) {
  const std::size_t host = url.starts_with("http://") ? 7 : url.starts_with("https://") ? 8 : 0;
  if (!url.empty() && (host == 0 || host >= url.size() || url[host] == '/' || url[host] == ':')) {
    return "\"" + without_secrets(url) + "\" is no URL; give http://HOST:PORT";
  }
  return std::nullopt;
}

Wrong loopback(const std::string& address) {
  if (address.empty()) {
    return std::nullopt;
  }
  const auto parsed = parse_listen_address(address, false);
  return parsed ? std::nullopt : Wrong(parsed.error().message);
}

void Schema::rule(std::vector<std::string> keys, std::function<Wrong()> check) {
  for (std::string& key : keys) {
    key = full(key);
  }
  rules_.push_back({std::move(keys), std::move(check)});
}

void Schema::ordered(const char* low_name, const double& low, const char* high_name, const double& high) {
  rule({low_name, high_name}, [&low, &high, low_key = full(low_name), high_key = full(high_name)]() -> Wrong {
    if (low <= high) {
      return std::nullopt;
    }
    return fmt::format("{} {} is above {} {}; swap them", low_key, low, high_key, high);
  });
}

const Key* Schema::find(const std::string& name) const {
  const auto found =
      std::find_if(keys_.begin(), keys_.end(), [&](const Key& key) { return key.name == name; });
  return found == keys_.end() ? nullptr : &*found;
}

Status Schema::check() const {
  for (const Key& key : keys_) {
    if (const Wrong wrong = key.set(key.get())) {
      return Error::usage(key.name + ": " + *wrong);
    }
  }
  for (const Rule& rule : rules_) {
    if (const Wrong wrong = rule.check()) {
      return Error::usage(rule.keys.front() + ": " + *wrong);
    }
  }
  return ok();
}

std::optional<std::string> nearest(const std::string& given, const std::vector<std::string>& candidates) {
  std::optional<std::string> best;
  // A third of the letters wrong is still a slip; more is another word.
  std::size_t least = std::max<std::size_t>(given.size() / 3, 1) + 1;
  for (const std::string& candidate : candidates) {
    // What nobody can be shown as their slip.
    if (const std::size_t d = distance(given, candidate); d < least && d < candidate.size()) {
      least = d;
      best = candidate;
    }
  }
  return best;
}

std::string did_you_mean(const std::string& given, const std::vector<std::string>& candidates) {
  const auto near = nearest(given, candidates);
  return near ? ", did you mean " + *near + "?" : "";
}

void refuse_constant(const Error& error) {
  fmt::print(stderr, "ballast: options that this program wrote itself are wrong: {}\n", error.message);
  std::abort();
}

}  // namespace ballast::options
