// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "core/fleet/report.h"
#include "model/sync/transport/tls.h"

namespace ballast::sync {

struct FleetClientOptions {
  /// Of ballast-global, any gRPC target; "ipv4:IP:PORT,IP:PORT" names several replicas, of which the one
  /// that leads answers.
  std::string address;
  std::string node_id;                        ///< with TLS: as the certificate says
  std::chrono::milliseconds first_wait{100};  ///< before the first reconnect, jittered
  std::chrono::milliseconds longest_wait{10'000};
  TlsFiles tls;            ///< empty: in the clear
  std::string token_file;  ///< shown to the server, read again for each connection; needs `tls.authority`
  std::string server_name;
  bool operator==(const FleetClientOptions&) const = default;

  void declare(options::Schema& s) {
    s.section("fleet");
    s.text("remote", address, "HOST:PORT",
           "ballast-global, or any gRPC target; empty: this node is all there is");
    s.text("node", node_id, "NAME", "ours there; empty: kubernetes.node, $NODE_NAME or the host's name");
    tls.declare(s, token_file);
    s.text("token_file", token_file, "FILE",
           "of a token that says who we are, in the place of a certificate; needs tls_ca");
    s.text("server_name", server_name, "NAME", "that its certificate has to carry; empty: as dialled");
  }
};

struct FleetClientCounters {
  std::uint64_t accepted = 0;
  std::uint64_t refused = 0;
  std::uint64_t replaced = 0;  ///< offered, but never sent: the one before was still on its way
  std::uint64_t broken = 0;    ///< streams that ended, or could not be opened
};

/// The node's end of Fleet.Report. One thread of its own talks; answered() alone waits for it.
class FleetClient final : public fleet::Exchange {
 public:
  static std::unique_ptr<FleetClient> start(const FleetClientOptions& options);
  ~FleetClient() override;  ///< cuts the stream
  FleetClient(const FleetClient&) = delete;
  FleetClient& operator=(const FleetClient&) = delete;

  void offer(fleet::NodeReport report) override;
  std::shared_ptr<const fleet::FleetView> latest() const override;
  std::shared_ptr<const fleet::FleetView> answered(std::chrono::milliseconds most) const override;
  FleetClientCounters counters() const;

 private:
  struct Impl;
  explicit FleetClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ballast::sync
