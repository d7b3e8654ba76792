// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "bpf/lib/http2.h"

namespace ballast::bpf {

/// Frames by hand.
namespace frame {

inline const std::string kPreface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

inline std::string number(u32 value, int bytes) {
  std::string out;
  for (int i = bytes - 1; i >= 0; --i) {
    out += static_cast<char>(value >> (8 * i));
  }
  return out;
}

inline std::string make(int type, int flags, u32 stream, const std::string& payload) {
  return number(static_cast<u32>(payload.size()), 3) + static_cast<char>(type) + static_cast<char>(flags) +
         number(stream, 4) + payload;
}

inline std::string settings() {
  return make(HTTP2_SETTINGS, 0, 0, number(3, 2) + number(100, 4));
}
inline std::string data(u32 stream, const std::string& body, bool end) {
  return make(HTTP2_DATA, end ? HTTP2_END_STREAM : 0, stream, body);
}
inline std::string headers(u32 stream, const std::string& block, bool end) {
  return make(HTTP2_HEADERS, HTTP2_END_HEADERS | (end ? HTTP2_END_STREAM : 0), stream, block);
}
/// A field with a literal name or (index > 0) an indexed one. `first` is the representation's byte.
inline std::string field(int first, const std::string& name, const std::string& value) {
  std::string out(1, static_cast<char>(first));
  if (!name.empty()) {
    out += static_cast<char>(name.size()) + name;
  }
  return out + static_cast<char>(value.size()) + value;
}

}  // namespace frame

}  // namespace ballast::bpf
