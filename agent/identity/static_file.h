// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "agent/identity/identity.h"
#include "core/base/result.h"

namespace ballast::identity {

/// Reads the text of a static identity file:
///
///   pods:
///   - {cgroup: /lab/web-0, pod: web-0, namespace: shop, service: web, address: 127.1.0.10, port: 8080}
///
/// `pod` and `namespace` are always needed; `cgroup` is relative to the v2 root, and an entry
/// without it is an endpoint that is not on this node; `service`, `address` and `port` go
/// together; `container` tells several entries of one pod apart. cgroup_id is 0 in the result.
///
/// Errors are Error::usage, "FILE:LINE: KEY: ...", with `file` as FILE: an unknown or
/// repeated key, a wrong type, a missing key, a bad address, port or cgroup, a (service, pod)
/// that is there twice.
Result<std::vector<Pod>> parse_static_pods(const std::string& text, const std::string& file);

}  // namespace ballast::identity
