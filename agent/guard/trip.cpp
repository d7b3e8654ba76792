// SPDX-License-Identifier: Apache-2.0
#include "agent/guard/trip.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace ballast::guard {

namespace {

MonotonicNs ns(double seconds) {
  return static_cast<MonotonicNs>(seconds * 1e9);
}

/// A p99 of ten days is no measurement.
constexpr double kLongest = 1e15;

/// Weight of the newest neutral window in the reference.
constexpr double kReferenceGain = 0.3;

}  // namespace

bool TripWatch::update(double p99_ns, double error_rate, double qps, bool neutral, MonotonicNs now,
                       const TripOptions& options) {
  now_ = std::max(now_, now);
  if (neutral != neutral_ || window_.begin == 0) {
    neutral_ = neutral;
    settling_ = true;
    bad_ = 0;
    healthy_since_ = now_;
    window_ = {.begin = now_};
  }
  if (p99_ns > 0 && p99_ns < kLongest && std::isfinite(error_rate) && qps > 0) {
    window_.p99_sum += p99_ns;
    window_.error_sum += error_rate;
    ++window_.samples;
  }
  if (now_ >= window_.begin + ns(options.window_s)) {
    const Window closed = window_;
    window_ = {.begin = now_};
    if (settling_) {
      settling_ = false;
    } else if (closed.samples > 0) {
      close(closed, options);
    }
  }
  if (hold_until_ != 0 && now_ >= hold_until_) {
    hold_until_ = 0;
    why_.clear();
  }
  return hold_until_ != 0;
}

void TripWatch::close(const Window& window, const TripOptions& options) {
  const Reference seen{window.p99_sum / window.samples, window.error_sum / window.samples};
  if (neutral_) {
    if (!reference_) {
      reference_ = seen;
    }
    reference_->p99_ns += kReferenceGain * (seen.p99_ns - reference_->p99_ns);
    reference_->error_rate += kReferenceGain * (seen.error_rate - reference_->error_rate);
    return;
  }
  if (!reference_) {
    return;
  }
  const bool bad = seen.p99_ns > options.ratio * reference_->p99_ns ||
                   seen.error_rate > reference_->error_rate + options.error_margin;
  bad_ = bad ? bad_ + 1 : 0;
  if (bad_ >= options.windows) {
    trip(seen, options);
  } else if (bad) {
    healthy_since_ = now_;
  } else if (now_ >= healthy_since_ + ns(options.max_hold_s)) {
    hold_s_ = 0;
  }
}

void TripWatch::trip(const Reference& seen, const TripOptions& options) {
  hold_s_ = hold_s_ <= 0 ? options.hold_s : std::min(2 * hold_s_, options.max_hold_s);
  hold_until_ = now_ + ns(hold_s_);
  bad_ = 0;
  why_ = fmt::format(
      "tripped: p99 {:.1f} ms and {:.2f} % errors against {:.1f} ms and {:.2f} % under neutral for {} "
      "windows; "
      "neutral for {:.0f} s",
      seen.p99_ns * 1e-6, seen.error_rate * 100, reference_->p99_ns * 1e-6, reference_->error_rate * 100,
      options.windows, hold_s_);
}

}  // namespace ballast::guard
