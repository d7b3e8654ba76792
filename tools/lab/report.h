// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "tools/lab/generator.h"
#include "tools/lab/live.h"
#include "tools/lab/scenario.h"
#include "tools/lab/timeline.h"

namespace ballast::lab {

/// What the kernel and Envoy counted for one pod over the whole run, warm-up included.
struct PodAccuracy {
  std::uint64_t kernel_requests = 0;
  double kernel_p50_ms = 0;  ///< to the last byte
  double kernel_p99_ms = 0;
  double kernel_first_p50_ms = 0;
  double kernel_first_p99_ms = 0;
};

struct PodResult {
  std::string pod;
  std::uint64_t requests = 0;        ///< Envoy's upstream rq_total over the measured window
  std::uint64_t requests_total = 0;  ///< over the whole run
  int weight = 0;                    ///< in force at the end
  double quota = 0;                  ///< at the end, CPUs
  double utilisation = 0;            ///< CPU used over quota, in the measured window
  std::optional<PodAccuracy> kernel;
  /// From the access log: first byte sent upstream to first and last byte received.
  std::optional<double> upstream_first_p50_ms, upstream_first_p99_ms, upstream_last_p50_ms,
      upstream_last_p99_ms;
};

struct EventResult {
  Event event;
  bool done = false;  ///< false where the arm has nothing to which it applies
  double t_s = 0;     ///< on the timeline's clock
  std::optional<Reaction> reaction;
};

struct ProcessUse {
  std::string name;
  double rss_peak_mb = 0;
  double millicores = 0;  ///< over the measured window
};

/// What the live table said at one moment.
struct Look {
  double unix_s = 0;
  std::vector<LiveRow> rows;
};

/// One arm, once.
struct RunResult {
  std::string policy;
  int round = 0;
  std::uint64_t seed = 0;
  double window_s = 0;
  std::vector<double> latencies_ms;          ///< sorted; answers and, with their age, unfinished ones
  std::uint64_t sent_total = 0;              ///< over the whole run, warm-up included
  std::vector<std::uint64_t> answered_by_s;  ///< with success, by the second of the window
  std::uint64_t requests = 0;
  std::uint64_t failed = 0;                    ///< answered with another status than 2xx, or broken off
  std::uint64_t unfinished = 0;                ///< not answered when the drain time was over
  double lateness_p99_ms = 0;                  ///< of the generator's own sending
  std::map<std::string, std::uint64_t> envoy;  ///< parse_counters(), since its last start
  std::vector<PodResult> pods;
  std::vector<ProcessUse> processes;
  Timeline timeline;           ///< t = 0 is the start of ballastd (of Envoy in other arms)
  double first_request_s = 0;  ///< on the timeline's clock
  double window_begin_s = 0;
  std::optional<double> convergence_s;  ///< from t = 0
  std::vector<EventResult> events;
  std::vector<Look> looks;  ///< once a second, where a page is wanted

  double goodput_rps() const;
  double utilisation_max_over_mean() const;
  double quantile_ms(double q) const;
};

/// Counts and latencies of the answers whose intended start lies in [from_ns, to_ns).
void add_answers(RunResult& run, const std::vector<Arrival>& arrivals, const std::vector<Answer>& answers,
                 std::uint64_t from_ns, std::uint64_t to_ns);

struct Report {
  Scenario scenario;
  std::uint64_t seed = 0;
  double duration_s = 0;
  std::vector<RunResult> runs;
};

/// What others script against, and more: per-run figures, and for every arm the ratios of
/// its p50 and p99 to each other arm's of the same round, with their median.
nlohmann::json to_json(const Report& report);

/// The page of `ballastctl ui` with the comparison and each arm's looks: one HTML file.
std::string report_page(const Report& report);

/// The closing comparison, for people.
std::string comparison_table(const Report& report);

}  // namespace ballast::lab
