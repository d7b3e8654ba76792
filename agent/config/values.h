// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/config/reader.h"

/// Setters for each kind of value. `target` has to outlive the setter.
namespace ballast::config {

Setter number(double& target, double least, double most);
Setter whole(int& target, int least, int most);
Setter path(std::filesystem::path& target);
/// As path(), and the file has to exist; the empty text means none.
Setter existing_file(std::filesystem::path& target);
/// IP:PORT or unix:PATH that only this machine reaches; the empty text means none.
Setter loopback(std::string& target);
/// http://HOST[:PORT][/PATH] or https://...; the empty text means none.
Setter http_url(std::string& target);
Setter one_of(std::string& target, std::vector<std::string> words);

template <typename T>
Setter word(T& target, std::vector<std::pair<std::string, T>> words) {
  return [&target, words = std::move(words)](const std::string& text) -> std::optional<std::string> {
    std::string list;
    for (const auto& [name, value] : words) {
      if (name == text) {
        target = value;
        return std::nullopt;
      }
      list += (list.empty() ? "" : ", ") + name;
    }
    return "\"" + text + "\" is not one of " + list;
  };
}

}  // namespace ballast::config
