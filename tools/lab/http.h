// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace ballast::lab {

/// IPv4 address and port on loopback.
struct Endpoint {
  std::string address;
  std::uint16_t port = 0;
  std::string text() const { return address + ":" + std::to_string(port); }
};

/// A listening TCP socket (close-on-exec). The error names the address.
Result<UniqueFd> listen_on(const Endpoint& endpoint, bool nonblocking);
/// Starts to connect without waiting; the socket is non-blocking.
Result<UniqueFd> connect_nonblocking(const Endpoint& endpoint);

/// One HTTP/1.1 response read piece by piece: enough for what Envoy and our pods send.
class ResponseParser {
 public:
  enum class State { kMore, kDone, kBad };
  /// Takes bytes over. kDone once the body is whole; bytes after it make the response kBad, since
  /// nothing is pipelined.
  State feed(std::string_view bytes);
  /// The peer closed: kDone for a body that ends there, else kBad.
  State close();
  void reset() { *this = ResponseParser(keep_body_); }

  int status() const { return status_; }
  bool keep_alive() const { return keep_alive_; }
  const std::string& body() const { return body_; }

  explicit ResponseParser(bool keep_body = false) : keep_body_(keep_body) {}

 private:
  enum class Phase { kHead, kSized, kChunkSize, kChunk, kTrailer, kUntilClose, kDone, kBad };
  void step();
  void head(std::string_view text);
  bool line(std::string& out);

  bool keep_body_;
  Phase phase_ = Phase::kHead;
  std::string buffer_;
  std::string body_;
  int status_ = 0;
  bool keep_alive_ = true;
  std::size_t left_ = 0;
};

/// GET on a fresh connection, bounded by the time given. Errors name the endpoint and the path.
Result<std::string> http_get(const Endpoint& endpoint, const std::string& path, int timeout_ms);

}  // namespace ballast::lab
