// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "agent/decide/policy.h"
#include "core/base/options.h"
#include "core/base/result.h"
#include "core/spec/telemetry.h"

namespace ballast::decide {

/// When unequal weights are worth more than they cost. Unequal weights make Envoy's LEAST_REQUEST
/// leave P2C for EDF, whose deadlines remember old in-flight counts: simulated with 20 proxies,
/// equal pods under EDF had twice P2C's p99 where slowness moved every 10 s. Hence leaving neutral
/// asks for differences that outlast the loop.
struct GateOptions {
  double leave_ratio = 10;
  double return_ratio = 6;
  double leave_spread = 0.10;
  double return_spread = 0.05;
  int leave_ticks = 2;
  int return_ticks = 8;
  /// With exactly one proxy, EDF sees every request in flight, and was 5-10 % better in p99 than
  /// P2C on a real Envoy at equal capacities (weights 1001:1000:999:1000). So with one subscriber
  /// neutral is left for a level service (equal shares, least tilt) once the endpoints have proved
  /// alike. Differences that merely do not last prove nothing: at unequal capacities EDF with equal
  /// weights is worse than P2C.
  bool single_subscriber_leaves = true;
  double level_spread = 0.10;
  bool operator==(const GateOptions&) const = default;

  void declare(options::Schema& s) {
    s.section("gate");
    s.number("leave_ratio", leave_ratio, 0.01, 10'000, "", "persistence over loop delay that leaves neutral");
    s.number("return_ratio", return_ratio, 0, 10'000, "", "persistence over loop delay that returns to it");
    s.number("leave_spread", leave_spread, 0, 10, "", "deviation of the log capacities that leaves neutral");
    s.number("return_spread", return_spread, 0, 10, "", "deviation of the log capacities that returns to it");
    // In a slow loop as many as cover kLeaveDelays of its delay, if that is more.
    s.number("leave_ticks", leave_ticks, 1, 10'000, "", "ticks in a row that have to say so to leave");
    s.number("return_ticks", return_ticks, 1, 10'000, "", "ticks in a row that have to say so to return");
    s.flag("single_subscriber_leaves", single_subscriber_leaves,
           "with exactly one proxy, leave neutral also where the endpoints are alike");
    // For return_ticks up to it: alike; for leave_ticks above it: not.
    s.number("level_spread", level_spread, 0, 10, "",
             "deviation of the mean log capacities of seconds up to which endpoints are alike");
    s.ordered("return_ratio", return_ratio, "leave_ratio", leave_ratio);
    s.ordered("return_spread", return_spread, "leave_spread", leave_spread);
  }
};

/// A slow loop that trusts a difference before it saw it stay is wrong for long: with slowness that
/// moves every 3 s and ticks of 2 s it had 1.06 of P2C's p99 until it knew better. Seen for four
/// delays, a difference has either stayed or taught its period. A fast one corrects itself.
inline constexpr double kLeaveDelays = 4;
inline constexpr double kSlowLoopS = 0.5;  ///< delay beyond which a loop is slow

/// The neutral <-> weighted state of one service, with hysteresis. Begins neutral. With one
/// subscriber `level` stands in for neutral.
class NeutralGate {
 public:
  /// One tick. `lasting_spread` is PriorFilter's. `why()` says the reason of the answer. Values that
  /// are not finite speak for neutral.
  bool neutral(const spec::ServiceAggregate& aggregate, double lasting_spread, const LoopContext& loop,
               const GateOptions& options);
  /// Of the last answer, when it was not neutral: the differences are not worth a weight.
  bool level() const { return level_; }
  const std::string& why() const { return why_; }

 private:
  bool strict(const spec::ServiceAggregate& aggregate, const LoopContext& loop, const GateOptions& options);
  bool alike(double lasting_spread, const GateOptions& options);

  bool neutral_ = true;
  bool level_ = false;
  bool alike_ = false;
  int ticks_ = 0;        ///< consecutive ticks that spoke for the other state
  int alike_ticks_ = 0;  ///< the same for `alike_`
  std::string why_;
};

}  // namespace ballast::decide
