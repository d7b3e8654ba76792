// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "agent/sample/sample.h"
#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace ballast::sample {

/// The cgroups below a cgroup v2 root, by id and by path. A cgroup's id is the inode number of its
/// folder, so any tree of folders will do in a test. Paths are relative to the root, with a leading
/// slash; the root itself is "/".
class CgroupTree {
 public:
  /// Walks the whole tree once. Error: the root cannot be read.
  static Result<CgroupTree> create(const std::filesystem::path& root);

  /// Walks again only when inotify(7) says that a folder came or went (always, where inotify has
  /// no watch left). Cheap enough for every tick. On error the tree stays as it was.
  Status refresh();

  const std::filesystem::path& root() const { return root_; }
  /// nullptr: no such cgroup. Valid until the next refresh().
  const std::string* path_of(CgroupId id) const;
  /// 0: no such cgroup.
  CgroupId id_of(const std::string& path) const;
  const std::unordered_map<CgroupId, std::string>& cgroups() const { return paths_; }
  /// For each of `paths` the cgroups below it at any depth, itself not among them; one that lies below
  /// several of them belongs to the nearest.
  std::map<std::string, std::vector<CgroupId>> below(const std::vector<std::string>& paths) const;
  /// Cgroups that the last refresh() found gone.
  const std::vector<CgroupId>& removed() const { return removed_; }
  /// Walks so far: tells whether a refresh() had to look.
  std::size_t walks() const { return walks_; }

 private:
  explicit CgroupTree(std::filesystem::path root) : root_(std::move(root)) {}
  Status walk();
  bool drain_events();

  std::filesystem::path root_;
  UniqueFd inotify_;
  bool watched_ = false;
  std::size_t walks_ = 0;
  std::unordered_map<CgroupId, std::string> paths_;
  std::unordered_map<std::string, CgroupId> ids_;
  std::vector<CgroupId> removed_;
};

}  // namespace ballast::sample
