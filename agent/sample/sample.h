// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <vector>

#include "agent/sample/map_fill.h"
#include "agent/sample/pressure.h"
#include "bpf/wire/wire.h"
#include "core/base/clock.h"
#include "core/spec/latency.h"

namespace ballast::sample {

using CgroupId = std::uint64_t;

/// What one cgroup did in one tick. Deltas are wrap and restart safe: a counter that went back
/// (map made anew) counts from zero. Server role only; client-side calls are never mixed in.
struct CgroupSample {
  CgroupId id = 0;
  std::uint64_t requests = 0;    ///< that began in the tick
  std::uint64_t responses = 0;   ///< that ended in the tick
  std::int64_t in_flight = 0;    ///< now
  std::uint64_t errors = 0;      ///< failed answers (Outcomes::failed) and `unanswered`
  std::uint64_t unanswered = 0;  ///< that ended without an answer, whoever gave up
  std::uint64_t unknown = 0;     ///< of `responses`: whose status was not seen
  std::array<std::uint64_t, BALLAST_STATUS_CLASSES> answers{};  ///< `responses` by class of HTTP status
  spec::Latency first_byte;
  spec::Latency last_byte;
  spec::Latency grpc_last_byte;  ///< the part of last_byte that gRPC has
  std::int64_t connections = 0;  ///< open now; see Reconciler
  /// Open connections by the kernel's socket table less those that the programs counted, at the
  /// last reconcile. None: the table does not speak for this cgroup.
  std::optional<std::int64_t> connection_drift;

  std::uint64_t on_cpu_ns = 0;
  std::uint64_t wait_ns = 0;  ///< runnable, not running; throttled time included (CpuSource: or it alone)
  std::uint64_t self_wait_ns = 0;  ///< the part of it in which the cgroup itself had the CPU
  /// Waiting for its own quota that is not in wait_ns: none from a kernel, the simulator's.
  std::uint64_t quota_wait_ns = 0;
  std::uint64_t throttled_ns = 0;  ///< from the cgroup's cpu.stat; 0 where there is no quota
  /// CPUs' worth the cgroup may use: the tightest quota from it to the root, and no more than the
  /// machine has. 0 when it could not be read.
  double cpu_limit_cores = 0;
  std::uint64_t memory_bytes = 0;        ///< 0 when it could not be read
  std::uint64_t memory_limit_bytes = 0;  ///< 0: none
  Pressures pressures;                   ///< totals, read once a second
};

/// What a caller's sockets saw of one peer: totals.
struct CallRow {
  ballast_call_key key{};
  ballast_call_value value{};
};

/// One tick of the whole node.
struct Sample {
  MonotonicNs taken = 0;        ///< when the maps were read
  MonotonicNs interval_ns = 0;  ///< since the sample before; 0 for the first, whose deltas are empty
  std::vector<CgroupSample> cgroups;
  std::array<ballast_loss_value, BALLAST_LOSS_REASONS> loss{};  ///< totals
  std::uint64_t reconcile_failures = 0;       ///< times that netlink refused its socket table, a total
  std::vector<MapFill> maps;                  ///< as counted at the last reconcile
  std::optional<std::vector<CallRow>> calls;  ///< once a second
};

}  // namespace ballast::sample
