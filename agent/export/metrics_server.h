// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "core/base/listen_address.h"
#include "core/base/result.h"

namespace ballast::telemetry {

/// PEM files; both empty: no TLS.
struct TlsFiles {
  std::filesystem::path certificate;  ///< with the chain that leads to its authority
  std::filesystem::path key;
};

/// kUsage, naming the file and the reason, for what cannot be read or does not belong together.
Status check_tls(const TlsFiles& files);

/// GET /metrics over HTTP or, with a certificate, HTTPS alone (TLS 1.2 and later). Files that change are
/// taken over with the next connection; those that cannot be used are logged once, and the last good ones
/// stay.
class MetricsServer {
 public:
  /// `text`: the exposition, as OpenMetrics or as Prometheus's own; called from threads of the server.
  static Result<std::unique_ptr<MetricsServer>> start(const ListenAddress& address, const TlsFiles& files,
                                                      std::function<std::string(bool open_metrics)> text);
  ~MetricsServer();
  MetricsServer(const MetricsServer&) = delete;
  MetricsServer& operator=(const MetricsServer&) = delete;

  int port() const;

 private:
  struct State;
  explicit MetricsServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ballast::telemetry
