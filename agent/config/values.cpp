// SPDX-License-Identifier: Apache-2.0
#include "agent/config/values.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <system_error>

#include "core/base/listen_address.h"

namespace ballast::config {
namespace {

template <typename T>
bool parse(const std::string& text, T& out) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, out);
  return error == std::errc() && stopped == end;
}

}  // namespace

Setter number(double& target, double least, double most) {
  return [&target, least, most](const std::string& text) -> std::optional<std::string> {
    double value = 0;
    if (!parse(text, value) || !std::isfinite(value)) {
      return fmt::format("\"{}\" is not a number", text);
    }
    if (value < least || value > most) {
      return fmt::format("{} is out of range; give {} to {}", text, least, most);
    }
    target = value;
    return std::nullopt;
  };
}

Setter whole(int& target, int least, int most) {
  return [&target, least, most](const std::string& text) -> std::optional<std::string> {
    int value = 0;
    if (!parse(text, value)) {
      return fmt::format("\"{}\" is not a whole number; give {} to {}", text, least, most);
    }
    if (value < least || value > most) {
      return fmt::format("{} is out of range; give {} to {}", text, least, most);
    }
    target = value;
    return std::nullopt;
  };
}

Setter path(std::filesystem::path& target) {
  return [&target](const std::string& text) -> std::optional<std::string> {
    target = text;
    return std::nullopt;
  };
}

Setter existing_file(std::filesystem::path& target) {
  return [&target](const std::string& text) -> std::optional<std::string> {
    std::error_code ignored;
    if (!text.empty() && !std::filesystem::is_regular_file(text, ignored)) {
      return fmt::format("there is no file {}; give the path of an existing one", text);
    }
    target = text;
    return std::nullopt;
  };
}

Setter loopback(std::string& target) {
  return [&target](const std::string& text) -> std::optional<std::string> {
    if (!text.empty()) {
      if (const auto address = parse_listen_address(text, false); !address) {
        return address.error().message;
      }
    }
    target = text;
    return std::nullopt;
  };
}

Setter http_url(std::string& target) {
  return [&target](const std::string& text) -> std::optional<std::string> {
    const std::size_t host = text.starts_with("http://") ? 7 : text.starts_with("https://") ? 8 : 0;
    if (!text.empty() && (host == 0 || host >= text.size() || text[host] == '/' || text[host] == ':')) {
      return "\"" + text + "\" is no URL; give http://HOST:PORT";
    }
    target = text;
    return std::nullopt;
  };
}

Setter one_of(std::string& target, std::vector<std::string> words) {
  std::vector<std::pair<std::string, std::string>> pairs;
  for (std::string& w : words) {
    pairs.emplace_back(w, w);
  }
  return word(target, std::move(pairs));
}

}  // namespace ballast::config
