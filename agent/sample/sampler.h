// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/sample/cgroup_files.h"
#include "agent/sample/maps.h"
#include "agent/sample/sample.h"
#include "core/base/result.h"

namespace ballast::sample {

/// A cgroup whose own files (quota, throttling, memory) are wanted. The path is relative to the
/// cgroup v2 root, with a leading slash. What the cgroups of `nested` did counts as its own too: a runtime
/// may put a container's processes below the container's cgroup (crun's "container", a systemd inside the
/// pod).
struct CgroupRef {
  CgroupId id = 0;
  std::string path;
  std::vector<CgroupId> nested = {};
};

/// Everything the maps say at one moment: totals since they were made.
struct Totals {
  MonotonicNs taken = 0;
  std::vector<RequestRow> requests;
  std::vector<std::pair<CgroupId, ballast_connection_value>> connections;
  std::vector<std::pair<CgroupId, ballast_cpu_value>> cpu;
  std::vector<ballast_running_value> running;
  std::array<ballast_loss_value, BALLAST_LOSS_REASONS> loss{};
};

/// Reads all of it; `taken` is stamped after the last map.
Result<Totals> read_totals(const PinnedMaps& maps, const Clock& clock);

/// Where on-CPU time comes from.
enum class CpuSource {
  kScheduler,    ///< the maps: every cgroup, and what it waited
  kCgroupFiles,  ///< where the kernel refused the probe: wanted cgroups alone; of waiting only what quotas
                 ///< cause
};

/// Makes ticks of totals. A counter that went back (maps made anew) counts from zero; a cgroup
/// that is new counts whole; the first sample has empty deltas.
class Sampler {
 public:
  using Source = std::function<Result<Totals>()>;

  /// `source` is usually read_totals() of the pinned maps.
  Sampler(Source source, CgroupRoots roots, CpuSource cpu = CpuSource::kScheduler);
  Sampler(Sampler&&) noexcept;
  Sampler& operator=(Sampler&&) noexcept;
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;
  ~Sampler();

  /// Cgroups of `wanted` get their files' figures too, whether or not the maps know them; all
  /// others get what the maps have. On error the next call's deltas span both ticks.
  Result<Sample> sample(const std::vector<CgroupRef>& wanted);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ballast::sample
