// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "control_plane.h"

namespace ballast::mesh {

struct AgentOptions {
  std::string node = "node-a";
  std::string mode = "active";
  std::string policy;  ///< empty: the ConfigMap's
  fs::path token;      ///< empty: of the DaemonSet's own service account
  fs::path ca;         ///< empty: of the plane
  int metrics = 0;     ///< port of /metrics on 127.0.0.1; 0: none
  int lease_s = 0;     ///< 0: the default
  bool fast = false;   ///< kubernetes.istio_fast, whose rights the overlay istio-fast has
};

/// A real ballastd as the DaemonSet runs it: the ConfigMap's own configuration, its service account and its
/// flags; only the paths that a pod would mount, and where the API server is, are this machine's. What it
/// loaded into the kernel goes with it.
class Agent {
 public:
  /// REQUIRES that the plane has Ballast installed. Returns when the first tick is through.
  static Result<std::unique_ptr<Agent>> start(ControlPlane& plane, const AgentOptions& options = {});
  ~Agent();
  Agent(const Agent&) = delete;
  Agent& operator=(const Agent&) = delete;

  ChildProcess& process() { return process_; }
  /// ballastctl on its maps, with the API server and the service account for `release`.
  Ended ctl(std::vector<std::string> arguments);
  std::string log() const;
  /// Where its maps are pinned.
  fs::path bpffs() const;

 private:
  Agent(ControlPlane& plane, AgentOptions options) : plane_(plane), options_(std::move(options)) {}
  fs::path file(const std::string& suffix) const { return plane_.folder() / (name_ + suffix); }

  ControlPlane& plane_;
  AgentOptions options_;
  std::string name_;
  ChildProcess process_;
};

}  // namespace ballast::mesh
