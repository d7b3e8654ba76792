// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/make_sink.h"

#include <algorithm>

#include "agent/actuate/dry_run.h"
#include "agent/actuate/file_sink.h"
#include "agent/actuate/xds.h"

namespace ballast::actuate {

Result<std::unique_ptr<WeightSink>> make_sink(const std::string& spec, const SinkOptions& options) {
  if (spec == "dry-run") {
    return std::unique_ptr<WeightSink>(std::make_unique<DryRunSink>());
  }
  if (spec.starts_with("file:") && spec.size() > 5) {
    return FileSink::create(spec.substr(5));
  }
  if (spec.starts_with("xds:") && spec.size() > 4) {
    constexpr int kLateTicks = 6;
    XdsOptions xds{.address = spec.substr(4), .allow_remote = options.allow_remote};
    xds.stale_after = std::max(xds.stale_after, kLateTicks * options.tick);
    Result<std::unique_ptr<XdsSink>> sink = XdsSink::listen(xds);
    if (!sink) {
      return sink.error();
    }
    return std::unique_ptr<WeightSink>(std::move(sink).value());
  }
  if (spec == "istio") {
    return Error::usage(
        "sink 'istio' needs an API server's credentials: see agent/actuate/istio/istio_sink.h");
  }
  return Error::usage("sink '" + spec + "' is unknown: use dry-run, file:PATH, xds:IP:PORT or xds:unix:PATH");
}

}  // namespace ballast::actuate
