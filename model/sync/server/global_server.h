// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/base/result.h"
#include "model/sync/fleet/fleet_registry.h"
#include "model/sync/network/gains_networks.h"
#include "model/sync/network/global_network.h"
#include "model/sync/network/promotion.h"
#include "model/sync/server/proof.h"
#include "model/sync/transport/tls.h"

namespace ballast::sync {

struct ServerOptions {
  std::size_t most_workers = 25'000;  ///< open streams, of workers and nodes together; one more is refused
  /// What gRPC may hold for all connections together. It keeps a buffer as large as the last message for
  /// the next read of each; near this bound it gives those of idle connections back, beyond it cuts streams.
  std::size_t memory_bytes = 192UL << 20;
  std::chrono::milliseconds hello{10'000};  ///< for the first whole message of a stream
  std::chrono::milliseconds idle{120'000};  ///< for each further one
  std::chrono::milliseconds write{20'000};  ///< until the worker has read an answer
  TlsFiles tls;                             ///< empty: in the clear
  PromotionOptions promotion;
  /// The forecast's; null: none is served. Has to outlive the server.
  GlobalNetwork* forecast = nullptr;
  /// Those of the gains, by the same rules; null: none are served. Have to outlive the server.
  GainsNetworks* gains = nullptr;
  /// With TLS: what a worker's identity (SPIFFE id, else DNS name) has to begin with. Its worker id
  /// has to be that identity, alone or followed by "/..."; what is counted, is counted of the identity.
  std::string identity_prefix;
  /// With TLS: who calls is told by a bearer token, and its node is the identity. Null: by a certificate.
  std::shared_ptr<Proof> proof;
  /// What the identity of who writes weights begins with: it is no node, and it alone is shown all nodes'
  /// endpoints. Empty: every node is shown them that asks.
  std::string writer_prefix;
  /// Whether a node may speak for an endpoint; null: any may, and the first that did keeps it.
  std::function<bool(const std::string& node, const spec::EndpointTelemetry& endpoint)> owns;
};

/// A learner learns in its twins a tenth of its time: trials of gains take so many times as long.
inline constexpr int kGainsWindows = 10;

/// Why streams were ended by the server.
enum class Ended { kMalformed, kIdentity, kTooLarge, kTooMany, kSilent, kNeverReads, kDraining };
inline constexpr std::size_t kEnded = 7;
const char* to_string(Ended reason);

struct ServerStats {
  std::size_t workers = 0;      ///< open streams
  std::uint64_t streams = 0;    ///< since the start
  std::uint64_t messages = 0;   ///< answered
  std::uint64_t unchanged = 0;  ///< of them without parameters, because the worker held them
  std::uint64_t bytes_in = 0, bytes_out = 0;
  std::uint64_t foreign = 0;  ///< endpoints in reports that were not the node's to speak for
  std::array<std::uint64_t, kEnded> ended{};
  fleet::FleetRegistryStats fleet;
  PromotionStats promotion, forecast_promotion;
};

/// The door of the global network and of the fleet: gRPC, one stream a worker and one a node, no thread
/// for either. What it holds for one worker does not depend on what the worker does: one message being read,
/// then one answer, whose parameters all workers share.
class GlobalServer {
 public:
  /// `address` as in listen.h; port 0 takes a free one. Fails naming the address and the reason.
  /// `network` has to outlive the server.
  static Result<std::unique_ptr<GlobalServer>> start(const std::string& address, GlobalNetwork& network,
                                                     const ServerOptions& options = {});
  /// Drains: answers what was read, ends all streams with UNAVAILABLE and waits for them, half a
  /// second at most before it cuts them.
  ~GlobalServer();
  GlobalServer(const GlobalServer&) = delete;
  GlobalServer& operator=(const GlobalServer&) = delete;

  /// Where it listens, with the port taken.
  const std::string& address() const;
  std::size_t workers() const;  ///< open streams
  /// Version of a service's gains that all may act with; nullopt: nobody asked for them yet.
  std::optional<Version> released_gains(const std::string& service) const;
  ServerStats stats() const;

 private:
  struct Impl;
  explicit GlobalServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ballast::sync
