// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tools/bench/cells.h"
#include "tools/bench/live_figure.h"
#include "tools/bench/matrix.h"
#include "tools/bench/statistics.h"

namespace ballast::bench {

/// Learning curves of one learner in one world: at each step the interquartile mean over the seeds with its
/// 95 % interval. A line of something that does not learn is one too.
struct LearningCurve {
  std::string learner;
  std::string world;
  std::size_t seeds = 0;
  std::vector<double> steps;
  std::vector<Estimate> returns;
};

/// Goodput of one technique on one traffic, in requests a second by time.
struct ThroughputCurve {
  std::string policy;
  std::string label;
  std::string traffic;
  std::vector<double> seconds;
  std::vector<Estimate> goodput;
};

struct Figures {
  std::vector<LearningCurve> learning;
  std::string learning_note;  ///< why there are none, or how they were made
  std::vector<ThroughputCurve> throughput;
  std::vector<LiveFigure> live;  ///< beside the simulated ones; empty: none were given
  Matrix matrix;
  std::string how;  ///< seeds, sizes, command: what a reader needs to make it again
};

/// The beginning of a page up to its body, with the style that charts.h counts on.
std::string page_head(const std::string& title);

/// One self-contained page: no scripts, no fonts, no pictures from elsewhere.
std::string page(const Figures& figures);

std::string learning_csv(const std::vector<LearningCurve>& curves);
std::string throughput_csv(const std::vector<ThroughputCurve>& curves);

}  // namespace ballast::bench
