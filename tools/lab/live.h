// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace ballast::lab {

struct LiveRow {
  std::string service;
  std::string pod;
  double rps = 0;
  double p50_ms = -1;  ///< negative: not known in this arm (nothing measures single pods)
  double p99_ms = -1;
  std::int64_t in_flight = 0;
  double cpu_cores = 0;
  double quota = 0;
  int weight = 0;
  std::string why;
};

/// The table that people watch: redrawn in place on a terminal, else printed every few seconds.
class LiveTable {
 public:
  enum class Mode { kOff, kRedraw, kPrint };
  /// kRedraw where stdout is a terminal that can move its cursor, else kPrint; kOff when not wanted.
  static Mode pick(bool wanted);
  explicit LiveTable(Mode mode) : mode_(mode) {}

  Mode mode() const { return mode_; }
  /// Seconds between two showings.
  double interval_s() const { return mode_ == Mode::kRedraw ? 1.0 : 5.0; }
  void show(const std::string& title, const std::vector<LiveRow>& rows);
  /// The next showing begins below what is there.
  void settle() { lines_ = 0; }

 private:
  Mode mode_;
  int lines_ = 0;
};

}  // namespace ballast::lab
