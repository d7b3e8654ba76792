// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bpf/libbpf.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>

#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace ballast::kernel {

/// Destroys a libbpf skeleton when its owner goes.
template <typename Skeleton>
struct SkeletonDeleter {
  void operator()(Skeleton* skeleton) const { Skeleton::destroy(skeleton); }
};

template <typename Skeleton>
using SkeletonPtr = std::unique_ptr<Skeleton, SkeletonDeleter<Skeleton>>;

/// Turns a libbpf failure into ours: EPERM and EACCES are kPrivilege.
Error bpf_failure(const std::string& what, int error);

/// Makes every map whose name is one of the shared ones (bpf/wire/wire.h) live at its pin in
/// `folder`: taken from there when it exists, pinned there when it does not. Before load().
Status share_maps(bpf_object* object, const std::filesystem::path& folder);

/// kFailed when a pin that share_maps() named holds a map of another shape than the object's.
Status check_map_shapes(const bpf_object* object);

/// A map that no program touches.
struct OwnMap {
  const char* name;
  bpf_map_type type;
  std::uint32_t key_size;
  std::uint32_t value_size;
  std::uint32_t max_entries;
};

/// Whether `fd` is a map of this shape. One that is not must not be read: the kernel writes as many bytes as
/// the map's values have.
bool has_shape(int fd, const OwnMap& map);

/// kFailed, naming the pin, where it is missing or of another shape.
Status check_map_shape(const std::filesystem::path& folder, const OwnMap& map);

/// The map pinned in `folder` under its name, made and pinned when there is none.
Result<UniqueFd> pinned_map(const std::filesystem::path& folder, const OwnMap& map);

/// Attaches a cgroup program by the link pinned as `pin`, or swaps the program of the link that
/// is there already: no packet passes unmeasured, none is measured twice. A link to another
/// cgroup than `cgroup_fd`'s is replaced.
Status attach_cgroup(bpf_program* program, int cgroup_fd, const std::filesystem::path& pin);

/// Attaches a tracing program and pins its link as `<pin>_new`, beside the one in force.
Status attach_tracing(bpf_program* program, const std::filesystem::path& pin);

/// Lets `<pin>_new` take the place of `pin`.
Status promote_link(const std::filesystem::path& pin);

/// Takes a pin away; one that is not there is fine.
void drop_pin(const std::filesystem::path& pin);
/// The same for `<pin>_new`.
void drop_fresh(const std::filesystem::path& pin);

}  // namespace ballast::kernel
