// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "agent/decide/policy.h"
#include "core/base/result.h"
#include "core/spec/telemetry.h"

namespace ballast::decide {

/// When unequal weights are worth more than they cost. Unequal weights make Envoy's LEAST_REQUEST
/// leave P2C for EDF, whose deadlines remember old in-flight counts: simulated with 20 proxies,
/// equal pods under EDF had twice P2C's p99 where slowness moved every 10 s. Hence leaving neutral
/// asks for differences that outlast the loop.
struct GateOptions {
  double leave_ratio = 10;      ///< persistence / loop delay from which neutral is left
  double return_ratio = 6;      ///< below it: back to neutral
  double leave_spread = 0.10;   ///< standard deviation of log capacity that is worth a weight
  double return_spread = 0.05;  ///< below it: back to neutral
  /// Consecutive ticks that have to say so before neutral is left; in a
  /// slow loop as many as cover kLeaveDelays of its delay, if that is more.
  int leave_ticks = 2;
  int return_ticks = 8;  ///< and before it is returned to
  /// With exactly one proxy, EDF sees every request in flight, and was 5-10 % better in p99 than
  /// P2C on a real Envoy at equal capacities (weights 1001:1000:999:1000). So with one subscriber
  /// neutral is left for a level service (equal shares, least tilt) once the endpoints have proved
  /// alike. Differences that merely do not last prove nothing: at unequal capacities EDF with equal
  /// weights is worse than P2C.
  bool single_subscriber_leaves = true;
  double level_spread =
      0.10;  ///< lasting spread; up to it for return_ticks: alike; above it for leave_ticks: not
};

/// A slow loop that trusts a difference before it saw it stay is wrong for long: with slowness that
/// moves every 3 s and ticks of 2 s it had 1.06 of P2C's p99 until it knew better. Seen for four
/// delays, a difference has either stayed or taught its period. A fast one corrects itself.
inline constexpr double kLeaveDelays = 4;
inline constexpr double kSlowLoopS = 0.5;  ///< delay beyond which a loop is slow

/// Errors name the key, e.g. "gate.return_ratio".
Status validate(const GateOptions& options);

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
