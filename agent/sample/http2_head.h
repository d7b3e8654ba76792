// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

#include "agent/sample/request_head.h"
#include "bpf/wire/wire.h"
#include "core/base/clock.h"

namespace ballast::sample {

/// Reads the HEADERS frames of sampled HTTP/2 requests (RFC 9113, 6.2; RFC 7541).
///
/// An index into a connection's dynamic table names an entry by its ordinal, which the kernel counts.
/// Of the heads that were read the entries that matter are kept, so an index to one of them is known
/// however many heads were not sampled in between. Any other is not: that field stays empty.
/// Connections of which nothing came for kForgetNs are forgotten, all of them when there are more
/// than kMost.
class Http2Heads {
 public:
  static constexpr MonotonicNs kForgetNs = 60'000'000'000ULL;
  static constexpr std::size_t kMost = 4096;

  /// Rows of one connection are best read in the order in which they began.
  /// `user_header` in lower case, the same each time; empty: none.
  RequestHead read(const ballast_span_value& row, std::string_view user_header = {});

 private:
  struct Field {
    std::string name;
    std::string value;
  };
  struct Connection {
    std::map<std::uint32_t, Field> entries;  ///< by ordinal
    std::uint32_t inserted = 0;              ///< when its last head began
    MonotonicNs used = 0;
  };
  Connection& connection_of(const ballast_span_value& row);
  static RequestHead decode(Connection& connection, std::uint32_t inserted, std::string_view block,
                            std::string_view user_header);

  std::map<std::string, Connection> connections_;  ///< by both ends and the role
};

}  // namespace ballast::sample
