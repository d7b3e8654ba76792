// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "core/base/clock.h"

namespace ballast::guard {

/// Holds what endpoints say of themselves against what they were given: of a service's requests each
/// should have the share that its weight gave it. Whoever counts more than that counts requests that
/// are not the service's (its own, an accomplice's), and looks more able by them in proportion. So that
/// is the factor by which its weight is cut. What a request is given for is not known here, only how
/// many: the endpoint in the middle says what a weight is worth, which holds while less than half of
/// them lie.
///
/// How much more is believed: kMargin; what chance does to the numbers; what Envoy's choice of two does
/// while weights are equal (kNeutralMargin); what a change of weights leaves behind for a while. All but
/// the first fade, so that is the most that can be gained for long. Both sides are means over kMemoryS.
/// The surplus is taken to have gone well, or errors could be thinned out by it.
class ShareWatch {
 public:
  static constexpr double kMemoryS = 4;
  static constexpr double kMargin = 0.05;
  static constexpr double kNeutralMargin = 0.45;

  struct Claim {
    std::tuple<std::string, std::string, std::uint16_t> key;
    bool known = false;
    double requests = 0;  ///< that it counted in this tick
    double success = 1;   ///< part of its last requests that went well
    double weight = 1;    ///< in force up to now, relative to fair share
  };

  /// One tick. Gives a factor in (0, 1] for each claim, in order.
  std::vector<double> update(const std::vector<Claim>& claims, bool neutral, MonotonicNs now);

 private:
  struct Track {  // means that began at 0; `known` is that of ones
    double requests = 0;
    double weight = 0;
    double known = 0;
    double factor = 1;  // the last; it grows back by e in kForgiveS, as what was counted fades elsewhere too
  };
  static constexpr double kForgiveS = 5;

  std::map<decltype(Claim::key), Track> tracks_;
  double neutral_ = 1;
  MonotonicNs last_ = 0;
};

}  // namespace ballast::guard
