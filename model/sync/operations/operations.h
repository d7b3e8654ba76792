// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/http/http_server.h"
#include "core/metrics/otlp_post.h"
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
  std::vector<GainsNetworks::One> gains;  ///< of each service
};

/// The answer to a scrape of the status.
http::Response metrics_answer(const GlobalStatus& status, const std::string& accept);
/// Rows of docs/metrics.md.
std::string metric_definitions();
/// The status as JSON, as `ballastctl global` shows it.
std::string status_json(const GlobalStatus& status);

/// HTTP for operators: /metrics, /status, /healthz (200 while the process lives) and /readyz (200 while it
/// leads and serves, 503 else), in the clear. `address`: IP:PORT, port 0 takes a free one; usage error beyond
/// loopback unless told otherwise. `status` is called from threads of the server.
Result<std::unique_ptr<http::Server>> serve_operations(const std::string& address, bool beyond_loopback,
                                                       std::function<GlobalStatus()> status);
/// The same metrics to a collector. `status` is called from a thread of the sender.
Result<std::unique_ptr<metrics::OtlpSender>> push_operations(const std::string& endpoint,
                                                             std::function<GlobalStatus()> status);

}  // namespace ballast::sync
