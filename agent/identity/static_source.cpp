// SPDX-License-Identifier: Apache-2.0
#include "agent/identity/static_source.h"

#include <algorithm>
#include <set>
#include <utility>

#include "agent/identity/static_file.h"
#include "core/base/file.h"
#include "core/base/log.h"

namespace ballast::identity {

bool StaticSource::Version::operator==(const Version& other) const {
  return modified.tv_sec == other.modified.tv_sec && modified.tv_nsec == other.modified.tv_nsec &&
         inode == other.inode && size == other.size;
}

StaticSource::StaticSource(std::filesystem::path file, std::filesystem::path cgroup_root)
    : file_(std::move(file)), cgroup_root_(std::move(cgroup_root)) {}

Result<std::unique_ptr<StaticSource>> StaticSource::open(const std::filesystem::path& file,
                                                         const std::filesystem::path& cgroup_root) {
  std::unique_ptr<StaticSource> source(new StaticSource(file, cgroup_root));
  source->version_ = source->version();
  if (auto status = source->load(); !status) {
    return status.error();
  }
  return source;
}

const std::vector<Pod>& StaticSource::pods() {
  reload_if_changed();
  refresh_ids();
  return pods_;
}

StaticSource::Version StaticSource::version() const {
  struct stat info {};
  if (::stat(file_.c_str(), &info) != 0) {
    return {};
  }
  return {info.st_mtim, info.st_ino, info.st_size};
}

Status StaticSource::load() {
  auto text = read_file(file_);
  if (!text) {
    return Error::usage("static identity: " + text.error().message);
  }
  auto parsed = parse_static_pods(*text, file_.string());
  if (!parsed) {
    return parsed.error();
  }
  std::set<std::string> already_warned;
  for (std::size_t i = 0; i < pods_.size(); ++i) {
    if (warned_[i]) {
      already_warned.insert(pods_[i].cgroup);
    }
  }
  pods_ = std::move(*parsed);
  folders_.clear();
  warned_.clear();
  for (const auto& pod : pods_) {
    folders_.push_back(pod.local ? cgroup_root_.string() + pod.cgroup : std::string());
    warned_.push_back(already_warned.contains(pod.cgroup));
  }
  return ok();
}

void StaticSource::reload_if_changed() {
  const Version now = version();
  if (now == version_) {
    return;
  }
  version_ = now;
  if (auto status = load(); !status) {
    refused_ = status.error().message + "; the pods of the version before are in force";
    spdlog::error("static identity not taken over, the version in force stays file={} error=\"{}\"",
                  file_.string(), status.error().message);
    return;
  }
  refused_.clear();
  spdlog::info("static identity read anew file={} pods={}", file_.string(), pods_.size());
}

void StaticSource::refresh_ids() {
  for (std::size_t i = 0; i < pods_.size(); ++i) {
    Pod& pod = pods_[i];
    if (!pod.local) {
      continue;
    }
    // On cgroup v2 the inode of the folder is the id that the kernel's programs see.
    struct stat info {};
    const bool there = ::stat(folders_[i].c_str(), &info) == 0 && S_ISDIR(info.st_mode);
    if (!there && !warned_[i]) {
      spdlog::warn("cgroup not found, waiting for it cgroup={} pod={} service={}", pod.cgroup, pod.pod,
                   pod.service);
    }
    warned_[i] = !there;
    pod.cgroup_id = there ? info.st_ino : 0;
  }
}

}  // namespace ballast::identity
