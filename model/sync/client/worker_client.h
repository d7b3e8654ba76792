// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "model/policy/parameters.h"
#include "model/sync/network/global_network.h"
#include "model/sync/transport/tls.h"

namespace ballast::sync {

struct WorkerOptions {
  /// Of the global network, any gRPC target; "ipv4:IP:PORT,IP:PORT" names several replicas, of which
  /// the one that leads answers.
  std::string address;
  std::string worker_id;                          ///< for people and for the server's log
  Network network = Network::kActorCritic;        ///< whose parameters and gradients these are
  std::string service = {};                       ///< of gains: NAMESPACE/NAME
  std::chrono::milliseconds pull_interval{1000};  ///< while there is nothing to push
  std::chrono::milliseconds first_wait{100};      ///< before the first reconnect, jittered
  std::chrono::milliseconds longest_wait{10'000};
  std::size_t queue = 64;   ///< gradients that may wait; more are dropped
  TlsFiles tls;             ///< empty: in the clear
  std::string token_file;   ///< shown to the server, read again for each connection; needs `tls.authority`
  std::string server_name;  ///< that the server's certificate has to carry; empty: as dialled
};

/// Parameters as they came, and as they read.
struct Received {
  policy::Parameters parameters;
  std::string bytes;
};

struct WorkerCounters {
  std::uint64_t connects = 0;
  std::uint64_t accepted = 0;
  std::uint64_t rejected = 0;
  std::uint64_t dropped = 0;  ///< the queue was full
  std::uint64_t lost = 0;     ///< on its way when the connection broke: perhaps applied, never sent again
  std::uint64_t refused_parameters = 0;  ///< damaged, of another shape or of an epoch that had passed
};

/// The worker's end of GlobalNetwork.Sync. One thread of its own talks; every call here returns
/// at once, whether the server is there or not. While it is away the last good parameters stay,
/// and the client returns with jittered exponential back-off.
class WorkerClient {
 public:
  static std::unique_ptr<WorkerClient> start(const WorkerOptions& options);
  /// Cuts the stream; gradients that still wait are gone.
  ~WorkerClient();
  WorkerClient(const WorkerClient&) = delete;
  WorkerClient& operator=(const WorkerClient&) = delete;

  /// False (and counted as dropped) when the queue is full.
  bool push(Gradient gradient);
  /// The newest parameters since the last call; null when there are none.
  std::shared_ptr<const Received> take_parameters();
  bool connected() const;
  WorkerCounters counters() const;

 private:
  struct Impl;
  explicit WorkerClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ballast::sync
