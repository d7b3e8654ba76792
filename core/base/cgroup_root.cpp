// SPDX-License-Identifier: Apache-2.0
#include "core/base/cgroup_root.h"

#include <linux/magic.h>
#include <sys/vfs.h>

#include <cerrno>
#include <cstring>
#include <sstream>
#include <string>

#include "core/base/file.h"

namespace ballast {
namespace {

/// mountinfo writes space, tab, newline and backslash as \ooo.
std::string unescape(const std::string& field) {
  std::string out;
  for (std::size_t i = 0; i < field.size(); ++i) {
    if (field[i] == '\\' && i + 3 < field.size()) {
      out += static_cast<char>(std::stoi(field.substr(i + 1, 3), nullptr, 8));
      i += 3;
    } else {
      out += field[i];
    }
  }
  return out;
}

}  // namespace

Result<std::filesystem::path> find_cgroup_root(const std::filesystem::path& mountinfo) {
  const auto text = read_file(mountinfo);
  if (!text) {
    return text.error();
  }
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    // ID PARENT MAJOR:MINOR ROOT MOUNTPOINT OPTIONS [TAG...] - TYPE SOURCE SUPER
    const auto dash = line.find(" - ");
    if (dash == std::string::npos || line.compare(dash + 3, 8, "cgroup2 ") != 0) {
      continue;
    }
    std::istringstream fields(line);
    std::string id, parent, device, root, point;
    if (fields >> id >> parent >> device >> root >> point) {
      return std::filesystem::path(unescape(point));
    }
  }
  return Error::privilege(
      mountinfo.string() +
      " shows no cgroup v2 mount; mount one: mount -t cgroup2 none /sys/fs/cgroup/unified");
}

Status check_cgroup_root(const std::filesystem::path& path) {
  struct statfs info {};
  if (::statfs(path.c_str(), &info) != 0) {
    return Error::usage("cgroup_root " + path.string() + ": " + std::strerror(errno));
  }
  if (info.f_type == CGROUP2_SUPER_MAGIC) {
    return ok();
  }
  const bool tmpfs = info.f_type == TMPFS_MAGIC;
  return Error::usage("cgroup_root " + path.string() + " is " +
                      (info.f_type == CGROUP_SUPER_MAGIC ? "cgroup v1"
                       : tmpfs                           ? "a tmpfs, as the folder of a hybrid host is"
                                                         : "no cgroup file system") +
                      ": name the cgroup v2 mount" + (tmpfs ? " (unified below it)" : "") +
                      ", or leave cgroup_root out where the host's /sys/fs/cgroup is mounted at that path");
}

}  // namespace ballast
