// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "core/base/result.h"

namespace ballast {

/// The cgroup v2 mount that this process sees: the first of type cgroup2 in `mountinfo` (proc(5)).
/// In a hybrid layout that is /sys/fs/cgroup/unified. Error: kPrivilege, there is none.
Result<std::filesystem::path> find_cgroup_root(
    const std::filesystem::path& mountinfo = "/proc/self/mountinfo");

/// Whether `path` is (in) a cgroup v2 file system. Error: kUsage, naming what it is instead.
Status check_cgroup_root(const std::filesystem::path& path);

}  // namespace ballast
