// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/cgroup_tree.h"

#include <dirent.h>
#include <sys/inotify.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <utility>

namespace ballast::sample {

namespace {

struct DirCloser {
  void operator()(DIR* dir) const { ::closedir(dir); }
};

}  // namespace

Result<CgroupTree> CgroupTree::create(const std::filesystem::path& root) {
  CgroupTree tree(root);
  tree.inotify_.reset(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (Status walked = tree.walk(); !walked) {
    return walked.error();
  }
  return tree;
}

Status CgroupTree::refresh() {
  removed_.clear();
  // Read before the walk: what happens during it is seen by the next one.
  const bool changed = drain_events();
  return changed || !watched_ ? walk() : ok();
}

bool CgroupTree::drain_events() {
  alignas(inotify_event) char buffer[4096];
  bool any = false;
  while (inotify_ && ::read(inotify_.get(), buffer, sizeof buffer) > 0) {
    any = true;
  }
  return any;
}

Status CgroupTree::walk() {
  ++walks_;
  struct stat info {};
  if (::stat(root_.c_str(), &info) != 0) {
    return Error::failed("reading the cgroup root " + root_.string() + ": " + std::strerror(errno));
  }
  bool watched = static_cast<bool>(inotify_);
  std::unordered_map<CgroupId, std::string> paths{{info.st_ino, "/"}};
  std::vector<std::string> open{""};
  while (!open.empty()) {
    const std::string parent = std::move(open.back());
    open.pop_back();
    const std::string folder = root_.string() + parent;
    // The watch comes first: a child made between the two is then seen by one of them.
    watched = watched && ::inotify_add_watch(inotify_.get(), folder.c_str(),
                                             IN_CREATE | IN_DELETE | IN_MOVE | IN_ONLYDIR) >= 0;
    const std::unique_ptr<DIR, DirCloser> dir(::opendir(folder.c_str()));
    if (dir == nullptr) {
      continue;  // it went away while we walked
    }
    while (const dirent* entry = ::readdir(dir.get())) {
      if (entry->d_type != DT_DIR || entry->d_name[0] == '.') {
        continue;
      }
      std::string path = parent + "/" + entry->d_name;
      paths.emplace(entry->d_ino, path);
      open.push_back(std::move(path));
    }
  }
  for (const auto& [id, path] : paths_) {
    if (!paths.contains(id)) {
      removed_.push_back(id);
    }
  }
  watched_ = watched;
  paths_ = std::move(paths);
  ids_.clear();
  for (const auto& [id, path] : paths_) {
    ids_.emplace(path, id);
  }
  return ok();
}

std::map<std::string, std::vector<CgroupId>> CgroupTree::below(const std::vector<std::string>& paths) const {
  std::map<std::string, std::vector<CgroupId>> found;
  for (const std::string& path : paths) {
    found[path];
  }
  for (const auto& [id, path] : paths_) {
    if (found.contains(path)) {
      continue;
    }
    for (std::size_t slash = path.rfind('/'); slash != std::string::npos && slash > 0;
         slash = path.rfind('/', slash - 1)) {
      if (const auto above = found.find(path.substr(0, slash)); above != found.end()) {
        above->second.push_back(id);
        break;
      }
    }
  }
  return found;
}

const std::string* CgroupTree::path_of(CgroupId id) const {
  const auto found = paths_.find(id);
  return found == paths_.end() ? nullptr : &found->second;
}

CgroupId CgroupTree::id_of(const std::string& path) const {
  const auto found = ids_.find(path);
  return found == ids_.end() ? 0 : found->second;
}

}  // namespace ballast::sample
