// SPDX-License-Identifier: Apache-2.0
#include "agent/config/values.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <system_error>

namespace ballast::config {
namespace {

template <typename T>
bool parse(const std::string& text, T& out) {
  const char* end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, out);
  return error == std::errc() && stopped == end;
}

bool is_loopback(const std::string& host) {
  in_addr four{};
  if (::inet_pton(AF_INET, host.c_str(), &four) == 1) {
    return (ntohl(four.s_addr) >> 24) == 127;
  }
  return host == "localhost" || host == "[::1]";
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

std::optional<std::string> check_loopback(const std::string& text) {
  const auto colon = text.rfind(':');
  int port = 0;
  if (colon == std::string::npos || !parse(text.substr(colon + 1), port) || port < 1 || port > 65535) {
    return fmt::format("\"{}\" is not HOST:PORT with a port of 1 to 65535", text);
  }
  if (!is_loopback(text.substr(0, colon))) {
    return fmt::format(
        "{} is not a loopback address; give 127.0.0.1:PORT (nothing of ballastd is reachable "
        "from outside)",
        text);
  }
  return std::nullopt;
}

Setter loopback(std::string& target) {
  return [&target](const std::string& text) -> std::optional<std::string> {
    if (!text.empty()) {
      if (auto wrong = check_loopback(text)) {
        return wrong;
      }
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
