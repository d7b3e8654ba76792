// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "agent/export/latency_fold.h"
#include "core/metrics/series.h"

namespace ballast::telemetry {

/// What OpenTelemetry tells of an HTTP server's request beside its duration. Empty and 0: no span has told.
struct RequestAttributes {
  std::string method;        ///< http.request.method, "_OTHER" for those that no standard names
  std::uint16_t status = 0;  ///< http.response.status_code
  std::string error;         ///< error.type: the status from 500 on, "5xx" where only its class is known
  std::string route;         ///< http.route; empty too where the pod has more than are kept
  auto operator<=>(const RequestAttributes&) const = default;
};

RequestAttributes request_attributes(const std::string& method, std::uint16_t status, std::string route);

/// One pod's durations by their attributes. The kernel counts every request, but by class of status alone;
/// which methods, codes and routes they had is told by sampled spans. So each tick's requests are shared out:
/// their sum, their durations and how many of them failed (5xx), were the client's fault (4xx) or were
/// redirected are the kernel's, exactly; inside a class they go to attributes, and classes to durations, as
/// the last kMemory spans or so had them. What is due is carried from tick to tick, so shares come out
/// right in the long run also where a tick has one request.
class RequestSplit {
 public:
  /// Attribute sets with a route of a pod, and as many again without one.
  static constexpr std::size_t kMost = 16;
  static constexpr double kMemory = 1000;
  using Buckets = std::array<double, kDurationBounds.size() + 1>;
  using Exemplars = std::array<std::optional<metrics::Exemplar>, kDurationBounds.size() + 1>;

  struct Part {
    DurationHistogram duration;
    Exemplars exemplars;  ///< the last span of each bucket
    Buckets seen{};       ///< spans of late
    Buckets due{};        ///< requests that it has not been given yet
  };

  void learn(const RequestAttributes& attributes, double seconds, std::optional<metrics::Exemplar> exemplar);
  /// A tick's requests, and its answers by class of status.
  void add(const spec::Latency& latency, const std::array<std::uint64_t, BALLAST_STATUS_CLASSES>& answers);
  const std::map<RequestAttributes, Part>& parts() const { return parts_; }

 private:
  using Counts = std::array<std::uint64_t, kDurationBounds.size() + 1>;
  void give(std::size_t status_class, std::size_t bucket, std::uint64_t count, double mean_s);

  std::map<RequestAttributes, Part> parts_;
  std::array<Buckets, BALLAST_STATUS_CLASSES> due_{};  ///< of each class
};

}  // namespace ballast::telemetry
