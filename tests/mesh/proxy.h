// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "control_plane.h"

namespace ballast::mesh {

/// A real Envoy as the sidecar of a client in namespace shop, configured by istiod alone: listeners on
/// the Services' ports, routed by Host.
class Proxy {
 public:
  static Result<std::unique_ptr<Proxy>> start(ControlPlane& plane);

  /// Weights by address of those that take traffic in the cluster of a host and port; empty when there is no
  /// such cluster.
  std::map<std::string, std::uint32_t> weights(const std::string& host, int port = 80) const;
  /// Requests by address that the cluster sent so far.
  std::map<std::string, std::uint64_t> requests(const std::string& host, int port = 80) const;
  /// The cluster to which the host's route on this port leads; empty when there is none.
  std::string routed_to(const std::string& host, int port = 80) const;
  /// Status of one GET through the proxy; 0 when nothing came.
  int get(const std::string& host) const;
  /// Updates of a discovery service that Envoy took over so far: "cluster_manager.cds",
  /// "listener_manager.lds".
  double stat(const std::string& name) const;

 private:
  explicit Proxy(ChildProcess process) : process_(std::move(process)) {}
  Json clusters() const;
  ChildProcess process_;
};

}  // namespace ballast::mesh
