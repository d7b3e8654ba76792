// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/telemetry/reply_parser.h"

#include <strings.h>

#include <algorithm>
#include <charconv>

namespace ballast::bench {

namespace {

constexpr std::size_t kMaxLine = 16384;

/// The value of a field line when its name is `name`; empty when it is another.
std::string_view field_value(std::string_view line, std::string_view name) {
  if (line.size() <= name.size() || line[name.size()] != ':' ||
      ::strncasecmp(line.data(), name.data(), name.size()) != 0) {
    return {};
  }
  line.remove_prefix(name.size() + 1);
  line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
  return line;
}

}  // namespace

std::size_t ReplyParser::feed(std::string_view bytes) {
  std::size_t ended = 0;
  while (!bytes.empty()) {
    switch (state_) {
      case State::kLine: {
        const std::size_t end = bytes.find('\n');
        line_.append(bytes.substr(0, end));
        if (end == std::string_view::npos) {
          state_ = line_.size() > kMaxLine ? State::kBroken : state_;
          return ended;
        }
        bytes.remove_prefix(end + 1);
        if (!line_.empty() && line_.back() == '\r') {
          line_.pop_back();
        }
        ended += line();
        line_.clear();
        break;
      }
      case State::kBody:
      case State::kChunk: {
        const auto n = std::min<std::uint64_t>(remaining_, bytes.size());
        remaining_ -= n;
        bytes.remove_prefix(n);
        if (remaining_ == 0) {
          ended += state_ == State::kBody ? end() : 0;
          state_ = State::kLine;
        }
        break;
      }
      case State::kUntilClose:
      case State::kBroken:
        return ended;
    }
  }
  return ended;
}

std::size_t ReplyParser::finish() {
  return state_ == State::kUntilClose ? end() : 0;
}

std::size_t ReplyParser::line() {
  return in_chunks_ ? chunk_line() : head_line();
}

std::size_t ReplyParser::head_line() {
  const std::string_view line(line_);
  if (!in_head_) {
    const bool parsed = line.substr(0, 7) == "HTTP/1." && line.size() >= 12 &&
                        std::from_chars(line.data() + 9, line.data() + 12, status_).ec == std::errc{};
    state_ = parsed ? State::kLine : State::kBroken;
    in_head_ = true;
    chunked_ = has_length_ = false;
    remaining_ = 0;
    return 0;
  }
  if (line.empty()) {
    return end_of_head();
  }
  if (const auto value = field_value(line, "Content-Length"); !value.empty()) {
    has_length_ = std::from_chars(value.data(), value.data() + value.size(), remaining_).ec == std::errc{};
  } else if (field_value(line, "Transfer-Encoding") == "chunked") {
    chunked_ = true;
  }
  return 0;
}

std::size_t ReplyParser::end_of_head() {
  in_head_ = false;
  if (status_ / 100 == 1) {
    return 0;
  }
  if (status_ == 204 || status_ == 304) {
    return end();
  }
  if (chunked_) {
    in_chunks_ = true;
    last_chunk_ = false;
    remaining_ = 0;
    return 0;
  }
  if (!has_length_) {
    state_ = State::kUntilClose;
    return 0;
  }
  if (remaining_ == 0) {
    return end();
  }
  state_ = State::kBody;
  return 0;
}

std::size_t ReplyParser::chunk_line() {
  if (last_chunk_) {  // a trailer, or the empty line that ends the message
    return line_.empty() ? end() : 0;
  }
  if (line_.empty()) {  // what ends a chunk's data
    return 0;
  }
  std::uint64_t size = 0;
  if (std::from_chars(line_.data(), line_.data() + line_.size(), size, 16).ec != std::errc{}) {
    state_ = State::kBroken;
    return 0;
  }
  last_chunk_ = size == 0;
  remaining_ = size;
  state_ = size == 0 ? State::kLine : State::kChunk;
  return 0;
}

std::size_t ReplyParser::end() {
  in_head_ = in_chunks_ = false;
  state_ = State::kLine;
  failures_ += status_ / 100 != 2;
  return 1;
}

}  // namespace ballast::bench
