// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/identity/identity.h"
#include "agent/sample/gone.h"
#include "agent/sample/maps.h"
#include "agent/turn/decision.h"
#include "core/base/result.h"
#include "core/spec/telemetry.h"

namespace ballast::telemetry {

/// What holds for every row of a tick, and for the heartbeat.
struct TickState {
  MonotonicNs now = 0;
  std::uint32_t tick_ms = 0;
  guard::Mode mode = guard::Mode::kOff;
  std::size_t subscribers = 0;
  std::string policy;
  std::uint64_t policy_epoch = 0;
  std::uint64_t policy_version = 0;
  std::uint32_t policy_crc32 = 0;
  std::string sink;
  std::string loop;     ///< profile of the loop through the sink; empty: none is known
  std::string leader;   ///< WeightSink::leader()
  std::string trouble;  ///< what is in the way now; empty when nothing is
};

/// Keeps what ballastctl shows in the pinned maps: names of cgroups, the last decision of each
/// endpoint, the heartbeat. It is all there when ballastd is dead.
///
/// A row is written at once when its weight, what became of it, its guard reasons, its action, its state or
/// its policy changes. Measured quantities change in every tick: their rows are written in turn, at most
/// kRefresh of them a tick, so the cost of a tick is bounded; decided_ns tells a row's age. Rows of
/// cgroups and endpoints that have gone are erased, also those that a former ballastd left.
class StateWriter {
 public:
  static constexpr std::size_t kRefresh = 256;

  /// Learns which rows are there already.
  static Result<StateWriter> create(sample::PinnedMaps maps);

  /// A name stays as long as the figures of a cgroup that is gone do (sample::GoneCgroups): those of a
  /// container that restarted are read under its name.
  Status write_identity(const std::vector<identity::Pod>& pods, MonotonicNs now = SystemClock().now());
  /// `services` is all of the tick: endpoints that are in none of them are erased.
  Status write_decisions(const std::vector<turn::Decision>& services, const TickState& tick);
  /// What the loader wrote into meta stays.
  Status heartbeat(const TickState& tick);

 private:
  /// The part of a row whose change is written at once.
  struct Pressing {
    std::uint32_t weight = 0;
    std::uint32_t in_force = 0;
    guard::Outcome outcome = guard::Outcome::kNone;
    std::uint32_t guard_reasons = 0;
    std::uint32_t action = 0;
    guard::Mode mode = guard::Mode::kOff;
    bool neutral = true;
    std::uint64_t policy_epoch = 0;
    std::uint64_t policy_version = 0;
    bool operator==(const Pressing&) const = default;
  };
  struct Row {
    Pressing pressing;
    std::uint64_t written_at = 0;  ///< generation of the last write; 0: never by us
    std::uint64_t seen_at = 0;     ///< generation of the last tick that had the endpoint
  };
  using Rows = std::unordered_map<std::string, Row>;  ///< by pod

  explicit StateWriter(sample::PinnedMaps maps) : maps_(std::move(maps)) {}
  Status write_service(const turn::Decision& service, const TickState& tick, std::size_t& refreshed);
  Status erase_gone();

  sample::PinnedMaps maps_;
  std::unordered_map<sample::CgroupId, identity::Pod> identities_;
  sample::GoneCgroups gone_;
  std::map<spec::ServiceId, Rows> rows_;
  std::uint64_t generation_ = 0;      ///< counts write_decisions()
  std::uint64_t refresh_before_ = 0;  ///< rows last written before this generation are due
};

}  // namespace ballast::telemetry
