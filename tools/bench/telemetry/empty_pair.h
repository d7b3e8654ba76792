// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/result.h"

namespace ballast::bench {

/// Attaches a cgroup_skb ingress and egress program that only say "pass" at `cgroup_root`, beside
/// whatever is there, until standard input ends: the floor of every design that hooks there. Says
/// "ready" on standard output. kPrivilege when the kernel refuses.
Status hold_empty_pair(const std::string& cgroup_root);

}  // namespace ballast::bench
