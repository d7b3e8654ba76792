// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "model/sync/network/global_network.h"
#include "model/sync/server/global_server.h"

namespace ballast::sync {

/// All that an operator may ask of a ballast-global.
struct GlobalStatus {
  bool leader = false;
  bool ready = false;   ///< leads, listens and does not drain
  std::string address;  ///< of the gRPC door; empty while it does not listen
  GlobalStats network;
  ServerStats server;
  double checkpoint_age_s = 0;
  std::uint64_t checkpoint_failures = 0;
  std::vector<WorkerRecord> workers;  ///< the worst
  GlobalStats forecast;               ///< of the network of the forecast
  std::vector<WorkerRecord> forecast_workers;
};

/// Prometheus text of the status.
std::string metrics_text(const GlobalStatus& status);
/// Rows of docs/metrics.md.
std::string metric_definitions();
/// The status as JSON, as `ballastctl global` shows it.
std::string status_json(const GlobalStatus& status);

/// HTTP for operators, in the clear: /metrics, /status, /healthz (200 while the process lives) and
/// /readyz (200 while it leads and serves, 503 else).
class OperationsServer {
 public:
  /// `address`: IP:PORT, port 0 takes a free one; usage error beyond loopback unless told otherwise.
  /// `status` is called from threads of the server.
  static Result<std::unique_ptr<OperationsServer>> start(const std::string& address, bool beyond_loopback,
                                                         std::function<GlobalStatus()> status);
  ~OperationsServer();
  OperationsServer(const OperationsServer&) = delete;
  OperationsServer& operator=(const OperationsServer&) = delete;
  const std::string& address() const;

 private:
  struct Impl;
  explicit OperationsServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ballast::sync
