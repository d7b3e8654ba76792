// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "core/spec/forecast.h"
#include "core/spec/gains.h"
#include "core/spec/recording.h"
#include "core/spec/verdict.h"
#include "model/sim/scenario.h"
#include "model/sim/technique.h"

namespace ballast::twin {

/// Shorter, a recording teaches nothing.
inline constexpr double kLeastS = 60;

/// A simulator of one service, made from what was recorded of it: its pods' limits and speeds tick by tick,
/// its requests' work, waiting and arrivals. Gaps are cut out.
struct Twin {
  spec::ServiceId service;
  sim::Scenario scenario;
  sim::LoopOptions loop;
  double recorded_s = 0;  ///< that it covers
  std::size_t gaps = 0;
  double happened_p50_ms = 0;  ///< geometric mean over the recorded ticks
  double happened_p99_ms = 0;
  double predicted_p50_ms = 0;  ///< the same where `acted` acts in the twin
  double predicted_p99_ms = 0;
  std::vector<std::string> notes;  ///< what it could not use, in words
};

/// Parameters of the forecast; null: none.
using Theta = std::shared_ptr<const std::vector<float>>;

/// forecast_rule with these; by default the strong rule.
struct Acting {
  Theta theta = nullptr;
  spec::Gains gains{};
};

/// Services of a recording, the busiest first.
std::vector<spec::ServiceId> services_of(const std::vector<spec::RecordedTick>& ticks);

/// The twin of `service`. `acted` is what acted while it was recorded: the spread of the requests' work,
/// which telemetry does not show, is chosen so that the twin under it has the recorded p99; or, with `like`,
/// it is that twin's, and the p99 is foreseen. Refused where less than kLeastS of two pods is there.
Result<Twin> build(const std::vector<spec::RecordedTick>& ticks, const spec::ServiceId& service,
                   const Acting& acted, const Twin* like = nullptr);

/// A recording of one service: two thirds to learn from, and what came after them, to judge by.
struct Parts {
  std::vector<spec::RecordedTick> learned, held_out;
};
Parts parts_of(const std::vector<spec::RecordedTick>& ticks, const spec::ServiceId& service);

/// What the forecast can learn from the recording itself.
std::vector<spec::ForecastSample> samples_of(const std::vector<spec::RecordedTick>& ticks,
                                             const spec::ServiceId& service);

/// log(p99 of `before` / p99 of `after`) and the same of p50, in the twin, one pair a seed; fewer once it is
/// `stopping`.
struct Comparison {
  std::vector<double> p99, p50;
};
Comparison compare(
    const Twin& twin, const Acting& before, const Acting& after, std::uint64_t first_seed, std::size_t seeds,
    const std::function<bool()>& stopping = [] { return false; });

/// spec::standing()'s verdict of a comparison, Student's bounds at 95 %; a median that may be beyond 1.05 of
/// before is no improvement either.
struct Judgement {
  bool improved = false;
  spec::Interval p99, p50;  ///< of before
  std::string why;
};
Judgement judge(const Comparison& comparison);

}  // namespace ballast::twin
