// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "agent/sample/cgroup_files.h"
#include "agent/sample/sock_diag.h"
#include "core/base/feature.h"
#include "core/base/result.h"

namespace ballast::sample {

/// What we read beside our own maps, and what is done where the host does not have it: the cgroup
/// controllers, the kernel's socket table (`sockets` is one dump of it) and pressure (`pressure` is its
/// folder).
std::vector<Feature> host_features(const CgroupRoots& roots, const Result<SocketTable>& sockets,
                                   const std::filesystem::path& pressure = "/proc/pressure");

/// One dump of the socket table.
Result<SocketTable> read_sockets();

}  // namespace ballast::sample
