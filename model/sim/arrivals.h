// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>

#include "model/sim/random.h"
#include "model/sim/scenario.h"

namespace ballast::sim {

/// The factor on the base rate at time t: steps * ramp * spikes * diurnal.
double envelope(const ArrivalSpec& spec, double t);

/// Open-loop arrival times. A moving rate is drawn by thinning (Lewis, Shedler 1979); the states
/// of an MMPP are simulated as they are.
class Arrivals {
 public:
  Arrivals(const Scenario& scenario, std::uint64_t seed);
  /// Time of the next arrival, after all before; infinity when a trace has ended.
  double next();

 private:
  double candidate();
  void enter_state(std::size_t state);

  ArrivalSpec spec_;
  Rng rng_;
  double rate_ = 0;   ///< base rate
  double bound_ = 1;  ///< upper bound of the envelope
  double now_ = 0;
  bool thinned_ = false;
  std::size_t next_ = 0;   ///< trace
  std::size_t state_ = 0;  ///< MMPP
  double state_ends_ = 0;
};

}  // namespace ballast::sim
