// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "bpf/lib/http2.h"

namespace ballast::bpf {

/// Feeds one direction of a connection to the parsers as the BPF program does: HTTP/1 first, and
/// HTTP/2 from where that recognises it.
class Http2Driver {
 public:
  struct Event {
    int kind = HTTP2_MORE;
    u32 stream = 0;
    bool end_stream = false;
    int side = 0;
    int status = 0;
    int grpc_status = 0;
    bool grpc = false;
    u32 last_id = 0;
    bool operator==(const Event&) const = default;
  };

  /// `adopted`: met in mid-life, so that any frame may come first.
  explicit Http2Driver(bool adopted = false) : adopted_(adopted) {}

  void packet(std::string_view bytes) {
    if (http2_ && frames_.state == HTTP2_LOST) {
      http2_resume(&frames_);
    }
    if (!http2_ && stream_.state == HTTP1_LOST) {
      stream_.state = HTTP1_START;
    }
    ++now_;
    while (!bytes.empty()) {
      bytes.remove_prefix(std::min(bytes.size(), http2_ ? frames(bytes) : text(bytes)));
    }
  }
  /// The same stream in packets of `size` bytes.
  void packets(std::string_view bytes, std::size_t size) {
    for (std::size_t at = 0; at < bytes.size(); at += size) {
      packet(bytes.substr(at, size));
    }
  }
  /// `bytes` of the stream were never seen.
  void gap(u32 bytes) {
    if (http2_skips(&frames_, bytes)) {
      frames_.length -= bytes;
    } else {
      http2_lose(&frames_);
    }
  }

  bool speaks_http2() const { return http2_; }
  const std::vector<Event>& events() const { return events_; }
  std::size_t count(int kind) const {
    return static_cast<std::size_t>(
        std::count_if(events_.begin(), events_.end(), [=](const Event& e) { return e.kind == kind; }));
  }
  int bad() const { return bad_; }
  http2_direction& direction() { return frames_; }

 private:
  void fill(std::string_view bytes) {
    window_->pos = 0;
    window_->end = std::min<u32>(static_cast<u32>(bytes.size()), HTTP1_WINDOW);
    std::memset(window_->bytes, 0x0a, sizeof window_->bytes);  // what lies behind must not matter
    std::memcpy(window_->bytes, bytes.data(), window_->end);
  }

  std::size_t text(std::string_view bytes) {
    fill(bytes);
    const int event = http1_run(&stream_, window_.get(), static_cast<u32>(bytes.size()), now_);
    if (event == HTTP1_SWITCH) {
      const bool framed = stream_.state == HTTP1_FRAME;
      frames_.strict = 1;
      const bool fits = !framed || adopted_ || static_cast<u8>(stream_.token >> 40) == HTTP2_SETTINGS;
      const int taken = fits ? http2_take_over(&frames_, &stream_) : HTTP2_BAD;
      http2_ = taken != HTTP2_BAD;
      if (http2_) {
        note(taken);
        return window_->pos;
      }
    }
    if (event == HTTP1_MORE) {
      return window_->pos;
    }
    stream_.state = HTTP1_LOST;
    ++bad_;
    return bytes.size();
  }

  std::size_t frames(std::string_view bytes) {
    fill(bytes);
    const int event = http2_run(&frames_, window_.get(), static_cast<u32>(bytes.size()), now_);
    if (event == HTTP2_BAD) {
      ++bad_;
      return bytes.size();
    }
    note(event);
    return window_->pos;
  }

  void note(int kind) {
    const hpack_decoder& fields = frames_.fields;
    switch (kind) {
      case HTTP2_HEAD:
        events_.push_back({kind, frames_.stream, (frames_.block_flags & HTTP2_END_STREAM) != 0, fields.side,
                           fields.status, fields.grpc_status, fields.grpc != 0, 0});
        return;
      case HTTP2_AWAY:
        events_.push_back({kind, 0, false, 0, 0, 0, false, frames_.last_id});
        return;
      case HTTP2_MORE:
        return;
      default:
        events_.push_back({kind, frames_.stream});
    }
  }

  bool adopted_;
  bool http2_ = false;
  http1_stream stream_{};
  http2_direction frames_{};
  /// Of its own, so that AddressSanitizer sees a step outside.
  std::unique_ptr<http1_window> window_ = std::make_unique<http1_window>();
  std::vector<Event> events_;
  int bad_ = 0;
  u64 now_ = 0;
};

}  // namespace ballast::bpf
