// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tools/bench/cells.h"
#include "tools/bench/statistics.h"

namespace ballast::bench {

struct MatrixOptions {
  CellOptions cells;
  std::vector<std::string> scenarios;  ///< empty: all built-in ones with their variants
  std::vector<std::string> policies;   ///< empty: all
  std::vector<double> ticks;           ///< of the policies with a loop; empty: .25, .5, 1, 2 s
  std::vector<std::string>
      candidates;  ///< that are judged; empty: both priors, and ballast if it has parameters
};

/// One policy in one scenario, over the seeds.
struct MatrixRow {
  Cell cell;
  Estimate p50_ms, p99_ms, p999_ms, goodput_rps, churn;
  /// To Istio's default on the same seeds.
  Estimate p50_ratio, p99_ratio, p999_ratio, goodput_ratio;
};

/// A candidate against a baseline on the same seeds.
struct Comparison {
  Cell candidate;
  std::string baseline;
  Estimate p50, p99, goodput;
  bool censored = false;  ///< both p99 are the deadline: what tells them apart is goodput
};

enum class Ruling { kPass, kMiss, kNotAsked };
const char* word(Ruling verdict);

/// One of the four targets, for one candidate, scenario and tick:
/// 1 never worse than Istio's default (p99 at most 1.01 of LEAST_REQUEST's);
/// 2 better than all that Istio offers, where differences last at least ten loop delays;
/// 3 better than Peak-EWMA, Prequal, C3, L3, CSWRR and FULL_SCAN, where they last 10 s and more;
/// 4 within 10 % of the optimal static split, on static pods.
/// "Better" is a p99 below, or, where both are the deadline, a goodput above.
struct Judgement {
  Cell candidate;
  int target = 1;
  Ruling verdict = Ruling::kNotAsked;
  std::string why;        ///< the worst comparison, or why it is not asked
  double worst = 0;       ///< its ratio of p99
  double worst_high = 0;  ///< upper end of its interval
};

struct Matrix {
  std::vector<MatrixRow> rows;
  std::vector<Comparison> comparisons;
  std::vector<Judgement> judgements;
};

inline constexpr const char* kIstioDefault = "least_request";

/// Fills what is empty in the options; unknown names are refused with the known ones.
Result<MatrixOptions> completed(MatrixOptions options);

using Progress = std::function<void(std::size_t done, std::size_t all, const Cell&)>;
/// Runs all cells (resumable, see cells.h) and compares. REQUIRES completed options.
Result<Matrix> make_matrix(const MatrixOptions& options, const Progress& progress);

/// CSV texts with a head line.
std::string rows_csv(const Matrix& matrix);
std::string comparisons_csv(const Matrix& matrix);
std::string judgements_csv(const Matrix& matrix);
/// For people: each candidate's verdicts, a line a scenario and tick, and how many of each.
std::string summary(const Matrix& matrix);

}  // namespace ballast::bench
