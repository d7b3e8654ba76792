// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/privilege.h"

#include <bpf/libbpf.h>
#include <cap-ng.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <string>

#include "core/base/log.h"

namespace ballast::kernel {

namespace {

constexpr std::size_t kLogTail = 8192;
constexpr int kOldestKernel = 5010;

bool have(unsigned int capability) {
  return ::capng_have_capability(CAPNG_EFFECTIVE, capability) != 0;
}

int log_libbpf(libbpf_print_level level, const char* format, va_list arguments) {
  // libbpf explains a refused program by the verifier's whole log: at debug, and only then made.
  if (!spdlog::should_log(level == LIBBPF_DEBUG ? spdlog::level::trace : spdlog::level::debug)) {
    return 0;
  }
  va_list again;
  va_copy(again, arguments);
  const int length = std::vsnprintf(nullptr, 0, format, again);
  va_end(again);
  if (length > 0) {
    std::string text(static_cast<std::size_t>(length) + 1, '\0');
    std::vsnprintf(text.data(), text.size(), format, arguments);
    text.pop_back();
    while (!text.empty() && text.back() == '\n') {
      text.pop_back();
    }
    // The reason is at a log's end.
    text.erase(0, text.size() - std::min(text.size(), kLogTail));
    spdlog::log(level == LIBBPF_DEBUG ? spdlog::level::trace : spdlog::level::debug, "libbpf: {}", text);
  }
  return length;
}

}  // namespace

Status check_capabilities() {
  ::capng_get_caps_process();
  std::string missing;
  const auto want = [&](bool held, const char* name) {
    if (!held) {
      missing += missing.empty() ? name : std::string(", ") + name;
    }
  };
  const bool admin = have(CAP_SYS_ADMIN);
  want(admin || have(CAP_BPF), "CAP_BPF");
  want(admin || have(CAP_PERFMON), "CAP_PERFMON");
  want(have(CAP_NET_ADMIN), "CAP_NET_ADMIN");
  if (missing.empty()) {
    return ok();
  }
  return Error::privilege("missing " + missing +
                          ": ballastd needs CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN in its effective set "
                          "(run as root, or setcap cap_bpf,cap_perfmon,cap_net_admin+ep)");
}

int kernel_version() {
  utsname names{};
  int major = 0;
  int minor = 0;
  ::uname(&names);
  return std::sscanf(names.release, "%d.%d", &major, &minor) == 2 ? major * 1000 + minor : 0;
}

Status check_version() {
  if (kernel_version() >= kOldestKernel) {
    return ok();
  }
  utsname names{};
  ::uname(&names);
  return Error::privilege(std::string("Linux ") + names.release + " is older than 5.10");
}

Status check_btf() {
  if (::access("/sys/kernel/btf/vmlinux", R_OK) == 0) {
    return ok();
  }
  return Error::privilege(
      "the kernel does not offer its types (/sys/kernel/btf/vmlinux): CONFIG_DEBUG_INFO_BTF is needed");
}

void route_libbpf_log() {
  ::libbpf_set_print(log_libbpf);
}

}  // namespace ballast::kernel
