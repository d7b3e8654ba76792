// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "core/spec/forecast.h"
#include "model/net/forecast_net.h"
#include "model/policy/parameters.h"
#include "model/sync/network/global_network.h"

namespace ballast::learn {

struct ForecastSettings {
  double span_s = 900;       ///< what happened longer ago is forgotten
  std::size_t most = 32768;  ///< pairs kept, some 4 MB
  std::size_t least = 32;    ///< pairs before anything is learned
  std::size_t batch = 128;   ///< pairs behind a gradient
  double reuse = 64;         ///< times that each pair is drawn, on average
  double pushes_per_s = 5;
};

/// A3C's worker for the forecast's loss (core/spec/forecast.h): pairs of what was seen and what came, of live
/// telemetry and without exploring, become gradients at the parameters held. Workers differ in how far back
/// they learn from (settings_of). Times are seconds of any clock that never jumps. Not thread-safe.
class ForecastWorker {
 public:
  /// Mean square of the forecast over that of "as now" (and kLeastLoss) beyond which learning has exploded.
  static constexpr double kExploded = 100;
  static constexpr double kLeastLoss = 0.01;

  ForecastWorker(const ForecastSettings& settings, std::uint64_t seed) : settings_(settings), random_(seed) {}
  /// The settings of the worker of this name: `base` with a span of half to double, always the same one.
  static ForecastSettings settings_of(ForecastSettings base, std::string_view worker_id);

  /// What acts and is learned from now on.
  void hold(policy::Parameters parameters) { held_ = std::move(parameters); }
  /// Pairs that are new; how far the forecast held is from them is noted before they are learned from.
  void take(const std::vector<spec::ForecastSample>& samples, double now);
  /// A gradient when there is something to learn from and it is time; nullopt else, and for ever after a
  /// loss that is not finite or exploded.
  std::optional<sync::Gradient> learn(double now);

  /// Why nothing is learned any more, with the step; empty: it goes on.
  const std::string& stopped() const { return stopped_; }
  /// The last version whose loss was fine; nullopt before the first.
  const std::optional<policy::Parameters>& last_good() const { return good_; }
  sync::LearnedFrom learned_from() const;
  std::uint64_t gradients() const { return gradients_; }

 private:
  struct Kept {
    spec::ForecastSample sample;
    double came_s = 0;
  };
  std::optional<sync::Gradient> stop(const std::string& why);

  const ForecastSettings settings_;
  std::mt19937_64 random_;
  std::optional<policy::Parameters> held_, good_;
  std::deque<Kept> kept_;
  double credit_ = 0;  ///< pairs that may be drawn
  double pushed_s_ = -1e9;
  double judged_s_ = 0;
  double weight_ = 0, error_ = 0, as_now_ = 0;  ///< discounted sums of what was not learned from yet
  double fresh_ = 0;                            ///< -(error / as_now) of the newest pairs; for the promotion
  bool fresh_known_ = false;
  std::uint64_t gradients_ = 0;
  std::string stopped_;
};

}  // namespace ballast::learn
