// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "agent/kube/client.h"
#include "core/base/result.h"

namespace ballast::ctl {

/// Where `release` and `check` find the API server: by default as a pod does, by its service account.
struct ReleaseOptions {
  std::string server;
  std::string ca_file;
  std::string token_file;
  std::string lease = "ballast-system/ballast-leader";  ///< NAMESPACE/NAME
  std::string target;                                   ///< NAMESPACE/SERVICE
  bool all = false;
};

/// What is given of the API server, or else the pod's own. kUsage outside a cluster.
Result<kube::ClientOptions> api(const ReleaseOptions& options);

/// `ballastctl release SERVICE|--all`: gives Services back to plain Kubernetes by hand, whether or not a
/// leader lives, and says what was done. They stay released until the annotation ballast.dev/released is
/// taken off the Lease. Errors: kUsage for a target that is none; kFailed when the API server refuses.
Result<std::string> release(const ReleaseOptions& options);

}  // namespace ballast::ctl
