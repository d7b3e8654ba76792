// SPDX-License-Identifier: Apache-2.0
#include <bpf/bpf.h>
#include <fmt/format.h>
#include <linux/magic.h>
#include <sys/resource.h>
#include <sys/statfs.h>
#include <sys/timex.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "agent/kernel/privilege.h"
#include "core/base/cgroup_root.h"
#include "core/base/file.h"
#include "core/base/unique_fd.h"
#include "tools/ctl/check.h"

namespace ballast::ctl {
namespace {

std::string line_of(const std::string& file) {
  const auto text = read_file(file);
  return text ? text->substr(0, text->find('\n')) : "";
}

/// The value of a key of /proc/self/status.
std::string own_status(const std::string& key) {
  const auto text = read_file("/proc/self/status");
  const std::size_t at = text ? text->find("\n" + key + ":\t") : std::string::npos;
  const std::size_t begin = at + key.size() + 3;
  return at == std::string::npos ? "" : text->substr(begin, text->find('\n', begin) - begin);
}

Finding kernel() {
  if (const Status version = kernel::check_version(); !version) {
    return {"kernel", Level::kFail, version.error().message, "a kernel of 5.10 or later", true};
  }
  utsname names{};
  ::uname(&names);
  const std::string what = std::string("Linux ") + names.release;
  return kernel::kernel_version() < 5011
             ? Finding{"kernel", Level::kWarn, what + ": requests of dead connections are noticed late",
                       "a kernel of 5.11 or later"}
             : Finding{"kernel", Level::kOk, what, ""};
}

Finding btf() {
  if (const Status found = kernel::check_btf(); !found) {
    return {"btf", Level::kFail, found.error().message, "a kernel built with CONFIG_DEBUG_INFO_BTF", true};
  }
  return {"btf", Level::kOk, "/sys/kernel/btf/vmlinux", ""};
}

Finding cgroup() {
  const auto root = find_cgroup_root();
  if (!root) {
    return {"cgroup", Level::kFail, "cgroup v2 is not mounted here: " + root.error().message,
            "mount -t cgroup2 none /sys/fs/cgroup/unified, or boot with systemd.unified_cgroup_hierarchy=1",
            true};
  }
  const std::string controllers = line_of(*root / "cgroup.controllers");
  for (const char* wanted : {"cpu", "memory"}) {
    if ((" " + controllers + " ").find(std::string(" ") + wanted + " ") == std::string::npos) {
      return {"cgroup", Level::kWarn,
              fmt::format("{} has no controller {}: it is read from cgroup v1, where that has it",
                          root->string(), wanted),
              "boot with cgroup v2 alone (systemd.unified_cgroup_hierarchy=1)"};
    }
  }
  return {"cgroup", Level::kOk, "cgroup v2 at " + root->string(), ""};
}

/// Whether they could be had in this container at all is what the bounding set says.
Finding capabilities(bool pre) {
  const Status held = kernel::check_capabilities();
  if (held) {
    return {"capabilities", Level::kOk, "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN", ""};
  }
  const std::uint64_t bounding = std::strtoull(own_status("CapBnd").c_str(), nullptr, 16);
  constexpr std::uint64_t kNeeded = 1ULL << 39 | 1ULL << 38 | 1ULL << 12;  // linux/capability.h
  const bool reachable = (bounding & kNeeded) == kNeeded;
  return {"capabilities", pre && reachable ? Level::kWarn : Level::kFail,
          held.error().message + (pre && reachable ? ". What needs them is not tried here" : ""),
          reachable ? "run it as root, or give them to the program or the pod"
                    : "this container may never have them: add BPF, PERFMON and NET_ADMIN in its "
                      "securityContext.capabilities",
          true};
}

Finding security_module() {
  const std::string profile = line_of("/proc/self/attr/apparmor/current").empty()
                                  ? line_of("/proc/self/attr/current")
                                  : line_of("/proc/self/attr/apparmor/current");
  const std::string label = profile.substr(0, profile.find('\0'));
  const std::string lockdown = line_of("/sys/kernel/security/lockdown");
  const bool enforced = label.find("(enforce)") != std::string::npos;
  // USER:ROLE:TYPE:LEVEL. A type that is confined may not be let read whether it is.
  const bool selinux = std::count(label.begin(), label.end(), ':') >= 2 &&
                       label.find(":spc_t") == std::string::npos &&
                       label.find("unconfined") == std::string::npos;
  const std::string enforces = line_of("/sys/fs/selinux/enforce");
  if (selinux && enforces != "0") {
    return {"security_module", Level::kWarn,
            (enforces.empty() ? "whether SELinux is enforced may not be read, and our type is "
                              : "SELinux is enforced, and our type is ") +
                label,
            "seLinuxOptions: {type: spc_t} for the container"};
  }
  if (enforced) {
    return {"security_module", Level::kWarn, "AppArmor's profile " + label + " may deny writing pins",
            "appArmorProfile: {type: Unconfined} for the container"};
  }
  return {"security_module", Level::kOk,
          fmt::format("{}{}, seccomp {}", label.empty() ? "none" : label,
                      lockdown.empty() ? "" : ", lockdown " + lockdown,
                      own_status("Seccomp") == "0" ? "off" : "on"),
          ""};
}

/// The one way to know what seccomp and security modules let through is to do it.
Finding bpf() {
  if (!kernel::check_capabilities()) {
    return {"bpf", Level::kSkipped, "not tried without the capabilities", ""};
  }
  const UniqueFd map(::bpf_map_create(BPF_MAP_TYPE_ARRAY, "ballast_check", 4, 8, 1, nullptr));
  if (!map) {
    return {"bpf", Level::kFail,
            fmt::format("bpf(2) is refused with the capabilities held ({}): seccomp is {}",
                        std::strerror(errno), own_status("Seccomp") == "0" ? "off" : "on"),
            "let bpf(2) through: seccomp RuntimeDefault does where CAP_BPF is given; a security module's log "
            "names what it denied",
            true};
  }
  return {"bpf", Level::kOk, "a map was made and closed again", ""};
}

/// The nearest folder that is there decides what a new one would lie on.
Finding bpffs(const CheckOptions& options) {
  std::filesystem::path there = options.bpffs;
  std::error_code error;
  while (there.has_parent_path() && there != there.parent_path() && !std::filesystem::exists(there, error)) {
    there = there.parent_path();
  }
  struct statfs info {};
  if (::statfs(there.c_str(), &info) == 0 && info.f_type == BPF_FS_MAGIC) {
    return {"bpffs", Level::kOk, "a bpffs at " + there.string(), ""};
  }
  const std::uint64_t held = std::strtoull(own_status("CapEff").c_str(), nullptr, 16);
  const bool may_mount = (held & 1ULL << 21) != 0;  // CAP_SYS_ADMIN
  return {"bpffs", may_mount || options.pre ? Level::kWarn : Level::kFail,
          fmt::format("no bpffs at {}{}", options.bpffs.string(),
                      may_mount ? "; ballastd mounts it where it has CAP_SYS_ADMIN, as in no pod" : ""),
          "mount -t bpf bpf " +
              (options.bpffs.string().starts_with("/sys/fs/bpf/") ? "/sys/fs/bpf" : options.bpffs.string()),
          true};
}

Finding memlock() {
  rlimit limit{};
  ::getrlimit(RLIMIT_MEMLOCK, &limit);
  constexpr rlim_t kEnough = 256ULL << 20;
  if (kernel::kernel_version() >= 5011 || limit.rlim_cur >= kEnough) {
    return {"memlock", Level::kOk,
            kernel::kernel_version() >= 5011 ? "maps are charged to the cgroup" : "the limit is high enough",
            ""};
  }
  return {"memlock", Level::kWarn,
          fmt::format("maps count against RLIMIT_MEMLOCK, which is {} KiB", limit.rlim_cur >> 10),
          "ulimit -l unlimited, or LimitMEMLOCK=infinity in the unit"};
}

Finding clock() {
  timex state{};
  if (::adjtimex(&state) == TIME_ERROR || (state.status & STA_UNSYNC) != 0) {
    return {"clock", Level::kWarn, "the kernel says that its clock is not synchronised",
            "run chrony or systemd-timesyncd: certificates and tokens need the right time"};
  }
  return {"clock", Level::kOk, "synchronised", ""};
}

}  // namespace

void check_host(const CheckOptions& options, Findings& findings) {
  for (Finding finding : {kernel(), btf(), cgroup(), capabilities(options.pre), security_module(), bpf(),
                          bpffs(options), memlock(), clock()}) {
    findings.push_back(std::move(finding));
  }
}

}  // namespace ballast::ctl
