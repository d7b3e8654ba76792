// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "agent/actuate/sink.h"

namespace ballast::actuate {

struct SinkOptions {
  /// Lets xds:ADDR listen beyond loopback. Off by default: the stream has no authentication.
  bool allow_remote = false;
  std::chrono::milliseconds tick{250};  ///< what is renewed every tick may lapse only after several
};

/// The sink of `--sink SPEC`: `dry-run`, `file:PATH` or `xds:ADDR` (IP:PORT or unix:PATH).
/// `istio` is not among them: it takes more than a word (istio/istio_sink.h).
/// Errors: kUsage for a spec that is none of these; kFailed when the file cannot be written or the
/// address cannot be listened on.
Result<std::unique_ptr<WeightSink>> make_sink(const std::string& spec, const SinkOptions& options);

}  // namespace ballast::actuate
