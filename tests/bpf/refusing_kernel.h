// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <functional>
#include <future>
#include <set>
#include <string>
#include <thread>
#include <utility>

#include "core/base/unique_fd.h"

namespace ballast::testing {

/// Runs `work` on a thread of its own to which the kernel refuses, with EPERM, every BPF program of one of
/// these names: what a kernel without a hook, or with a stricter verifier or policy, does to us. seccomp
/// stops the thread at each load and this thread decides. false: the kernel has no such filter, and `work`
/// did not run.
inline bool on_a_kernel_without(std::set<std::string> names, const std::function<void()>& work) {
  sock_filter code[] = {
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_bpf, 0, 3),
      BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[0])),
      BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, BPF_PROG_LOAD, 0, 1),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF),
      BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog filter{sizeof code / sizeof code[0], code};
  std::promise<int> filtered;
  std::atomic<bool> done{false};
  std::thread thread([&] {
    ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    const long fd =
        ::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &filter);
    filtered.set_value(static_cast<int>(fd));
    if (fd >= 0) {
      work();
    }
    done = true;
  });
  const UniqueFd listener(filtered.get_future().get());
  while (listener && !done) {
    pollfd wait{listener.get(), POLLIN, 0};
    seccomp_notif asked{};
    if (::poll(&wait, 1, 20) <= 0 || ::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) {
      continue;
    }
    // It is a thread of this process: its pointers are ours. The kernel keeps 15 characters of a name.
    const auto* load = reinterpret_cast<const bpf_attr*>(asked.data.args[1]);
    const std::string name(load->prog_name, ::strnlen(load->prog_name, BPF_OBJ_NAME_LEN));
    bool refused = false;
    for (const std::string& each : names) {
      refused = refused || each.substr(0, BPF_OBJ_NAME_LEN - 1) == name;
    }
    seccomp_notif_resp answer{};
    answer.id = asked.id;
    answer.error = refused ? -EPERM : 0;
    answer.flags = refused ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE;
    ::ioctl(listener.get(), SECCOMP_IOCTL_NOTIF_SEND, &answer);
  }
  thread.join();
  return static_cast<bool>(listener);
}

}  // namespace ballast::testing
