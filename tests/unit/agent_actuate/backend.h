// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <thread>

#include "core/base/unique_fd.h"

namespace ballast::actuate {

/// A tiny HTTP/1.1 server on one loopback address that answers 200 and counts.
class Backend {
 public:
  /// Listens on `address` at a port that the kernel chooses.
  explicit Backend(const std::string& address);
  ~Backend();
  Backend(const Backend&) = delete;
  Backend& operator=(const Backend&) = delete;

  std::uint16_t port() const { return port_; }  ///< 0: could not listen
  std::uint64_t take_requests() { return requests_.exchange(0); }

 private:
  void serve();

  UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::atomic<bool> stop_ = false;
  std::atomic<std::uint64_t> requests_ = 0;
  std::thread thread_;
};

/// GET on a connection of its own to 127.0.0.1; nullopt when no 200 came within five seconds.
std::optional<std::string> http_get(std::uint16_t port, const std::string& path);

}  // namespace ballast::actuate
