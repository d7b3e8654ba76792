// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace ballast::sample {

using TraceId = std::array<std::uint8_t, 16>;
using SpanId = std::array<std::uint8_t, 8>;

/// W3C Trace Context, level 1, section 3.2: version 00, ids not all zero.
struct TraceParent {
  TraceId trace{};
  SpanId parent{};
  bool sampled = false;
  bool operator==(const TraceParent&) const = default;
};
std::optional<TraceParent> parse_traceparent(std::string_view value);

/// What the first bytes of a request's head say; cut heads give what is there. Empty: unknown.
struct RequestHead {
  std::string method;
  std::string target;  ///< as sent, at most 120 bytes; it may carry a query
  std::optional<TraceParent> traceparent;
  /// What the header says by which users are told apart; read_span() leaves its hash alone (UserKey).
  std::string user;
};
/// HTTP/1. `user_header` in lower case; empty: none.
RequestHead parse_request_head(std::string_view head, std::string_view user_header = {});
/// Bytes that may stand in a method or a target, cut; else nothing.
std::string head_text(std::string_view text);

}  // namespace ballast::sample
