// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/http2_head.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <memory>
#include <optional>

namespace ballast::sample {

namespace {

constexpr std::size_t kFrameHeader = 9;
constexpr std::uint8_t kHeaders = 1;
constexpr std::uint8_t kPadded = 0x8;
constexpr std::uint8_t kHasPriority = 0x20;
/// Entries that the default table of 4,096 bytes holds at most, of 32 bytes and a name each.
constexpr std::uint32_t kEntries = 128;
constexpr std::uint32_t kTableBytes = 65'536;
constexpr std::string_view kUnknown = "?";

struct InflaterDeleter {
  void operator()(nghttp2_hd_inflater* inflater) const { ::nghttp2_hd_inflate_del(inflater); }
};
using Inflater = std::unique_ptr<nghttp2_hd_inflater, InflaterDeleter>;

/// RFC 7541, 5.1.
void put_integer(std::string& out, std::uint8_t first, std::uint8_t mask, std::uint32_t value) {
  if (value < mask) {
    out += static_cast<char>(first | value);
    return;
  }
  out += static_cast<char>(first | mask);
  for (value -= mask; value >= 0x80; value >>= 7) {
    out += static_cast<char>(0x80 | (value & 0x7f));
  }
  out += static_cast<char>(value);
}

void put_entry(std::string& out, std::string_view name, std::string_view value) {
  out += '\x40';
  put_integer(out, 0, 0x7f, static_cast<std::uint32_t>(name.size()));
  out += name;
  put_integer(out, 0, 0x7f, static_cast<std::uint32_t>(value.size()));
  out += value;
}

/// Leaves out changes of the table's size, which come first in a block (RFC 7541, 4.2).
std::string_view without_resizes(std::string_view block) {
  while (!block.empty() && (block[0] & 0xe0) == 0x20) {
    std::size_t size = 1;
    if ((block[0] & 0x1f) == 0x1f) {
      while (size < block.size() && (block[size] & 0x80) != 0) {
        ++size;
      }
      ++size;
    }
    block.remove_prefix(std::min(size, block.size()));
  }
  return block;
}

/// What it takes in: one field at a time.
class Reader {
 public:
  explicit Reader(Inflater inflater) : inflater_(std::move(inflater)) {}

  /// The next field, and whether it goes into the table. None: the end, a cut or nonsense.
  std::optional<nghttp2_nv> next(std::string_view& block, bool& inserts) {
    inserts = !block.empty() && (block[0] & 0xc0) == 0x40;
    while (!block.empty()) {
      nghttp2_nv field{};
      int flags = 0;
      const auto eaten =
          ::nghttp2_hd_inflate_hd2(inflater_.get(), &field, &flags,
                                   reinterpret_cast<const std::uint8_t*>(block.data()), block.size(), 0);
      if (eaten < 0) {
        return std::nullopt;
      }
      block.remove_prefix(static_cast<std::size_t>(eaten));
      if ((flags & NGHTTP2_HD_INFLATE_EMIT) != 0) {
        return field;
      }
      if (eaten == 0) {
        return std::nullopt;
      }
    }
    return std::nullopt;
  }

 private:
  Inflater inflater_;
};

std::string_view text(const std::uint8_t* bytes, std::size_t size) {
  return {reinterpret_cast<const char*>(bytes), size};
}

/// The header block of a HEADERS frame, as much of it as is there.
std::string_view block_of(const ballast_span_value& row) {
  std::string_view head = text(row.head, std::min<std::size_t>(row.head_len, sizeof row.head));
  if (head.size() < kFrameHeader || head[3] != kHeaders) {
    return {};
  }
  const auto byte = [&](std::size_t at) { return static_cast<std::uint8_t>(head[at]); };
  std::size_t length = std::size_t{byte(0)} << 16 | std::size_t{byte(1)} << 8 | byte(2);
  std::size_t skipped = 0;
  std::size_t padding = 0;
  if ((byte(4) & kPadded) != 0 && head.size() > kFrameHeader) {
    padding = byte(kFrameHeader);
    skipped = 1;
  }
  skipped += (byte(4) & kHasPriority) != 0 ? 5 : 0;
  if (skipped + padding > length || kFrameHeader + skipped > head.size()) {
    return {};
  }
  length -= skipped + padding;
  return head.substr(kFrameHeader + skipped, length);
}

bool matters(std::string_view name) {
  return name == ":method" || name == ":path" || name == "traceparent";
}

}  // namespace

RequestHead Http2Heads::decode(Connection& connection, std::uint32_t inserted, std::string_view block,
                               std::string_view user_header) {
  nghttp2_hd_inflater* made = nullptr;
  if (::nghttp2_hd_inflate_new(&made) != 0) {
    return {};
  }
  Inflater inflater(made);
  ::nghttp2_hd_inflate_change_table_size(made, kTableBytes);
  std::string table;
  put_integer(table, 0x20, 0x1f, kTableBytes);
  // The oldest first: the newest is what index 62 names.
  for (std::uint32_t back = kEntries; back-- > 0;) {
    const auto known = connection.entries.find(inserted - back);
    known == connection.entries.end() ? put_entry(table, kUnknown, "")
                                      : put_entry(table, known->second.name, known->second.value);
  }
  Reader reader(std::move(inflater));
  bool inserts = false;
  for (std::string_view seed = table; !seed.empty() && reader.next(seed, inserts);) {
  }
  RequestHead head;
  block = without_resizes(block);
  while (const auto field = reader.next(block, inserts)) {
    const std::string_view name = text(field->name, field->namelen);
    const std::string_view value = text(field->value, field->valuelen);
    if (name == ":method") {
      head.method = head_text(value);
    } else if (name == ":path") {
      head.target = head_text(value);
    } else if (name == "traceparent") {
      head.traceparent = parse_traceparent(value);
    } else if (!user_header.empty() && name == user_header) {
      head.user = value;
    }
    inserted += inserts ? 1 : 0;
    if (inserts && (matters(name) || name == user_header)) {
      connection.entries[inserted] = {std::string(name), std::string(value)};
    }
  }
  return head;
}

Http2Heads::Connection& Http2Heads::connection_of(const ballast_span_value& row) {
  std::string key(text(row.local, sizeof row.local));
  key += text(row.peer, sizeof row.peer);
  key +=
      std::to_string(row.local_port) + "," + std::to_string(row.peer_port) + "," + std::to_string(row.role);
  if (connections_.size() >= kMost && !connections_.contains(key)) {
    connections_.clear();
  }
  Connection& connection = connections_[key];
  // Another connection between the same ports begins anew.
  if (row.inserted < connection.inserted || row.start_ns > connection.used + kForgetNs) {
    connection.entries.clear();
  }
  connection.inserted = row.inserted;
  connection.used = row.start_ns;
  std::erase_if(connection.entries, [&](const auto& entry) {
    return row.inserted - entry.first >= kEntries && entry.first <= row.inserted;
  });
  return connection;
}

RequestHead Http2Heads::read(const ballast_span_value& row, std::string_view user_header) {
  const std::string_view block = block_of(row);
  return block.empty() ? RequestHead{} : decode(connection_of(row), row.inserted, block, user_header);
}

}  // namespace ballast::sample
