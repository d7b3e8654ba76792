// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/base/process.h"
#include "core/base/result.h"
#include "tools/lab/http.h"

namespace ballast::lab {

/// An endpoint as its EDS source gives it.
struct EdsEndpoint {
  Endpoint endpoint;
  int weight = 1;
};

struct EnvoyOptions {
  std::filesystem::path binary;
  std::filesystem::path folder;  ///< bootstrap and log go here
  std::filesystem::path cgroup;  ///< entered before exec
  Endpoint listener;
  Endpoint admin;
  std::string lb_policy;
  std::string eds_service;           ///< NAMESPACE/SERVICE
  std::filesystem::path eds_file;    ///< EDS from this file ...
  Endpoint eds_server;               ///< ... or, when the file is empty, by gRPC from here
  std::filesystem::path access_log;  ///< empty: none
};

/// One endpoint as Envoy's /clusters shows it.
struct HostStatus {
  Endpoint endpoint;
  int weight = 0;
  bool healthy = false;
  std::uint64_t rq_total = 0;
  std::uint64_t rq_error = 0;
  std::uint64_t rq_active = 0;
  std::uint64_t cx_connect_fail = 0;
};

/// $BALLAST_ENVOY, else the virtual environment under the build folder that tools/deps.sh made, else PATH.
Result<std::filesystem::path> find_envoy();

/// The bootstrap as JSON: one worker's listener, admin, one EDS cluster, no retries, no timeouts and
/// no circuit breaker that the load could meet. With an access log, a line a request:
/// UPSTREAM_HOST STATUS US_TO_FIRST_BYTE US_TO_LAST_BYTE, both from the first byte sent upstream.
std::string envoy_bootstrap(const EnvoyOptions& options);

/// Replaces the EDS file at once; Envoy takes it over when the file is moved in.
Status write_eds_file(const std::filesystem::path& file, const std::string& service,
                      const std::vector<EdsEndpoint>& endpoints, std::uint64_t version);

/// From the body of /clusters?format=json, the hosts of cluster "web".
Result<std::vector<HostStatus>> parse_clusters(const std::string& json);

/// From the body of /stats, what became of every request, pods that have gone included: `downstream` came in,
/// `upstream` were given to a pod, `without_pod` were not (no host, or its connection could not be had),
/// `cut_off` of `upstream` were under way when the pod's end closed the connection.
std::map<std::string, std::uint64_t> parse_counters(const std::string& text);

/// A running Envoy with one worker.
class Envoy {
 public:
  static Result<Envoy> start(const EnvoyOptions& options);
  /// Waits until it has `endpoints` hosts and listens. The error quotes the log.
  Status wait_ready(std::size_t endpoints, int timeout_ms);
  Result<std::vector<HostStatus>> hosts() const;
  /// Since its start: parse_counters().
  Result<std::map<std::string, std::uint64_t>> counters() const;
  ChildProcess& process() { return process_; }
  void stop() { process_.stop(std::chrono::milliseconds(500)); }

 private:
  Envoy(EnvoyOptions options, ChildProcess process)
      : options_(std::move(options)), process_(std::move(process)) {}
  EnvoyOptions options_;
  ChildProcess process_;
};

}  // namespace ballast::lab
