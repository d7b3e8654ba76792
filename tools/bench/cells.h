// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "model/sim/scenario.h"

namespace ballast::bench {

/// One policy in one scenario at one tick of its loop, over all seeds.
struct Cell {
  std::string scenario;  ///< NAME[:VARIANT] or FILE[:VARIANT]
  std::string policy;
  double tick_s = 0;  ///< 0: the policy has no loop
  auto operator<=>(const Cell&) const = default;
};

/// What one seed gave.
struct SeedResult {
  std::uint64_t seed = 0;
  double requests = 0;
  double p50_ms = 0;
  double p99_ms = 0;
  double p999_ms = 0;
  double goodput_rps = 0;
  double errors = 0;
  double churn = 0;  ///< weight changes a minute
  std::vector<double> goodput_by_second;
};
using CellResult = std::vector<SeedResult>;

struct CellOptions {
  std::filesystem::path folder;  ///< holds cells/, a file a cell
  std::uint64_t first_seed = 1;
  std::uint64_t last_seed = 10;
  unsigned jobs = 1;
  std::uint64_t most_requests = 0;  ///< cuts longer scenarios (for a quick look); 0: as they are
  std::string parameters;           ///< that `ballast` acts with; empty: the shipped one
};

/// Runs those cells that have no result file of the same scenario, policy, seeds and parameters
/// yet, and gives all, in order. A run that was stopped goes on where it was; a file that is
/// damaged or of something else is made anew. `progress` is told after each cell.
Result<std::vector<CellResult>> run_cells(
    const std::vector<Cell>& cells, const CellOptions& options,
    const std::function<void(std::size_t done, std::size_t all, const Cell&)>& progress);

/// The scenario as a cell runs it: cut to most_requests, its warm-up in proportion.
Result<sim::Scenario> cell_scenario(const std::string& reference, const CellOptions& options);

/// Does the policy have a control loop, so that the tick matters?
bool has_loop(const std::string& policy);

/// How long the differences of speed between the scenario's pods last, in seconds: infinity for pods
/// that differ from beginning to end, 0 where all are equal all the time.
double differences_last_s(const sim::Scenario& scenario);
/// Pods that differ, and never change.
bool has_static_pods(const sim::Scenario& scenario);

}  // namespace ballast::bench
