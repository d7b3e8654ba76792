// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/cgroups.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstring>
#include <sstream>
#include <thread>

#include "core/base/file.h"
#include "core/base/unique_fd.h"

namespace ballast::lab {

namespace {

namespace fs = std::filesystem;

Status write_control(const fs::path& file, const std::string& text) {
  UniqueFd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC | O_TRUNC));
  if (!fd || ::write(fd.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    const std::string message = "writing \"" + text + "\" to " + file.string() + ": " + std::strerror(errno);
    return errno == EACCES || errno == EPERM ? Error::privilege(message + " (ballast-lab needs root)")
                                             : Error::failed(message);
  }
  return ok();
}

Status make_folder(const fs::path& folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    const std::string message = "making the cgroup " + folder.string() + ": " + error.message();
    return error == std::errc::permission_denied ? Error::privilege(message + " (ballast-lab needs root)")
                                                 : Error::failed(message);
  }
  return ok();
}

bool has_word(const std::string& list, const std::string& word) {
  std::istringstream in(list);
  for (std::string item; std::getline(in, item, ',');) {
    if (item == word) {
      return true;
    }
  }
  return false;
}

std::vector<fs::path> tree_bottom_up(const fs::path& folder) {
  std::vector<fs::path> folders;
  std::error_code error;
  for (auto it = fs::recursive_directory_iterator(folder, error);
       !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    if (it->is_directory(error)) {
      folders.push_back(it->path());
    }
  }
  std::reverse(folders.begin(), folders.end());
  folders.push_back(folder);
  return folders;
}

void kill_all_in(const fs::path& folder) {
  const auto text = read_file(folder / "cgroup.procs");
  if (!text) {
    return;
  }
  std::istringstream in(*text);
  for (pid_t pid = 0; in >> pid;) {
    // 0 is a process of another pid namespace; 1 and ourselves cannot be meant.
    if (pid > 1 && pid != ::getpid()) {
      ::kill(pid, SIGKILL);
    }
  }
}

}  // namespace

std::vector<fs::path> CgroupLayout::roots() const {
  std::vector<fs::path> out{v2};
  for (const auto& root : {v1_cpu, v1_cpuacct, v1_memory}) {
    if (!root.empty() && std::find(out.begin(), out.end(), root) == out.end()) {
      out.push_back(root);
    }
  }
  return out;
}

Result<CgroupLayout> parse_cgroup_layout(const std::string& mountinfo) {
  // 31 23 0:28 ROOT MOUNTPOINT OPTIONS [TAGS...] - TYPE SOURCE SUPER_OPTIONS
  CgroupLayout layout;
  std::istringstream lines(mountinfo);
  for (std::string line; std::getline(lines, line);) {
    const auto dash = line.find(" - ");
    if (dash == std::string::npos) {
      continue;
    }
    std::istringstream left(line.substr(0, dash));
    std::istringstream right(line.substr(dash + 3));
    std::string id, parent, device, root, point, type, source, options;
    left >> id >> parent >> device >> root >> point;
    right >> type >> source >> options;
    if (type == "cgroup2" && layout.v2.empty()) {
      layout.v2 = point;
    } else if (type == "cgroup") {
      if (has_word(options, "cpu")) {
        layout.v1_cpu = point;
      }
      if (has_word(options, "cpuacct")) {
        layout.v1_cpuacct = point;
      }
      if (has_word(options, "memory")) {
        layout.v1_memory = point;
      }
    }
  }
  if (layout.v2.empty()) {
    return Error::privilege(
        "no cgroup v2 is mounted (/proc/self/mountinfo); mount one, e.g. on /sys/fs/cgroup/unified");
  }
  return layout;
}

Result<CgroupLayout> detect_cgroup_layout() {
  const auto text = read_file("/proc/self/mountinfo");
  if (!text) {
    return text.error();
  }
  return parse_cgroup_layout(*text);
}

Result<PodCgroup> PodCgroup::create(const CgroupLayout& layout, const std::string& relative) {
  for (const auto& root : layout.roots()) {
    if (auto made = make_folder(root / relative); !made) {
      return made.error();
    }
  }
  if (!layout.hybrid()) {
    // Controllers are handed down one level at a time; the pod's own level gets none to hand on.
    fs::path level = layout.v2;
    for (const auto& part : fs::path(relative)) {
      for (const char* controller : {"+cpu", "+memory"}) {
        if (auto set = write_control(level / "cgroup.subtree_control", controller); !set) {
          return set.error();
        }
      }
      level /= part;
    }
  }
  return PodCgroup(layout, relative);
}

Status PodCgroup::set_quota(double cpus, int period_ms) const {
  const auto period = std::to_string(period_ms * 1000);
  const auto quota = std::to_string(std::max(1000L, std::lround(cpus * period_ms * 1000)));
  if (!layout_.hybrid()) {
    std::string both = quota;
    both += ' ';
    both += period;
    return write_control(layout_.v2 / relative_ / "cpu.max", both);
  }
  const auto folder = layout_.v1_cpu / relative_;
  if (read_number(folder / "cpu.cfs_period_us") != static_cast<std::uint64_t>(period_ms) * 1000) {
    if (auto set = write_control(folder / "cpu.cfs_period_us", period); !set) {
      return set;
    }
  }
  return write_control(folder / "cpu.cfs_quota_us", quota);
}

Result<double> PodCgroup::cpu_seconds() const {
  if (!layout_.v1_cpuacct.empty()) {
    const auto file = layout_.v1_cpuacct / relative_ / "cpuacct.usage";
    const auto ns = read_number(file);
    return ns ? Result<double>(static_cast<double>(*ns) * 1e-9) : Error::failed("reading " + file.string());
  }
  const auto file = layout_.v2 / relative_ / "cpu.stat";
  const auto text = read_file(file);
  if (!text) {
    return text.error();
  }
  std::istringstream in(*text);
  std::string key;
  for (double value = 0; in >> key >> value;) {
    if (key == "usage_usec") {
      return value * 1e-6;
    }
  }
  return Error::failed(file.string() + " has no usage_usec");
}

std::vector<fs::path> PodCgroup::folders() const {
  std::vector<fs::path> out;
  for (const auto& root : layout_.roots()) {
    out.push_back(root / relative_);
  }
  return out;
}

void remove_cgroups(const CgroupLayout& layout, const std::string& relative) {
  if (relative.empty() || relative.front() == '/' || relative.front() == '.') {
    return;  // never the root of a hierarchy
  }
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(2);
  bool left = true;
  while (left && std::chrono::steady_clock::now() < deadline) {
    left = false;
    for (const auto& root : layout.roots()) {
      std::error_code error;
      if (!fs::is_directory(root / relative, error)) {
        continue;
      }
      for (const auto& folder : tree_bottom_up(root / relative)) {
        kill_all_in(folder);
        left |= ::rmdir(folder.c_str()) != 0 && errno != ENOENT;
      }
    }
    if (left) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
}

}  // namespace ballast::lab
