// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "tools/bench/charts.h"

namespace ballast::bench {

/// Figure 4 of one client in one traffic, live: of a report of ballast-lab (tools/jmeter/run).
struct LiveFigure {
  LineChart chart;                     ///< answered requests a second over time, the mean over the rounds
  TextTable table;                     ///< with 95 % intervals over the rounds
  std::vector<std::string> judgement;  ///< a sentence for each technique of ours: the best, or where not
};

/// FOLDER/{jmeter,generator}-{normal,stress,spike}.json, those that are there, in this order. None at all, or
/// one that is no whole report, is an error that names it.
Result<std::vector<LiveFigure>> read_live(const std::filesystem::path& folder);

/// Their part of the page.
std::string html(const std::vector<LiveFigure>& figures);

}  // namespace ballast::bench
