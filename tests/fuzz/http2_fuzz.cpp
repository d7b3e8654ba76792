// SPDX-License-Identifier: Apache-2.0
// Any bytes in any packets, with gaps, on a new connection or one met in mid-life: the HTTP/2 and
// HPACK parsers stay inside their window, and what they report is in range.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "frames.h"
#include "http2_driver.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 3) {
    return 0;
  }
  const std::string_view bytes(reinterpret_cast<const char*>(data) + 3, size - 3);
  ballast::bpf::Http2Driver driver((data[1] & 1) != 0);
  if ((data[1] & 2) != 0) {
    driver.packet(ballast::bpf::frame::kPreface);
  }
  driver.packets(bytes.substr(0, bytes.size() / 2), 1U + data[0]);
  if ((data[1] & 4) != 0) {
    driver.gap(data[2]);
  }
  driver.packets(bytes.substr(bytes.size() / 2), 1U + data[0]);
  for (const auto& event : driver.events()) {
    if (event.status > 999 || event.grpc_status > HPACK_GRPC_UNKNOWN || (event.stream >> 31) != 0) {
      std::abort();
    }
  }
  if (driver.events().size() > bytes.size() + 1) {
    std::abort();
  }
  return 0;
}
