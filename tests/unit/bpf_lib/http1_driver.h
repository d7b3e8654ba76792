// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bpf/lib/http1.h"

namespace ballast::bpf {

/// Feeds one direction of a connection to the parser as the BPF program does, a window at a time.
class Http1Driver {
 public:
  struct Message {
    int kind = HTTP1_UNKNOWN;
    int status = 0;
    int flags = 0;  ///< of the request's method
    bool complete = false;
    bool operator==(const Message&) const = default;
  };

  /// `request_flags` are those of the request that a response answers.
  /// `answered`: so was the request whose body is still to begin.
  void packet(std::string_view bytes, u8 request_flags = 0, bool answered = false) {
    if (stream_.state == HTTP1_LOST) {
      stream_.state = HTTP1_START;
    }
    if (http1_expects(&stream_) != 0) {
      stream_.flags &= static_cast<u8>(~HTTP1_EXPECTS);
      if (answered) {
        http1_reconsider(&stream_);
      }
    }
    const std::string_view whole = bytes;
    while (!bytes.empty()) {
      bytes.remove_prefix(window(bytes, request_flags));
      bytes = std::exchange(resumed_, false) ? whole : bytes;
    }
    stream_.resume = 0;
  }
  /// The same stream in packets of `size` bytes.
  void packets(std::string_view bytes, std::size_t size, u8 request_flags = 0) {
    for (std::size_t at = 0; at < bytes.size(); at += size) {
      packet(bytes.substr(at, size), request_flags);
    }
  }

  const std::vector<Message>& messages() const { return messages_; }
  std::size_t complete() const {
    return static_cast<std::size_t>(
        std::count_if(messages_.begin(), messages_.end(), [](const Message& m) { return m.complete; }));
  }
  int bad() const { return bad_; }
  /// Runs of the parser so far.
  int windows() const { return windows_; }
  int state() const { return stream_.state; }
  http1_stream& stream() { return stream_; }

 private:
  std::size_t window(std::string_view bytes, u8 request_flags) {
    const auto left = static_cast<u32>(bytes.size());
    ++windows_;
    window_->pos = 0;
    window_->end = std::min<u32>(left, HTTP1_WINDOW);
    std::memset(window_->bytes, 0x0a, sizeof window_->bytes);  // what lies behind must not matter
    std::memcpy(window_->bytes, bytes.data(), window_->end);
    int event = http1_run(&stream_, window_.get(), left, ++now_);
    std::size_t eaten = window_->pos;
    if ((stream_.flags & HTTP1_OPENED) != 0 && event != HTTP1_BAD) {
      stream_.flags &= static_cast<u8>(~HTTP1_OPENED);
      stream_.resume = 0;
      messages_.push_back(
          {stream_.kind, stream_.status, stream_.flags & (HTTP1_HEAD_METHOD | HTTP1_CONNECT_METHOD), false});
    }
    if (event == HTTP1_HEAD) {
      event = http1_begin_body(&stream_, request_flags);
      if (left > eaten) {
        stream_.flags &= static_cast<u8>(~HTTP1_EXPECTS);
      }
      if (event == HTTP1_MORE) {
        eaten += http1_skip(&stream_, left - eaten, &event);
      }
    }
    if (event == HTTP1_END && !messages_.empty()) {
      messages_.back().complete = true;
    }
    if (event == HTTP1_BAD) {
      if (http1_resumes(&stream_) != 0) {
        resumed_ = true;
        return 0;
      }
      ++bad_;
      return bytes.size();
    }
    return eaten;
  }

  http1_stream stream_{};
  /// Of its own, so that AddressSanitizer sees a step outside.
  std::unique_ptr<http1_window> window_ = std::make_unique<http1_window>();
  std::vector<Message> messages_;
  int bad_ = 0;
  int windows_ = 0;
  bool resumed_ = false;
  u64 now_ = 0;
};

}  // namespace ballast::bpf
