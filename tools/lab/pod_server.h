// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/result.h"
#include "tools/lab/http.h"
#include "tools/lab/scenario.h"

namespace ballast::lab {

/// The application of a lab pod: HTTP/1.1 with keep-alive, `GET /work?us=N` burns N µs of CPU time
/// of the answering thread (network calls included), then says 200; with `&wait=M` it sleeps M µs times
/// the pod's wait factor before it answers. Exports nothing about itself.
///
/// kProcessorSharing: a thread a connection; Envoy opens one for every request in flight, so the
/// kernel's scheduler shares the quota among them as an application with a thread pool does.
/// kFifo: as many requests at a time as it has workers over all connections, in order, each held until it
/// has waited too, as a single-threaded application or a pool of connections does.
/// A connection over the bound (4096) is closed. With a quota file its answers carry a LoadReport.
/// Returns only on error.
struct PodOptions {
  ServerKind kind = ServerKind::kProcessorSharing;
  int workers = 1;
  double wait_factor = 1;
  std::string quota_file;
};
Status serve_pod(const Endpoint& endpoint, const PodOptions& options);

/// What burns CPU in a cgroup below a pod's, on a schedule from its start. Does not return.
[[noreturn]] void burn_on_schedule(const Tenant& tenant);

}  // namespace ballast::lab
