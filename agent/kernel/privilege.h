// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/base/result.h"

namespace ballast::kernel {

/// Whether this process may load and attach our programs: CAP_BPF (maps, programs), CAP_PERFMON
/// (tracepoints, kernel pointers) and CAP_NET_ADMIN (cgroup_skb). CAP_SYS_ADMIN stands for the
/// first two, as it does in the kernel. Error: kPrivilege, naming every one that is missing.
Status check_capabilities();

/// The running kernel's version, 5011 for 5.11; 0 where it does not say.
int kernel_version();

/// kPrivilege when the running kernel is older than 5.10: first of all, as what it refuses then says nothing
/// of that.
Status check_version();

/// kPrivilege when the running kernel has no BTF: without it no program finds its fields.
Status check_btf();

/// Sends libbpf's own log to ours, at debug.
void route_libbpf_log();

}  // namespace ballast::kernel
