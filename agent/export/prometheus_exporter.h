// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "agent/export/otlp.h"
#include "agent/identity/identity.h"
#include "agent/sample/sample.h"
#include "agent/turn/decision.h"
#include "core/base/result.h"

namespace ballast::telemetry {

/// What the loop says of itself after a tick.
struct LoopMetrics {
  double tick_duration_s = 0;  ///< the tick's own work, without the sleep
  std::uint64_t policy_epoch = 0;
  std::uint64_t policy_version = 0;
  std::size_t subscribers = 0;
  double acknowledgement_delay_s = 0;
  std::map<std::string, bool> troubles;              ///< by what leads out of us: does it fail now?
  std::map<std::string, std::uint64_t> disbelieved;  ///< samples that cannot be, by what is wrong with them
};

struct ExporterOptions {
  std::string address;        ///< IP:PORT; port 0: chosen by the kernel; empty, with otlp: nothing is served
  bool allow_remote = false;  ///< lets it be reached from other machines
  std::filesystem::path tls_certificate = {};  ///< PEM, with its chain; with tls_key: HTTPS alone
  std::filesystem::path tls_key = {};
  std::string otlp = {};  ///< a collector's URL, which gets the same; empty: none
  std::chrono::milliseconds otlp_every{15'000};
  std::string node = {};  ///< k8s.node.name there
};

/// GET /metrics for Prometheus, and the same to a collector (core/metrics/otlp_metrics.h); the table in
/// metrics.cpp and docs/metrics.md name what is there. Cgroups without a pod are not exported.
///
/// Counters never go back while the agent runs, whatever happens to the maps. A pod that has gone
/// keeps its last counters for five minutes. Text is made at the scrape; the loop only hands over
/// numbers. Thread-safe.
class PrometheusExporter {
 public:
  /// Errors: kUsage for an address that is none, or beyond loopback, or TLS files; kFailed, naming the
  /// address and the reason, when it cannot be listened on.
  static Result<std::unique_ptr<PrometheusExporter>> listen(const ExporterOptions& options);
  ~PrometheusExporter();
  PrometheusExporter(const PrometheusExporter&) = delete;
  PrometheusExporter& operator=(const PrometheusExporter&) = delete;

  /// docs/metrics.md's rows.
  static std::string definitions();

  /// As bound, with the port that the kernel chose.
  const std::string& address() const;

  /// One tick. The sample's deltas are added to the counters, so hand in each sample once.
  void observe(const sample::Sample& sample, const std::vector<identity::Pod>& pods, const LoopMetrics& loop);
  /// Sampled spans, for method, code and route of requests; `exported`: a collector gets them, so that they
  /// can be found by an exemplar.
  void learn(std::span<const ExportSpan> spans, bool exported);
  /// Spans handed to a collector so far, and those that the kernel overwrote before.
  void set_spans(const OtlpCounts& counts, std::uint64_t lost);
  void set_users(std::map<spec::ServiceId, double> users);
  /// One service's record.
  void set_decision(const turn::Decision& decision);
  /// The service has no weights any more.
  void withdraw(const spec::ServiceId& service);

 private:
  struct State;
  explicit PrometheusExporter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ballast::telemetry
