// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <vector>

#include "agent/identity/identity.h"
#include "core/base/clock.h"

namespace ballast::identity {

struct CgroupPathOptions {
  std::filesystem::path cgroup_root = "/sys/fs/cgroup";  ///< the v2 mount
  /// The tree is walked again after this time; between walks pods() costs nothing.
  MonotonicNs refresh_ns = 2'000'000'000ULL;
  std::size_t max_cgroups = 4096;  ///< as many as the kernel's maps hold; what is beyond is left out
};

/// Names cgroups when there is no other identity: a Kubernetes container's by its pod's uid and
/// its id, any other by its path alone (pod empty). Never knows a service, so nothing that it
/// names is ever balanced.
class CgroupPathSource final : public IdentitySource {
 public:
  /// `clock` must outlive the source.
  CgroupPathSource(CgroupPathOptions options, const Clock& clock);
  /// Ordered by path. The root itself is not listed. An unreadable folder is left out.
  const std::vector<Pod>& pods() override;

 private:
  void walk();

  CgroupPathOptions options_;
  const Clock& clock_;
  MonotonicNs walked_ = 0;
  bool warned_ = false;
  std::vector<Pod> pods_;
};

}  // namespace ballast::identity
