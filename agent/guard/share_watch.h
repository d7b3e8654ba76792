// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <vector>

#include "agent/guard/callers_watch.h"
#include "core/base/clock.h"

namespace ballast::guard {

/// Holds what endpoints say of themselves against what they were given: of a service's requests each
/// should have the share that its weight gave it. Whoever counts more than that counts requests that
/// are not the service's (its own, an accomplice's), and looks more able by them in proportion. So that
/// is the factor by which its weight is cut. What a request is given for is not known here, only how
/// many: the endpoint in the middle says what a weight is worth, which holds while less than half of
/// them lie.
///
/// A peer's own trouble is no lie of the others. LEAST_REQUEST turns away from who has many waiting,
/// and what somebody fails is asked again elsewhere: both bring all others more than their weights. So nobody
/// is held against an endpoint that fails, that leaves what it has unanswered, that nobody asks any more or
/// that has just joined, until kTroubleS after that; and one that has fewer in flight than its peers may
/// count more than they in that proportion. In flight is what the kernel saw come and not be answered, so a
/// liar can have less of it by answering alone. Meanwhile an endpoint is held against what its callers saw of
/// it, where any is measured (CallersWatch).
///
/// How much more is believed: kMargin; what chance does to the numbers; what Envoy's choice of two does
/// while weights are equal (kNeutralMargin); what a change of weights leaves behind for a while. Both sides
/// are means, over kFastS, so that a lie is answered before it has filled anybody's window, and over kSlowS,
/// so that a small one is. A cut holds for kHoldS after its cause, since what was counted stays that long in
/// the windows of those who believed it. The surplus is taken to have gone well, or errors could be thinned
/// out by it.
class ShareWatch {
 public:
  static constexpr double kFastS = 1;
  static constexpr double kSlowS = 4;
  static constexpr double kHoldS = 6;
  static constexpr double kTroubleS = 12;
  static constexpr double kMargin = 0.05;
  static constexpr double kNeutralMargin = 0.45;

  struct Claim {
    std::tuple<std::string, std::string, std::uint16_t> key;
    bool known = false;
    double requests = 0;  ///< that it counted in this tick
    double success = 1;   ///< part of its last requests that went well
    double in_flight = 0;
    bool answered = true;      ///< a request ended in this tick
    double weight = 1;         ///< in force up to now, relative to fair share
    double answers_per_s = 0;  ///< that it counted, and in the same time its callers saw
    double seen_per_s = 0;
  };
  struct Verdict {
    double factor = 1;  ///< what is left of its weight, in (0, 1]
    bool held = false;  ///< there was something to hold its count against, or its peers are in trouble
  };

  /// One tick. A verdict for each claim, in order.
  std::vector<Verdict> update(const std::vector<Claim>& claims, bool neutral, MonotonicNs now);

 private:
  struct Means {  // that began at 0; `known` is that of ones
    double requests = 0;
    double weight = 0;
    double drawn = 0;  ///< its part of all that came, by weight over what waits + 1, as LEAST_REQUEST picks
    double known = 0;
  };
  struct Track {
    std::array<Means, 2> means;  // over kFastS and kSlowS
    std::array<CallersWatch, 2> callers{CallersWatch(kFastS), CallersWatch(kSlowS)};
    double factor = 1;    // the last
    double held_s = 0;    // for which it stays at least
    double silent_s = 0;  // since it answered, while something was in flight
    double unasked_s = 0;
    double trouble_s = 0;  // for which nobody is held against it
    double joined_s = 0;   // the same, as it has just joined
    bool measures() const { return trouble_s <= 0 && joined_s <= 0; }
  };
  static void learn(const Claim& claim, Track& track, const std::array<double, 2>& alpha, double drawn,
                    double elapsed_s);
  std::vector<double> cut(const std::vector<Claim>& claims, std::size_t memory, double alpha);
  double cut_by_callers(const Claim& claim, std::size_t memory) const;

  std::map<decltype(Claim::key), Track> tracks_;
  double neutral_ = 1;
  MonotonicNs last_ = 0;
};

}  // namespace ballast::guard
