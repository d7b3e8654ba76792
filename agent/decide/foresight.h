// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <vector>

#include "agent/decide/policy.h"
#include "core/spec/forecast.h"

namespace ballast::decide {

/// The past of the logs of one service's pods' speeds (what the scheduler shows, which no weight changes), in
/// bins of a tick, or of so many ticks as make kLeastBinS; and how well each of kPeriods candidate periods
/// explains it. Bounded: 4 kB a pod.
class SlownessMemory {
 public:
  static constexpr std::size_t kBins = 256;
  static constexpr double kLeastBinS = 0.5;
  static constexpr std::size_t kPeriods = 224;

  /// One tick. True when a bin was completed with it.
  bool update(const spec::ServiceObservation& observation, const LoopContext& loop);
  /// What the network sees of each endpoint of the last update, in order.
  const std::vector<spec::ForecastInput>& inputs() const { return inputs_; }
  /// Bins completed since the beginning.
  std::size_t bins() const { return count_; }
  /// From the last bin to the time in which the next weights are in force, in bins.
  double ahead() const { return ahead_; }
  /// Of the last update.
  double bin_s() const { return bin_s_; }
  /// Log of the speed at a bin (fractions are between bins), of the bins that are still there.
  double value(const spec::EndpointId& id, double bin) const;
  /// The period that the service's pods share best, in bins; 0: none.
  double shared_period() const { return shared_.period; }

 private:
  struct Track {
    std::array<float, 2 * kBins> values{};  ///< twice over, so that any window lies in one piece
    std::array<float, kPeriods> error{};    ///< discounted sum of (x - x one period ago)^2
    std::array<float, kPeriods> weight{};   ///< discounted count behind it
    std::size_t first = 0;
    std::size_t count = 0;  ///< one beyond its last bin
    float error_now = 0;    ///< the same of "as now"
    float weight_now = 0;
    float sum = 0;  ///< of the bin that fills
    int parts = 0;
    std::size_t changed = 0;  ///< bin in which it changed last
    double at(double bin) const;
    void push(float value, double ahead);
  };
  struct Fit {
    double period = 0;
    double ratio = 1;  ///< its error over that of a period drawn at random
  };
  static Fit best(const std::array<double, kPeriods>& errors);
  void complete(double ahead);
  spec::ForecastInput input(const Track& track, double bin_s, double mean_now) const;

  std::map<spec::EndpointId, Track> tracks_;
  std::vector<spec::ForecastInput> inputs_;
  std::size_t count_ = 0;
  int ticks_ = 0;
  double ahead_ = 1;
  double bin_s_ = kLeastBinS;
  Fit shared_;
  double now_error_ = 0;  ///< of the service, over that of a period drawn at random
};

}  // namespace ballast::decide
