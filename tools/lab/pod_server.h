// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/result.h"
#include "tools/lab/http.h"
#include "tools/lab/scenario.h"

namespace ballast::lab {

/// The application of a lab pod: HTTP/1.1 with keep-alive, `GET /work?us=N` burns N µs of CPU time
/// of the answering thread (network calls included), then says 200. Exports nothing about itself.
///
/// kProcessorSharing: a thread a connection; Envoy opens one for every request in flight, so the
/// kernel's scheduler shares the quota among them as an application with a thread pool does.
/// kFifo: one request at a time over all connections, as a single-threaded application does.
/// A connection over the bound (4096) is closed. With a quota file its answers carry a LoadReport.
/// Returns only on error.
Status serve_pod(const Endpoint& endpoint, ServerKind kind, const std::string& quota_file = "");

}  // namespace ballast::lab
