// SPDX-License-Identifier: Apache-2.0
// Heads of sampled requests come from any peer: whatever they hold, what is read is printable and
// bounded, and every span keeps its place in a trace.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "agent/sample/span.h"

namespace {

void demand(bool holds) {
  if (!holds) {
    std::abort();
  }
}

bool sound(const std::string& text) {
  return text.size() <= 120 && std::ranges::all_of(text, [](unsigned char c) { return c > ' ' && c < 0x7f; });
}

}  // namespace

// Each span is of four bytes (protocol, role, size of the head, entries of the table) and its head.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  ballast::sample::Http2Heads heads;
  std::vector<ballast::sample::Span> spans;
  std::uint32_t inserted = 0;
  while (size > 4) {
    ballast_span_value row{};
    row.cgroup_id = data[1] >> 1 & 3;
    row.protocol = static_cast<std::uint8_t>(data[0] % (BALLAST_PROTOCOL_GRPC + 1));
    row.role = data[1] & 1;
    row.head_len = static_cast<std::uint16_t>(data[2] + (data[1] & 0x80));
    inserted += data[3] & 0x1f;
    row.inserted = inserted;
    row.seq = data[3];
    row.peer_port = data[1] >> 3 & 1;
    row.start_ns = spans.size();
    row.end_ns = row.start_ns + data[0];
    data += 4;
    size -= 4;
    const std::size_t n = std::min({size, std::size_t{row.head_len}, sizeof row.head});
    std::memcpy(row.head, data, n);
    data += n;
    size -= n;
    spans.push_back(ballast::sample::read_span(row, heads));
    demand(sound(spans.back().head.method) && sound(spans.back().head.target));
    ballast::sample::path_template(spans.back().head.target);
  }
  ballast::sample::join_spans(spans);
  for (const auto& span : spans) {
    demand(span.trace != ballast::sample::TraceId{} && span.id != ballast::sample::SpanId{});
  }
  return 0;
}
