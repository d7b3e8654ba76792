// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <unordered_map>

#include "agent/sample/pressure.h"
#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace ballast::sample {

/// Where the controllers of this machine are. A cgroup v1 mount that is empty means that the
/// controller is on v2. A cgroup has the same relative path under every mount: that is how
/// container runtimes and ballast-lab lay it out.
struct CgroupRoots {
  std::filesystem::path v2;
  std::filesystem::path v1_cpu;
  std::filesystem::path v1_cpuset;
  std::filesystem::path v1_memory;
  double online_cpus = 1;

  /// From a mountinfo file (proc(5)) and the machine's CPU count. `v2`: the cgroup v2 mount to be read,
  /// empty: the first there is. Of several v1 mounts of a controller (a container's own beside the host's)
  /// the one beside `v2` is taken.
  static Result<CgroupRoots> discover(const std::filesystem::path& v2 = {},
                                      const std::filesystem::path& mountinfo = "/proc/self/mountinfo");
};

struct CgroupUsage {
  std::optional<std::uint64_t> cpu_ns;        ///< time on a CPU since the cgroup was made; none: no such file
  std::optional<std::uint64_t> throttled_ns;  ///< since the cgroup was made; none: no such file
  std::uint64_t memory_bytes = 0;             ///< 0 when it could not be read
  std::string quota;                          ///< its own CPU quota as the file has it; empty: no such file
};

struct CgroupLimits {
  double cpu_cores = 0;            ///< 0 when it could not be read
  std::uint64_t memory_bytes = 0;  ///< 0: none
};

/// Reads cgroups' own files, each through a descriptor that stays open: a tick costs one pread(2)
/// a figure. Files of a cgroup that has gone read as nothing, and are looked for again.
class CgroupFiles {
 public:
  explicit CgroupFiles(CgroupRoots roots) : roots_(std::move(roots)) {}

  /// CPU time, throttled time, memory in use and the quota's text. `path` is relative to the v2 root, with a
  /// leading slash.
  CgroupUsage usage(const std::string& path);
  /// The tightest quota, CPU set and memory limit from the cgroup up to the root, capped by the
  /// machine. Reads every level: for once a second, not for every tick.
  CgroupLimits limits(const std::string& path);
  /// As limits(): for once a second.
  Pressures pressures(const std::string& path) const;
  /// Closes what belongs to a cgroup.
  void forget(const std::string& path);

 private:
  struct Open {
    UniqueFd usage_cpu;
    UniqueFd usage_cpu_v1;
    UniqueFd usage_memory;
    UniqueFd quota;
  };
  double quota_cores(const std::string& path) const;
  double cpuset_cores(const std::string& path) const;
  std::uint64_t memory_limit(const std::string& path) const;

  CgroupRoots roots_;
  std::unordered_map<std::string, Open> open_;
};

/// CPUs in a list as the kernel writes it: "0-3,8" are 5. 0 when it is empty or no list.
double count_cpu_list(const std::string& list);

}  // namespace ballast::sample
