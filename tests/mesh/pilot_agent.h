// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "control_plane.h"

namespace ballast::mesh {

/// pilot-agent: asks istiod's CA for a service account's certificate, with the account's token, and gives it
/// out on a socket (SDS). In place of the Envoy that it wants to start, whose bootstrap needs Istio's own
/// build, it gets a program that waits; the tests' Envoy takes its certificates from the socket.
class PilotAgent {
 public:
  static Result<std::unique_ptr<PilotAgent>> start(ControlPlane& plane, const std::string& account, int port);
  const fs::path& socket() const { return socket_; }

 private:
  PilotAgent() = default;
  ChildProcess process_;
  fs::path socket_;
};

/// For a suite: an istiod that signs certificates, started anew with more settings, and these service
/// accounts in shop. Nothing where they cannot be had here. The second undoes the first.
void start_signing_istiod(const std::vector<std::string>& accounts, const std::vector<std::string>& env = {});
void stop_signing_istiod();

}  // namespace ballast::mesh
