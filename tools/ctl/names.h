// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstring>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/sample/maps.h"

namespace ballast::ctl {

/// What a cgroup is called. Only `cgroup` is always there, at worst "(gone)".
struct Name {
  std::string cgroup;
  std::string pod;
  std::string ns;
  std::string container;
  std::string service;
};

/// Whether `target`, as typed by an operator, means this: a service, a pod, SERVICE/POD, each with
/// or without NAMESPACE/ in front, a cgroup path, or a cgroup id. The empty target means all.
bool matches(const Name& name, sample::CgroupId id, const std::string& target);

/// The names that ballastd left in the identity map; for the rest the paths of the cgroup v2 tree, with the
/// pod's name where the cgroup lies below a container's.
class Names {
 public:
  /// `cgroup_root` is walked at the first cgroup that the map does not name; empty: never.
  Names(const std::vector<std::pair<sample::CgroupId, ballast_identity_value>>& identity,
        std::filesystem::path cgroup_root);
  const Name& of(sample::CgroupId id);
  const std::filesystem::path& cgroup_root() const { return cgroup_root_; }

 private:
  void walk();
  Name below_a_pod(std::string path) const;

  std::map<sample::CgroupId, Name> names_;
  std::map<std::string, sample::CgroupId> pods_;  ///< by cgroup path
  std::filesystem::path cgroup_root_;
  bool walked_ = false;
};

/// The text of a fixed-size field, which may lack its NUL.
template <std::size_t N>
std::string field(const char (&bytes)[N]) {
  return {bytes, ::strnlen(bytes, N)};
}

}  // namespace ballast::ctl
