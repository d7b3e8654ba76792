// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/span.h"

#include <arpa/inet.h>
#include <strings.h>
#include <sys/socket.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <span>
#include <unordered_map>
#include <utility>

namespace ballast::sample {

namespace {

constexpr std::array<std::uint8_t, 12> kMapped = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
constexpr std::size_t kMaxTarget = 120;
constexpr std::string_view kTraceParent = "traceparent";

/// FNV-1a, 64 bit. Not against an adversary: a collision costs one wrong line in a tree.
std::uint64_t fnv(std::uint64_t hash, const void* bytes, std::size_t size) {
  for (const std::uint8_t byte : std::span(static_cast<const std::uint8_t*>(bytes), size)) {
    hash = (hash ^ byte) * 0x100000001b3ULL;
  }
  return hash;
}
constexpr std::uint64_t kFnvBasis = 0xcbf29ce484222325ULL;

SpanId span_id(std::uint64_t message, std::uint8_t role) {
  std::uint64_t hash = fnv(fnv(kFnvBasis, &message, sizeof message), &role, sizeof role);
  hash = hash == 0 ? 1 : hash;  // an id of zeros is none
  SpanId id;
  std::memcpy(id.data(), &hash, id.size());
  return id;
}

template <std::size_t N>
bool parse_hex(std::string_view text, std::array<std::uint8_t, N>& out) {
  bool any = false;
  for (std::size_t i = 0; i < N; ++i) {
    std::uint8_t byte = 0;
    for (const char c : text.substr(2 * i, 2)) {
      const bool digit = c >= '0' && c <= '9';
      if (!digit && (c < 'a' || c > 'f')) {
        return false;
      }
      byte = static_cast<std::uint8_t>(byte << 4 | (digit ? c - '0' : c - 'a' + 10));
    }
    out[i] = byte;
    any = any || byte != 0;
  }
  return any;
}

bool printable(std::string_view text) {
  return std::ranges::all_of(text, [](unsigned char c) { return c > ' ' && c < 0x7f; });
}

bool identifies(std::string_view segment) {
  const auto digits = std::ranges::count_if(segment, [](unsigned char c) { return std::isdigit(c) != 0; });
  const bool hexadecimal =
      std::ranges::all_of(segment, [](unsigned char c) { return std::isxdigit(c) != 0 || c == '-'; });
  return digits > 0 &&
         (static_cast<std::size_t>(digits) == segment.size() || (hexadecimal && segment.size() >= 8));
}

}  // namespace

std::optional<TraceParent> parse_traceparent(std::string_view value) {
  // version-trace-parent-flags; later versions may append, 00 may not.
  if (value.size() < 55 || value[2] != '-' || value[35] != '-' || value[52] != '-' ||
      value.substr(0, 2) == "ff" || (value.substr(0, 2) == "00" && value.size() != 55)) {
    return std::nullopt;
  }
  TraceParent parsed;
  std::array<std::uint8_t, 1> flags{};
  if (!parse_hex(value.substr(3, 32), parsed.trace) || !parse_hex(value.substr(36, 16), parsed.parent)) {
    return std::nullopt;
  }
  parsed.sampled = parse_hex(value.substr(53, 2), flags) && (flags[0] & 1) != 0;
  return parsed;
}

std::string head_text(std::string_view text) {
  text = text.substr(0, kMaxTarget);
  return printable(text) ? std::string(text) : "";
}

namespace {

/// The value of a field; none where the head was cut in it.
std::string_view trimmed(std::string_view value) {
  value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
  return value.substr(0, value.find_last_not_of(" \t") + 1);
}

bool same_name(std::string_view name, std::string_view wanted) {
  return name.size() == wanted.size() && !wanted.empty() &&
         ::strncasecmp(name.data(), wanted.data(), wanted.size()) == 0;
}

}  // namespace

RequestHead parse_request_head(std::string_view head, std::string_view user_header) {
  RequestHead parsed;
  const std::size_t first = head.find(' ');
  const std::size_t line = head.find("\r\n");
  if (first == std::string_view::npos || first > 16 || !printable(head.substr(0, first))) {
    return parsed;
  }
  parsed.method = head.substr(0, first);
  const std::string_view rest =
      head.substr(first + 1, line == std::string_view::npos ? line : line - first - 1);
  parsed.target = head_text(rest.substr(0, rest.find(' ')));
  bool traced = false;
  for (std::size_t at = line; at != std::string_view::npos; at = head.find("\r\n", at + 2)) {
    const std::string_view field = head.substr(at + 2);
    const std::string_view name = field.substr(0, field.find_first_of(":\r"));
    const std::size_t end = field.find("\r\n");
    // A line that is cut may go on: its value is no value.
    if (name.empty() || end == std::string_view::npos || name.size() >= end) {
      continue;
    }
    const std::string_view value = trimmed(field.substr(name.size() + 1, end - name.size() - 1));
    if (!std::exchange(traced, traced || same_name(name, kTraceParent)) && same_name(name, kTraceParent)) {
      parsed.traceparent = parse_traceparent(value);
    } else if (parsed.user.empty() && same_name(name, user_header)) {
      parsed.user = value;
    }
  }
  return parsed;
}

std::string address_text(const std::uint8_t (&address)[16], std::uint16_t port) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const bool v4 = std::memcmp(address, kMapped.data(), kMapped.size()) == 0;
  ::inet_ntop(v4 ? AF_INET : AF_INET6, address + (v4 ? kMapped.size() : 0), text.data(), text.size());
  const std::string host = text.data();
  return (v4 ? host : "[" + host + "]") + ":" + std::to_string(port);
}

std::string path_template(std::string_view target) {
  target = target.substr(0, target.find_first_of("?#"));
  std::string path;
  while (!target.empty()) {
    const std::size_t slash = std::min(target.find('/', 1), target.size());
    const std::string_view segment =
        target.substr(target[0] == '/' ? 1 : 0, slash - (target[0] == '/' ? 1 : 0));
    path += target[0] == '/' ? "/" : "";
    path += identifies(segment) ? "{id}" : std::string(segment);
    target.remove_prefix(slash);
  }
  return path;
}

Span read_span(const ballast_span_value& row, Http2Heads& heads, const UserKey& users) {
  Span span;
  span.cgroup = row.cgroup_id;
  span.role = row.role;
  span.protocol = row.protocol;
  span.status = row.status;
  span.start = row.start_ns;
  span.first_byte = row.first_byte_ns;
  span.end = row.end_ns;
  span.local = address_text(row.local, row.local_port);
  span.peer = address_text(row.peer, row.peer_port);
  if (row.protocol == BALLAST_PROTOCOL_GRPC && row.grpc_status < BALLAST_GRPC_STATUSES - 1) {
    span.grpc_status = row.grpc_status;
  }
  const std::size_t size = std::min<std::size_t>(row.head_len, sizeof row.head);
  span.head = row.protocol == BALLAST_PROTOCOL_HTTP1
                  ? parse_request_head({reinterpret_cast<const char*>(row.head), size}, users.header())
                  : heads.read(row, users.header());
  span.head.user = users.of(span.head.user);
  const bool client = row.role == BALLAST_ROLE_CLIENT;
  const std::string tuple = (client ? span.local : span.peer) + (client ? span.peer : span.local);
  span.message = fnv(fnv(kFnvBasis, tuple.data(), tuple.size()), &row.seq, sizeof row.seq);
  span.id = span_id(span.message, row.role);
  return span;
}

namespace {

/// Finds spans by what links them: with thousands held, looking through all would cost a tick.
class SpanIndex {
 public:
  explicit SpanIndex(const std::vector<Span>& spans) {
    for (const Span& span : spans) {
      by_id_.emplace(key(span.id), &span);
      if (span.role == BALLAST_ROLE_CLIENT) {
        clients_.emplace(span.message, &span);
      } else {
        servers_.emplace(span.cgroup, &span);
      }
    }
  }
  const Span* find(const SpanId& id) const { return at(by_id_, key(id)); }
  const Span* client_of(const Span& server) const { return at(clients_, server.message); }

  /// The request that the client's own cgroup was answering meanwhile.
  const Span* cause_of(const Span& client) const {
    const Span* cause = nullptr;
    const auto [begin, end] = servers_.equal_range(client.cgroup);
    for (auto entry = begin; entry != end; ++entry) {
      const Span& other = *entry->second;
      if (other.start > client.start || other.end < client.end) {
        continue;
      }
      const auto& theirs = other.head.traceparent;
      const auto& ours = client.head.traceparent;
      if (ours && theirs && ours->trace == theirs->trace) {
        return &other;
      }
      if (ours && theirs) {
        continue;
      }
      if (cause != nullptr) {
        return nullptr;  // two candidates and nothing that tells them apart
      }
      cause = &other;
    }
    return cause;
  }

 private:
  static std::uint64_t key(const SpanId& id) {
    std::uint64_t value = 0;
    std::memcpy(&value, id.data(), id.size());
    return value;
  }
  static const Span* at(const std::unordered_map<std::uint64_t, const Span*>& map, std::uint64_t key) {
    const auto found = map.find(key);
    return found == map.end() ? nullptr : found->second;
  }
  std::unordered_map<std::uint64_t, const Span*> by_id_;
  std::unordered_map<std::uint64_t, const Span*> clients_;  ///< by message
  std::unordered_multimap<CgroupId, const Span*> servers_;
};

void find_parent(Span& span, const SpanIndex& index) {
  const auto& carried = span.head.traceparent;
  const Span* parent = span.role == BALLAST_ROLE_SERVER ? index.client_of(span) : index.cause_of(span);
  const bool own_span = span.role == BALLAST_ROLE_CLIENT && carried &&
                        !(parent != nullptr && parent->head.traceparent == carried);
  if (parent != nullptr && !own_span) {
    span.parent = parent->id;
  } else if (carried) {
    span.parent = carried->parent;
  }
}

void find_trace(Span& span, const SpanIndex& index, std::size_t spans) {
  const Span* at = &span;
  // A chain longer than there are spans would be a circle.
  for (std::size_t steps = 0; steps <= spans; ++steps) {
    if (at->head.traceparent) {
      span.trace = at->head.traceparent->trace;
      return;
    }
    const Span* up = at->parent ? index.find(*at->parent) : nullptr;
    if (up == nullptr) {
      break;
    }
    at = up;
  }
  std::memcpy(span.trace.data(), &at->message, sizeof at->message);
  std::memcpy(span.trace.data() + sizeof at->message, at->id.data(), at->id.size());
}

}  // namespace

void join_spans(std::vector<Span>& spans) {
  const SpanIndex index(spans);
  for (Span& span : spans) {
    span.parent.reset();
    find_parent(span, index);
  }
  for (Span& span : spans) {
    find_trace(span, index, spans.size());
  }
}

std::string hex(std::string_view bytes) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  for (const unsigned char byte : bytes) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 15];
  }
  return text;
}

}  // namespace ballast::sample
