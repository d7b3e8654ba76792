// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "agent/export/otlp.h"
#include "agent/sample/routes.h"
#include "core/spec/telemetry.h"

namespace ballast::telemetry {

/// How many different things were seen, within 4 % (HyperLogLog with 1,024 registers), in 1 KB.
class DistinctCount {
 public:
  void add(std::uint64_t hash);
  void add(const DistinctCount& other);
  double count() const;

 private:
  std::array<std::uint8_t, 1024> registers_{};
};

/// What the sampled requests of services tell beside their times: the names of their routes, and how many
/// users they had. Of sampled requests alone, at the serving end: one time slice in spans.every.
class RouteStats {
 public:
  static constexpr std::size_t kMostServices = 512;
  static constexpr MonotonicNs kUsersNs = 300ULL * 1'000'000'000ULL;

  explicit RouteStats(std::vector<std::string> patterns = {}) : patterns_(std::move(patterns)) {}

  void add(const std::vector<ExportSpan>& spans, MonotonicNs now);
  /// The name of a request's route, of a service that was added; empty: of none.
  std::string route_of(const ExportSpan& one);
  /// Different ones of each service in the last kUsersNs to twice that.
  std::map<spec::ServiceId, double> users() const;

 private:
  struct State {
    sample::Routes names;
    std::array<DistinctCount, 2> users;  ///< of this window and of the one before
    MonotonicNs window = 0;              ///< when this one began
  };

  std::vector<std::string> patterns_;
  std::map<spec::ServiceId, State> services_;
};

}  // namespace ballast::telemetry
