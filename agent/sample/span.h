// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/sample/http2_head.h"
#include "agent/sample/request_head.h"
#include "agent/sample/sample.h"
#include "agent/sample/user_key.h"
#include "core/base/clock.h"

namespace ballast::sample {

/// "10.0.0.1:80" or "[fd00::1]:80" of an address as the maps keep it.
std::string address_text(const std::uint8_t (&address)[16], std::uint16_t port);

/// The path with what identifies things taken out, for low-cardinality names (OpenTelemetry's
/// http.route): numbers, hexadecimal ids and UUIDs become {id}; no query.
std::string path_template(std::string_view target);

/// One end's view of one sampled request, with its place in a trace.
struct Span {
  CgroupId cgroup = 0;
  std::uint8_t role = 0;      ///< enum ballast_role
  std::uint8_t protocol = 0;  ///< enum ballast_protocol
  std::uint16_t status = 0;
  std::optional<std::uint16_t> grpc_status;  ///< none: not gRPC, or unknown
  MonotonicNs start = 0;
  MonotonicNs first_byte = 0;
  MonotonicNs end = 0;
  std::string local;
  std::string peer;
  RequestHead head;
  std::uint64_t message = 0;  ///< the same at both ends of the connection, different for each request
  SpanId id{};
  std::optional<SpanId> parent;
  TraceId trace{};
};

/// Parses one row. `id` is set, `parent` and `trace` are not: see join_spans(). `heads` knows the
/// rows of the same connection before this one. `users` makes of the user's header what may leave.
Span read_span(const ballast_span_value& row, Http2Heads& heads, const UserKey& users = {});

/// Finds parents and traces, in place; any order.
///  - A server's parent is the client's span of the same request, when that was measured here too,
///    else the traceparent's parent.
///  - A client's parent is the request that its own cgroup was answering all the while. It has to be
///    of the same trace when both carry a traceparent; without one it has to be the only such
///    request, because a guess would be worse than a short tree. When the application put a span id
///    of its own into the traceparent, that is the parent.
///  - A trace's id is the traceparent's, else the parent's, else made from the first request.
void join_spans(std::vector<Span>& spans);

std::string hex(std::string_view bytes);
template <std::size_t N>
std::string hex(const std::array<std::uint8_t, N>& id) {
  return hex(std::string_view(reinterpret_cast<const char*>(id.data()), N));
}

}  // namespace ballast::sample
