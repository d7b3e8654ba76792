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

/// A single sample is worth so much of a window at least.
constexpr double kLeastWindows = 0.05;

/// Of the mean and spread of weighted windows: some five minutes.
constexpr double kUsualGain = 0.03;
/// Variance of a mean of three such windows over what it would be if they were independent.
constexpr double kCorrelated = 2.5;

/// Neutral windows of a block that count; one before them settles.
constexpr int kBlockWindows = 2;

/// Errors beyond so many margins count for two windows.
constexpr double kBroken = 10;

/// Weight of the newest neutral window in the reference.
constexpr double kReferenceGain = 0.3;

}  // namespace

double TripWatch::Window::log_p99() const {
  return std::log(p99_sum / samples);
}

double TripWatch::Window::error_rate() const {
  return error_sum / samples;
}

bool TripWatch::update(double p99_ns, double error_rate, double qps, bool neutral, MonotonicNs now,
                       const TripOptions& options, bool excused) {
  now_ = std::max(now_, now);
  if (neutral != neutral_ || window_.begin == 0) {
    if (neutral_ && !neutral && !reference_ && !settling_ && window_.samples > 0) {
      learn(window_, static_cast<double>(now_ - window_.begin) * 1e-9 / options.window_s);
    }
    // A service that begins neutral has no other state in its telemetry.
    settling_ = window_.begin != 0 || !neutral;
    neutral_ = neutral;
    bad_ = 0;
    healthy_since_ = now_;
    window_ = {.begin = now_};
  }
  if (p99_ns > 0 && p99_ns < kLongest && std::isfinite(error_rate) && qps > 0) {
    window_.p99_sum += p99_ns;
    window_.error_sum += error_rate;
    ++window_.samples;
    window_.excused += excused ? 1 : 0;
  }
  if (now_ >= window_.begin + ns(options.window_s)) {
    const Window closed = window_;
    window_ = {.begin = now_};
    if (settling_) {
      settling_ = false;
    } else if (closed.samples > 0) {
      close(closed, options);
    } else if (neutral_) {
      measuring_ = false;  // nothing comes that could be compared
    }
  }
  if (hold_until_ != 0 && now_ >= hold_until_) {
    hold_until_ = 0;
  }
  if (hold_until_ == 0 && !measuring_) {
    why_.clear();
  }
  return hold_until_ != 0;
}

void TripWatch::measure(double seconds) {
  measuring_ = true;
  to_measure_ = kBlockWindows;
  next_block_ = now_ + ns(seconds);
  why_ = "neutral for a moment, so that what the weights do can be compared";
}

void TripWatch::learn(const Window& window, double windows) {
  const double x = window.log_p99();
  if (!reference_) {
    reference_ = {.log_p99 = x,
                  .variance = 0,
                  .error_rate = window.error_rate(),
                  .windows = std::max(windows, kLeastWindows),
                  .renewed = now_};
    return;
  }
  follow(*reference_, window, kReferenceGain);
  reference_->renewed = now_;
}

void TripWatch::follow(Reference& mean, const Window& window, double gain) {
  const double off = window.log_p99() - mean.log_p99;
  mean.log_p99 += gain * off;
  mean.variance = (1 - gain) * (mean.variance + gain * off * off);
  mean.error_rate += gain * (window.error_rate() - mean.error_rate);
  mean.windows = std::min(mean.windows + 1, (2 - gain) / gain);
}

TripWatch::Harm TripWatch::harm(const TripOptions& options) const {
  if (!reference_ || weighted_.empty()) {
    return {};
  }
  double log_p99 = 0;
  double errors = 0;
  for (const Window& window : weighted_) {
    log_p99 += window.log_p99() / static_cast<double>(weighted_.size());
    errors += window.error_rate() / static_cast<double>(weighted_.size());
  }
  const Reference& r = *reference_;
  const double own = (kUsualWindows * kUsualSpread * kUsualSpread + r.windows * r.variance) /
                     (kUsualWindows + r.windows - 1);
  // Windows follow each other and are not independent: what they differ by over minutes is the measure.
  const double spread = std::sqrt(std::max(own, kCorrelated * usual_.variance));
  const double error = spread * std::sqrt(1 / r.windows + 1 / static_cast<double>(weighted_.size()));
  return {.p99 = log_p99 > r.log_p99 + std::log(options.ratio) + kErrors * error,
          .errors = errors > r.error_rate + options.error_margin};
}

bool TripWatch::excused() const {
  int samples = 0;
  int excused = 0;
  for (const Window& window : weighted_) {
    samples += window.samples;
    excused += window.excused;
  }
  return 2 * excused > samples;
}

void TripWatch::close(const Window& window, const TripOptions& options) {
  if (neutral_) {
    learn(window, 1);
    if (measuring_ && harm(options).any()) {
      measuring_ = false;
      trip(options);
    } else if (measuring_ && --to_measure_ <= 0) {
      measuring_ = false;
      for (const Window& innocent : weighted_) {
        remember(innocent);
      }
      weighted_.clear();
    }
    return;
  }
  measuring_ = false;
  weighted_.push_back(window);
  while (weighted_.size() > static_cast<std::size_t>(options.windows)) {
    remember(weighted_.front());
    weighted_.pop_front();
  }
  const bool bad = !reference_ || window.log_p99() > reference_->log_p99 + std::log(options.ratio) ||
                   window.error_rate() > reference_->error_rate + options.error_margin;
  const bool broken =
      reference_ && window.error_rate() > reference_->error_rate + kBroken * options.error_margin;
  bad_ = bad ? bad_ + (broken ? 2 : 1) : 0;
  if (bad_ >= options.windows || !reference_) {
    judge(options);
  } else if (bad) {
    healthy_since_ = now_;
  } else if (now_ >= healthy_since_ + ns(options.max_hold_s)) {
    hold_s_ = 0;
  }
}

void TripWatch::remember(const Window& window) {
  if (usual_.windows == 0) {
    usual_ = {.log_p99 = window.log_p99(), .variance = 0, .error_rate = 0, .windows = 1};
  }
  follow(usual_, window, kUsualGain);
}

void TripWatch::judge(const TripOptions& options) {
  healthy_since_ = now_;
  const Harm seen = harm(options);
  const bool fresh = reference_ && now_ <= reference_->renewed + ns(kFreshS);
  if (fresh && (seen.errors || (seen.p99 && reference_->windows >= 1))) {
    trip(options);
  } else if (seen.errors || (!excused() && (seen.p99 || now_ >= next_block_))) {
    measure(block_gap_s_);
    block_gap_s_ = kBlockGapS;
  }
}

void TripWatch::trip(const TripOptions& options) {
  double log_p99 = 0;
  double errors = 0;
  for (const Window& window : weighted_) {
    log_p99 += window.log_p99() / static_cast<double>(weighted_.size());
    errors += window.error_rate() / static_cast<double>(weighted_.size());
  }
  hold_s_ = hold_s_ <= 0 ? options.hold_s : std::min(2 * hold_s_, options.max_hold_s);
  hold_until_ = now_ + ns(hold_s_);
  bad_ = 0;
  weighted_.clear();
  why_ = fmt::format(
      "tripped: p99 {:.1f} ms and {:.2f} % errors against {:.1f} ms and {:.2f} % under neutral for {} "
      "windows; "
      "neutral for {:.0f} s",
      std::exp(log_p99) * 1e-6, errors * 100, std::exp(reference_->log_p99) * 1e-6,
      reference_->error_rate * 100, options.windows, hold_s_);
}

}  // namespace ballast::guard
