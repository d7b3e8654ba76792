// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <unordered_map>

#include "agent/sample/sample.h"
#include "core/base/result.h"

namespace ballast::sample {

/// What the kernel's own socket table says of one cgroup's TCP sockets, IPv4 and IPv6.
struct CgroupSockets {
  std::int64_t open = 0;                  ///< established, or on the way to being closed
  std::uint64_t srtt_us_sum = 0;          ///< smoothed RTT, summed over `open`
  std::uint64_t retransmits = 0;          ///< segments sent again by the sockets open now
  std::uint64_t receive_queue_bytes = 0;  ///< arrived, not read by the application
  std::uint64_t send_queue_bytes = 0;     ///< written, not acknowledged
  std::uint64_t listeners = 0;
  std::uint64_t accept_queue = 0;        ///< connections made that nobody accepted yet
  std::uint64_t accept_queue_limit = 0;  ///< summed over listeners
};

/// One dump. Sees the sockets of one network namespace, whatever cgroup they are in.
struct SocketTable {
  std::unordered_map<CgroupId, CgroupSockets> cgroups;
  /// Sockets told without a cgroup: kernels before 5.9 (6e3a401fc8af, "inet_diag: Add cgroup id
  /// attribute") tell none.
  std::uint64_t without_cgroup = 0;
  /// The table changed under the dump: a few sockets may be missing or double.
  bool interrupted = false;
};

/// Adds the messages of one datagram to `table`. true: the dump is complete. Errors: the kernel
/// refused (kPrivilege for EPERM and EACCES), or the datagram is cut or no answer to a dump; what
/// came before it in the datagram is in the table.
Result<bool> parse_sock_diag(std::span<const std::byte> datagram, SocketTable& table);

/// Reads the socket tables through sock_diag(7). Needs no privilege for sockets of its own network
/// namespace.
class SockDiag {
 public:
  static Result<SockDiag> open();
  SockDiag(SockDiag&&) noexcept;
  SockDiag& operator=(SockDiag&&) noexcept;
  SockDiag(const SockDiag&) = delete;
  SockDiag& operator=(const SockDiag&) = delete;
  ~SockDiag();

  /// Waits at most a second for each part. After an error the next call begins anew.
  Result<SocketTable> read();

 private:
  struct State;
  explicit SockDiag(std::unique_ptr<State> state);
  Status dump(int family, SocketTable& table);
  std::unique_ptr<State> state_;
};

}  // namespace ballast::sample
