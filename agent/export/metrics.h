// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <map>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "agent/export/latency_fold.h"
#include "agent/export/prometheus_exporter.h"
#include "agent/export/request_split.h"
#include "core/metrics/metric.h"
#include "core/metrics/series.h"

namespace ballast::telemetry {

/// What is behind /metrics: totals kept by the loop, turned into families at a scrape.
class Metrics {
 public:
  void observe(const sample::Sample& sample, const std::vector<identity::Pod>& pods, const LoopMetrics& loop);
  void set_spans(const OtlpCounts& counts, std::uint64_t lost);
  /// RouteStats::users().
  void set_users(std::map<spec::ServiceId, double> users);
  void set_decision(const turn::Decision& decision);
  void withdraw(const spec::ServiceId& service);
  /// Server spans, for what they tell of requests; `exported`: they can be found at a collector.
  void learn(std::span<const ExportSpan> spans, bool exported);
  /// In the order of their names; those without series are left out.
  std::vector<metrics::Family> collect() const;
  static std::span<const metrics::Metric> definitions();

 private:
  struct ContainerTotals {
    std::uint64_t on_cpu_ns = 0;
    std::uint64_t wait_ns = 0;
    std::uint64_t memory_bytes = 0;
    sample::Pressures pressures;
  };
  struct PodTotals {
    RequestSplit duration;
    DurationHistogram grpc;
    std::uint64_t failed = 0;
    std::int64_t in_flight = 0;
    std::int64_t connections = 0;
    std::optional<std::int64_t> connection_drift;
    MonotonicNs seen = 0;  ///< last tick in which the pod was known
    std::map<std::string, ContainerTotals> containers;
  };
  struct PodKey {
    std::string ns, service, pod;
    auto operator<=>(const PodKey&) const = default;
  };
  struct EndpointWeight {
    std::string pod;
    std::uint32_t decided = 0;
    std::uint32_t in_force = 0;
    double shadow_share = 0;
  };
  struct ServiceWeights {
    bool neutral = true;
    bool tripped = false;
    guard::Outcome outcome = guard::Outcome::kNone;
    std::vector<EndpointWeight> endpoints;
    std::optional<decide::ForecastRecord> forecast;
    std::optional<spec::TwinWord> twin;
  };

  void add_loss(const std::array<ballast_loss_value, BALLAST_LOSS_REASONS>& totals);
  // REQUIRES of these: mutex_ is held.
  void collect_pods(std::vector<metrics::Family>& families) const;
  void collect_users(std::vector<metrics::Family>& families) const;
  void collect_weights(std::vector<metrics::Family>& families) const;
  void collect_agent(std::vector<metrics::Family>& families) const;

  mutable std::mutex mutex_;
  std::map<PodKey, PodTotals> pods_;
  std::map<spec::ServiceId, ServiceWeights> weights_;
  std::map<spec::ServiceId, double> users_;
  LoopMetrics loop_;
  std::uint64_t samples_ = 0;
  std::size_t left_out_ = 0;  ///< pods of the last tick that found no room
  std::vector<sample::MapFill> maps_;
  std::uint64_t reconcile_failures_ = 0;
  std::optional<OtlpCounts> spans_;
  std::uint64_t spans_lost_ = 0;
  std::array<std::uint64_t, 11> tick_counts_{};
  double tick_sum_s_ = 0;
  std::array<ballast_loss_value, BALLAST_LOSS_REASONS> loss_seen_{};   ///< as the maps said last
  std::array<ballast_loss_value, BALLAST_LOSS_REASONS> loss_total_{};  ///< grows over map lives
};

}  // namespace ballast::telemetry
