// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace ballast::bench {

/// Counts the responses in one connection's bytes. Written apart from bpf/lib/http1.h on purpose:
/// it is the count that the kernel's count is held against. Knows what the servers of the
/// benchmark send: Content-Length, chunked (RFC 9112, 7.1), or the end of the connection.
class ReplyParser {
 public:
  /// Responses that ended in these bytes. A byte that cannot be makes broken() true for good.
  std::size_t feed(std::string_view bytes);
  /// The peer closed: 1 when that ended a body without a length, else 0.
  std::size_t finish();
  bool broken() const { return state_ == State::kBroken; }
  /// Responses that ended with a status other than 2xx.
  std::uint64_t failures() const { return failures_; }

 private:
  enum class State { kLine, kBody, kChunk, kUntilClose, kBroken };
  std::size_t line();
  std::size_t head_line();
  std::size_t end_of_head();
  std::size_t chunk_line();
  std::size_t end();

  State state_ = State::kLine;
  std::string line_;
  bool in_head_ = false;
  bool in_chunks_ = false;
  bool last_chunk_ = false;
  bool chunked_ = false;
  bool has_length_ = false;
  std::uint64_t remaining_ = 0;
  int status_ = 0;
  std::uint64_t failures_ = 0;
};

}  // namespace ballast::bench
