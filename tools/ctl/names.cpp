// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/names.h"

#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <system_error>

namespace ballast::ctl {

namespace fs = std::filesystem;

namespace {

/// Whoever may make cgroups names them as it likes: what a terminal would obey, or JSON cannot hold, is shown
/// as a question mark.
std::string shown(std::string path) {
  std::replace_if(
      path.begin(), path.end(), [](char c) { return c < ' ' || c > '~'; }, '?');
  return path;
}

}  // namespace

bool matches(const Name& name, sample::CgroupId id, const std::string& target) {
  if (target.empty() || target == name.cgroup || target == std::to_string(id)) {
    return true;
  }
  const std::string ns = name.ns + "/";
  for (const std::string& spelling : {name.pod, name.service, name.service + "/" + name.pod}) {
    if (!spelling.empty() && spelling != "/" && (target == spelling || target == ns + spelling)) {
      return true;
    }
  }
  return false;
}

Names::Names(const std::vector<std::pair<sample::CgroupId, ballast_identity_value>>& identity,
             fs::path cgroup_root)
    : cgroup_root_(std::move(cgroup_root)) {
  for (const auto& [id, value] : identity) {
    names_[id] = {shown(field(value.cgroup)), field(value.pod), field(value.ns), field(value.container),
                  field(value.service)};
    if (names_[id].cgroup.starts_with("/")) {
      pods_[names_[id].cgroup] = id;
    }
  }
}

const Name& Names::of(sample::CgroupId id) {
  if (const auto found = names_.find(id); found != names_.end()) {
    return found->second;
  }
  walk();
  return names_.try_emplace(id, Name{.cgroup = "(gone)"}).first->second;
}

// The pod of the nearest cgroup above that has one: runtimes nest cgroups in a container's.
Name Names::below_a_pod(std::string path) const {
  Name name{.cgroup = path};
  while (!path.empty()) {
    path.erase(path.rfind('/'));
    if (const auto found = pods_.find(path); found != pods_.end()) {
      const Name& pod = names_.at(found->second);
      return {name.cgroup, pod.pod, pod.ns, pod.container, pod.service};
    }
  }
  return name;
}

void Names::walk() {
  if (walked_ || cgroup_root_.empty()) {
    return;
  }
  walked_ = true;
  // A cgroup's id is the inode of its folder.
  const auto add = [this](const fs::path& folder) {
    struct stat info {};
    if (::stat(folder.c_str(), &info) == 0) {
      const fs::path relative = folder.lexically_relative(cgroup_root_);
      names_.try_emplace(info.st_ino, below_a_pod(shown(relative == "." ? "/" : "/" + relative.string())));
    }
  };
  add(cgroup_root_);
  std::error_code error;
  fs::recursive_directory_iterator entry(cgroup_root_, fs::directory_options::skip_permission_denied, error);
  for (; !error && entry != fs::recursive_directory_iterator(); entry.increment(error)) {
    std::error_code ignored;
    if (entry->is_directory(ignored)) {
      add(entry->path());
    }
  }
}

}  // namespace ballast::ctl
