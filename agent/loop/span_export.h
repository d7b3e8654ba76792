// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "agent/export/otlp.h"
#include "agent/identity/identity.h"
#include "agent/sample/span_reader.h"
#include "core/base/clock.h"
#include "core/base/result.h"

namespace ballast::loop {

/// Takes sampled spans out of the kernel once a tick, names their pods and hands them to the
/// collector's exporter. Whatever happens on this way, the tick does not wait for it.
class SpanExport {
 public:
  SpanExport(sample::SpanReader reader, std::unique_ptr<telemetry::OtlpExporter> exporter)
      : reader_(std::move(reader)), exporter_(std::move(exporter)) {}

  void tick(const std::vector<identity::Pod>& pods, MonotonicNs now);

  telemetry::OtlpCounts counts() const { return exporter_->counts(); }
  /// Spans overwritten in the kernel before they were read.
  std::uint64_t lost() const { return reader_.lost(); }

 private:
  sample::SpanReader reader_;
  std::unique_ptr<telemetry::OtlpExporter> exporter_;
  std::string complaint_;
};

}  // namespace ballast::loop
