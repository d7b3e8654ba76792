// SPDX-License-Identifier: Apache-2.0
// Any text as a configuration: it is taken or refused with a reason, and nothing is thrown.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>

#include "agent/config/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string taken;
  const auto take = [&taken](const std::string& text) -> std::optional<std::string> {
    taken = text;
    return text.empty() ? std::optional<std::string>("is empty") : std::nullopt;
  };
  ballast::config::Reader reader("fuzz.yaml", {{"sink", take}, {"tick_ms", take}, {"guard.floor", take}});
  const auto status = reader.read(std::string(reinterpret_cast<const char*>(data), size));
  if (!status && status.error().message.empty()) {
    std::abort();
  }
  return 0;
}
