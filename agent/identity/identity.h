// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ballast::identity {

/// One container of a pod, and where its traffic enters.
struct Pod {
  std::uint64_t cgroup_id = 0;  ///< 0 while the cgroup does not exist on this node
  std::string cgroup;           ///< path relative to the cgroup v2 root, with a leading slash
  std::string pod;
  std::string ns;  ///< Kubernetes namespace
  std::string container;
  std::string service;  ///< empty: not part of a managed service
  std::string address;  ///< IP without port
  std::uint16_t port = 0;
  bool local = true;  ///< false: an endpoint of the service that is not on this node
  /// Its specification says that it answers at the port. Which container does is for who measures to say.
  bool declared = true;

  bool operator==(const Pod&) const = default;
};

/// Where pods come from. One implementation reads a static file, one the cgroup paths, one the
/// Kubernetes API.
class IdentitySource {
 public:
  virtual ~IdentitySource() = default;
  /// The pods known now; cheap enough for every tick. A cgroup that has gone has cgroup_id 0.
  virtual const std::vector<Pod>& pods() = 0;
  /// Empty while all is well; else why what is known may be old, for the log, status and metrics.
  virtual std::string trouble() const { return {}; }
};

}  // namespace ballast::identity
