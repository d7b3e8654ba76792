// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/identity/identity.h"
#include "agent/sample/span.h"
#include "core/base/options.h"
#include "core/base/result.h"

namespace ballast::telemetry {

struct OtlpOptions {
  std::string endpoint;  ///< base URL; /v1/traces is appended when it has no path
  std::size_t queue = 4096;
  std::size_t batch = 512;
  std::chrono::milliseconds timeout{2000};  ///< of one request
  std::chrono::milliseconds retry{1000};    ///< after a failure
  bool operator==(const OtlpOptions&) const = default;

  void declare(options::Schema& s) {
    s.section("spans");
    s.text("otlp", endpoint, "http://HOST:PORT", "an OpenTelemetry collector; empty: kept in the kernel",
           options::http_url);
  }
};

struct OtlpCounts {
  std::uint64_t exported = 0;
  std::uint64_t dropped = 0;   ///< the queue was full, or the collector refused them for good
  std::uint64_t failures = 0;  ///< requests that failed
  std::uint64_t waiting = 0;   ///< in the queue now
};

/// A span and who it belongs to, as it goes out.
struct ExportSpan {
  sample::Span span;
  identity::Pod pod;                ///< of `span.cgroup`; only `cgroup` is set when nobody is known there
  std::uint64_t unix_start_ns = 0;  ///< of span.start on the wall clock
  std::string peer_service = {};    ///< of the other end, SERVICE.NAMESPACE; empty: nobody that is known
  std::string peer_pod = {};
  std::string route = {};  ///< RouteStats::route_of()
};

/// The body of an OTLP/HTTP export request in JSON (opentelemetry-proto's trace service, "JSON
/// Protobuf Encoding": ids in hexadecimal, 64-bit numbers as strings). One resource a container;
/// names of attributes by the semantic conventions for HTTP and Kubernetes.
std::string otlp_json(const std::vector<ExportSpan>& spans);

/// Sends spans to a collector over HTTP from a thread of its own. What waits is bounded; what does
/// not fit is dropped and counted, so a collector that is slow, down or mad costs the caller
/// nothing. 429, 502, 503 and 504 and failed connections are tried again (OTLP 1.0, "Failures"),
/// other answers than 2xx drop the batch.
class OtlpExporter {
 public:
  /// kUsage: the endpoint is no http:// or https:// URL.
  static Result<std::unique_ptr<OtlpExporter>> start(const OtlpOptions& options);
  /// Gives what waits one last try.
  ~OtlpExporter();
  OtlpExporter(const OtlpExporter&) = delete;
  OtlpExporter& operator=(const OtlpExporter&) = delete;

  /// Never waits for the collector.
  void offer(std::vector<ExportSpan> spans);
  OtlpCounts counts() const;

 private:
  struct State;
  explicit OtlpExporter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ballast::telemetry
