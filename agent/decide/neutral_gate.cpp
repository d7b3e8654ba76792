// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/neutral_gate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace ballast::decide {

namespace {

double finite_or_zero(double value) {
  return std::isfinite(value) ? value : 0;
}

double usable_delay(const LoopContext& loop) {
  if (std::isfinite(loop.loop_delay_s) && loop.loop_delay_s > 0) {
    return loop.loop_delay_s;
  }
  return std::isfinite(loop.tick_s) && loop.tick_s > 0 ? loop.tick_s : 1.0;
}

int ticks_to_leave(const LoopContext& loop, const GateOptions& options) {
  const double delay = usable_delay(loop);
  const double ticks = delay > kSlowLoopS ? std::round(kLeaveDelays * delay / loop.tick_s) : 0;
  return std::isfinite(ticks) && ticks > options.leave_ticks ? static_cast<int>(std::min(ticks, 1e6))
                                                             : options.leave_ticks;
}

}  // namespace

bool NeutralGate::neutral(const spec::ServiceAggregate& aggregate, double lasting_spread,
                          const LoopContext& loop, const GateOptions& options) {
  level_ = false;
  if (aggregate.endpoints < 2 || aggregate.known == 0) {
    neutral_ = true;
    alike_ = false;
    ticks_ = alike_ticks_ = 0;
    why_ = aggregate.endpoints < 2 ? "fewer than two endpoints" : "no endpoint is measured";
    return true;
  }
  const bool strictly_neutral = strict(aggregate, loop, options);
  const bool endpoints_alike = alike(lasting_spread, options);
  if (strictly_neutral && endpoints_alike && options.single_subscriber_leaves && loop.subscribers == 1) {
    level_ = true;
  }
  why_ = fmt::format("{}: differences last {:.1f} loop delays, capacity spread {:.3f}{}",
                     level_             ? "level"
                     : strictly_neutral ? "neutral"
                                        : "weighted",
                     finite_or_zero(aggregate.persistence_s) / usable_delay(loop),
                     finite_or_zero(aggregate.capacity_spread),
                     level_ ? fmt::format(", {:.3f} in the mean", lasting_spread) : "");
  return strictly_neutral && !level_;
}

bool NeutralGate::alike(double lasting_spread, const GateOptions& options) {
  const bool small = std::isfinite(lasting_spread) && lasting_spread <= options.level_spread;
  alike_ticks_ = small == alike_ ? 0 : alike_ticks_ + 1;
  if (alike_ticks_ >= (alike_ ? options.leave_ticks : options.return_ticks)) {
    alike_ = !alike_;
    alike_ticks_ = 0;
  }
  return alike_;
}

bool NeutralGate::strict(const spec::ServiceAggregate& aggregate, const LoopContext& loop,
                         const GateOptions& options) {
  const double ratio = finite_or_zero(aggregate.persistence_s) / usable_delay(loop);
  const double spread = finite_or_zero(aggregate.capacity_spread);
  const bool wants_change = neutral_ ? ratio >= options.leave_ratio && spread > options.leave_spread
                                     : ratio < options.return_ratio || spread < options.return_spread;
  ticks_ = wants_change ? ticks_ + 1 : 0;
  if (ticks_ >= (neutral_ ? ticks_to_leave(loop, options) : options.return_ticks)) {
    neutral_ = !neutral_;
    ticks_ = 0;
  }
  return neutral_;
}

}  // namespace ballast::decide
