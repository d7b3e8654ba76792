// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace ballast::bench {

/// `ballast-bench sync`: simulated workers against a real ballast-global over real sockets; and
/// `ballast-bench fleet`: nodes that report their pods.
struct SyncOptions {
  std::vector<std::size_t> workers = {100};  ///< one run each, a server of its own each
  std::size_t parameters = 20'000;
  std::size_t pods = 0;   ///< of a node; 0: workers that sync
  bool writer = false;    ///< beside the nodes one that asks for all endpoints twice a second
  double seconds = 10;    ///< measured, after a warm-up of two intervals
  double interval_s = 5;  ///< between the syncs of one worker
  unsigned threads = 1;   ///< that drive the workers
  std::string output;     ///< JSON; "-" is stdout: a row, or a list of rows for several `workers`
  std::string csv;        ///< the rows' figures as a table; empty: none
  std::string plot;       ///< SVG: cost per worker over the number of workers; empty: none
  std::string beside;     ///< JSON of an earlier run of the other kind, drawn in the same plot; empty: none
};

Status run_sync(const SyncOptions& options);

/// What one run cost the server, for each worker or node.
struct SyncCost {
  bool fleet = false;
  double clients = 0;
  double server_cpu_us_per_sync = 0;
  double server_kib_per_client = 0;
};
/// Both kinds in one plot, on logarithmic axes.
std::string sync_cost_svg(const std::vector<SyncCost>& points);

}  // namespace ballast::bench
