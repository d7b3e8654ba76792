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

Status validate(const GateOptions& options) {
  const auto refuse = [](const char* key, const char* rule) {
    return Error::usage(std::string("gate.") + key + " " + rule);
  };
  if (!std::isfinite(options.leave_ratio) || options.leave_ratio <= 0) {
    return refuse("leave_ratio", "must be above 0");
  }
  if (!(options.return_ratio >= 0) || options.return_ratio > options.leave_ratio) {
    return refuse("return_ratio", "must be from 0 to gate.leave_ratio, or the gate would flap");
  }
  if (!std::isfinite(options.leave_spread) || options.leave_spread < 0) {
    return refuse("leave_spread", "must not be negative");
  }
  if (!(options.return_spread >= 0) || options.return_spread > options.leave_spread) {
    return refuse("return_spread", "must be from 0 to gate.leave_spread, or the gate would flap");
  }
  if (!std::isfinite(options.level_spread) || options.level_spread < 0) {
    return refuse("level_spread", "must not be negative");
  }
  if (options.leave_ticks < 1) {
    return refuse("leave_ticks", "must be at least 1");
  }
  if (options.return_ticks < 1) {
    return refuse("return_ticks", "must be at least 1");
  }
  return ok();
}

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
