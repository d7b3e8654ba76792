// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace ballast::lab {

/// Where this machine keeps its cgroups. The v2 hierarchy gives identity everywhere; CPU time is
/// limited by v1's cpu controller where it is mounted (hybrid hosts), else by v2's cpu.max.
struct CgroupLayout {
  std::filesystem::path v2;
  std::filesystem::path v1_cpu;      ///< empty on a pure v2 host
  std::filesystem::path v1_cpuacct;  ///< may be the same mount
  std::filesystem::path v1_memory;
  bool hybrid() const { return !v1_cpu.empty(); }
  /// v2 and the v1 mounts in use, each once.
  std::vector<std::filesystem::path> roots() const;
};

/// From the text of /proc/self/mountinfo. kPrivilege when there is no cgroup v2.
Result<CgroupLayout> parse_cgroup_layout(const std::string& mountinfo);
Result<CgroupLayout> detect_cgroup_layout();

/// One pod's cgroup at the same relative path in all hierarchies. Does not own it: the run's
/// janitor removes the whole folder, also when we are killed.
class PodCgroup {
 public:
  /// `relative` without a leading slash, e.g. "ballast-lab-1a2b/web-0".
  static Result<PodCgroup> create(const CgroupLayout& layout, const std::string& relative);

  /// quota in CPUs, per period.
  Status set_quota(double cpus, int period_ms) const;
  /// CPU time used so far.
  Result<double> cpu_seconds() const;
  /// Folders that a process of the pod has to enter.
  std::vector<std::filesystem::path> folders() const;
  /// Relative to the v2 root, with a leading slash, as a static identity names it.
  std::string identity() const { return "/" + relative_; }

 private:
  PodCgroup(CgroupLayout layout, std::string relative)
      : layout_(std::move(layout)), relative_(std::move(relative)) {}
  CgroupLayout layout_;
  std::string relative_;
};

/// Kills what runs in the folders `relative` of all hierarchies and removes them with all below,
/// trying for two seconds. Touches nothing outside.
void remove_cgroups(const CgroupLayout& layout, const std::string& relative);

}  // namespace ballast::lab
