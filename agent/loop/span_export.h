// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/export/otlp.h"
#include "agent/export/prometheus_exporter.h"
#include "agent/export/route_stats.h"
#include "agent/identity/identity.h"
#include "agent/sample/span_reader.h"
#include "core/base/clock.h"
#include "core/base/result.h"

namespace ballast::loop {

/// Takes sampled spans out of the kernel once a tick, names their pods, counts their routes and users, and
/// hands them to the collector's exporter where there is one. Whatever happens on this way, the tick does not
/// wait for it.
class SpanExport {
 public:
  /// `exporter` may be none.
  SpanExport(sample::SpanReader reader, telemetry::RouteStats routes,
             std::unique_ptr<telemetry::OtlpExporter> exporter)
      : reader_(std::move(reader)), routes_(std::move(routes)), exporter_(std::move(exporter)) {}

  /// `metrics`, which may be none, learns from them. Whether there were any.
  bool tick(const std::vector<identity::Pod>& pods, MonotonicNs now, telemetry::PrometheusExporter* metrics);

  telemetry::OtlpCounts counts() const {
    return exporter_ == nullptr ? telemetry::OtlpCounts() : exporter_->counts();
  }
  const telemetry::RouteStats& routes() const { return routes_; }
  /// Spans overwritten in the kernel before they were read.
  std::uint64_t lost() const { return reader_.lost(); }

 private:
  sample::SpanReader reader_;
  telemetry::RouteStats routes_;
  std::unique_ptr<telemetry::OtlpExporter> exporter_;
  std::string complaint_;
};

}  // namespace ballast::loop
