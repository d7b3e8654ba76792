// SPDX-License-Identifier: Apache-2.0
// Any text as a configuration: it is taken or refused with a reason, and nothing is thrown.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "agent/config/reader.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string sink = "dry-run";
  int tick_ms = 250;
  double floor = 0.1;
  ballast::options::Schema schema;
  schema.text("sink", sink, "SINK", "text", ballast::options::not_empty);
  schema.number("tick_ms", tick_ms, 100, 60'000, "ms", "a whole number");
  schema.section("guard");
  schema.number("floor", floor, 0.001, 1, "", "a number");
  ballast::config::Reader reader("fuzz.yaml", schema);
  const auto status = reader.read(std::string(reinterpret_cast<const char*>(data), size));
  if (!status && status.error().message.empty()) {
    std::abort();
  }
  if (!schema.check()) {
    std::abort();  // what was taken holds what was declared
  }
  return 0;
}
