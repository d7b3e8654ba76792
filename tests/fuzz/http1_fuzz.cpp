// SPDX-License-Identifier: Apache-2.0
// Any bytes in any packets: the HTTP/1 parser stays inside its window and ends.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "http1_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) {
    return 0;
  }
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 2, size - 2);
  ballast::bpf::Http1Driver driver;
  driver.packets(bytes, 1U + data[0], data[1] & (HTTP1_HEAD_METHOD | HTTP1_CONNECT_METHOD));
  if (driver.messages().size() > bytes.size() || driver.complete() > driver.messages().size()) {
    std::abort();
  }
  return 0;
}
