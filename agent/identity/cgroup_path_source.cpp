// SPDX-License-Identifier: Apache-2.0
#include "agent/identity/cgroup_path_source.h"

#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <utility>

#include "agent/identity/cgroup_path.h"
#include "core/base/log.h"

namespace ballast::identity {
namespace {

namespace fs = std::filesystem;

Pod name_cgroup(std::uint64_t id, std::string path) {
  Pod pod;
  pod.cgroup_id = id;
  if (const auto ref = parse_cgroup_path(path)) {
    pod.pod = ref->pod_uid;
    pod.container = ref->container_id;
  }
  pod.cgroup = std::move(path);
  return pod;
}

// Sub-folders of a cgroup folder. A folder with two links has none: a leaf, and most are, is not
// read (a read lists some sixty control files).
std::vector<fs::path> children(const fs::path& folder, const struct stat& info) {
  std::vector<fs::path> result;
  if (info.st_nlink == 2) {
    return result;
  }
  std::error_code error;
  for (fs::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (it->is_directory(error) && !it->is_symlink(error)) {
      result.push_back(it->path());
    }
  }
  return result;
}

}  // namespace

CgroupPathSource::CgroupPathSource(CgroupPathOptions options, const Clock& clock)
    : options_(std::move(options)), clock_(clock) {}

const std::vector<Pod>& CgroupPathSource::pods() {
  const auto now = clock_.now();
  if (walked_ == 0 || now - walked_ >= options_.refresh_ns) {
    walk();
    walked_ = now;
  }
  return pods_;
}

void CgroupPathSource::walk() {
  pods_.clear();
  const std::size_t root_length = options_.cgroup_root.native().size();
  std::vector<fs::path> open = {options_.cgroup_root};
  while (!open.empty() && pods_.size() < options_.max_cgroups) {
    const fs::path folder = std::move(open.back());
    open.pop_back();
    struct stat info {};
    if (::stat(folder.c_str(), &info) != 0) {
      continue;
    }
    if (folder != options_.cgroup_root) {
      pods_.push_back(name_cgroup(info.st_ino, folder.native().substr(root_length)));
    }
    auto below = children(folder, info);
    open.insert(open.end(), std::make_move_iterator(below.begin()), std::make_move_iterator(below.end()));
  }
  if (!open.empty() && !warned_) {
    spdlog::warn("more cgroups than can be named root={} named={}", options_.cgroup_root.native(),
                 pods_.size());
    warned_ = true;
  }
  std::sort(pods_.begin(), pods_.end(), [](const Pod& a, const Pod& b) { return a.cgroup < b.cgroup; });
}

}  // namespace ballast::identity
