// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/metrics/otlp_post.h"
#include "core/metrics/series.h"

namespace ballast::metrics {

/// The body of an OTLP/HTTP export request in JSON of what Prometheus would scrape at `now` (the wall clock,
/// as `start`, from which counters count). One resource a container, pod or Service (service.*, k8s.*), and
/// one of the program itself, `own`, on `node`; the labels that are left are the points' attributes, under
/// OpenTelemetry's names. Names are otel_name()'s.
std::string otlp_metrics_json(const std::vector<Family>& families, const std::string& own,
                              const std::string& node, std::uint64_t start_unix_ns,
                              std::uint64_t now_unix_ns);

/// Sends otlp_metrics_json() of `collect()` every `every`, and once more at its end; counters count from now.
/// A collector that is away costs the points of that time alone: totals come with the next. kUsage: the
/// endpoint is no http:// or https:// URL.
Result<std::unique_ptr<OtlpSender>> push_metrics(const std::string& endpoint, std::chrono::milliseconds every,
                                                 std::string own, std::string node,
                                                 std::function<std::vector<Family>()> collect);

}  // namespace ballast::metrics
