// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/foresight.h"

#include <algorithm>
#include <cmath>

namespace ballast::decide {
namespace {

constexpr float kSlowest = -3;     ///< log of a speed: beyond lies a broken counter
constexpr float kDecay = 0.985F;   ///< a bin; errors are forgotten with a time constant of 66 bins
constexpr float kLeastWeight = 3;  ///< bins behind an error before it counts
constexpr float kChange = 0.2F;
constexpr double kAsGood = 0.03;  ///< of the mean error of all periods

/// Candidate periods in bins: steps of 2.5 %, at most half a bin up to 64.
const std::array<float, SlownessMemory::kPeriods>& periods() {
  static const auto all = [] {
    std::array<float, SlownessMemory::kPeriods> list{};
    double period = 3;
    for (float& each : list) {
      each = static_cast<float>(period);
      period += period < 64 ? std::clamp(0.025 * period, 0.075, 0.5) : 0.0125 * period;
    }
    return list;
  }();
  return all;
}

float log_speed(const spec::EndpointTelemetry& telemetry) {
  return std::isfinite(telemetry.speed) && telemetry.speed > 0
             ? std::clamp(static_cast<float>(std::log(telemetry.speed)), kSlowest, 0.0F)
             : 0;
}

float log_ratio(double above, double below) {
  return static_cast<float>(std::clamp(std::log((above + 1e-3) / (below + 1e-3)), -5.0, 5.0));
}

}  // namespace

double SlownessMemory::Track::at(double bin) const {
  if (count == first) {
    return 0;
  }
  const double oldest = static_cast<double>(std::max(first, count > kBins ? count - kBins : 0));
  bin = std::clamp(bin, oldest, static_cast<double>(count - 1));
  const auto whole = static_cast<std::size_t>(bin);
  const double part = bin - static_cast<double>(whole);
  const double left = values[whole % kBins];
  return part == 0 ? left : left + part * (static_cast<double>(values[whole % kBins + 1]) - left);
}

void SlownessMemory::Track::push(float value, double ahead) {
  if (count > first) {
    changed = std::abs(value - values[(count - 1) % kBins]) > kChange ? count : changed;
    const double before = at(static_cast<double>(count) - ahead);
    const auto off = static_cast<float>(value - before);
    error_now = kDecay * error_now + off * off;
    weight_now = kDecay * weight_now + 1;
  }
  const std::size_t place = count % kBins;
  values[place] = values[place + kBins] = value;
  ++count;
  const auto& all = periods();
  const double room = static_cast<double>(std::min(count - first, kBins)) - 1;
  for (std::size_t p = 0; p < kPeriods && static_cast<double>(all[p]) <= room; ++p) {
    const float position = static_cast<float>(place + kBins) - all[p];
    const auto whole = static_cast<std::size_t>(position);
    const float part = position - static_cast<float>(whole);
    const float off = value - (values[whole] + part * (values[whole + 1] - values[whole]));
    error[p] = kDecay * error[p] + off * off;
    weight[p] = kDecay * weight[p] + 1;
  }
}

SlownessMemory::Fit SlownessMemory::best(const std::array<double, kPeriods>& errors) {
  std::size_t lowest = kPeriods;
  double sum = 0;
  double counted = 0;
  for (std::size_t p = 0; p < kPeriods && errors[p] >= 0; ++p) {  // longer ones are not known yet
    sum += errors[p];
    ++counted;
    lowest = lowest == kPeriods || errors[p] < errors[lowest] ? p : lowest;
  }
  if (lowest == kPeriods || !(sum > 0)) {
    return {};
  }
  // A period's multiples fit as well as it does; the shortest has been seen most often.
  const double enough = errors[lowest] + kAsGood * sum / counted;
  for (std::size_t p = 0; p < lowest; ++p) {
    if (errors[p] <= enough) {
      lowest = p;
      while (lowest + 1 < kPeriods && errors[lowest + 1] >= 0 && errors[lowest + 1] < errors[lowest]) {
        ++lowest;
      }
    }
  }
  const auto& all = periods();
  Fit fit{all[lowest], errors[lowest] / (sum / counted)};
  if (lowest > 0 && lowest + 1 < kPeriods && errors[lowest + 1] >= 0) {
    // Between candidates: the vertex of a parabola through the three.
    const double left = errors[lowest - 1] - errors[lowest];
    const double right = errors[lowest + 1] - errors[lowest];
    if (left + right > 0) {
      const double shift = (left - right) / (2 * (left + right));
      fit.period += shift * (shift > 0 ? all[lowest + 1] - all[lowest] : all[lowest] - all[lowest - 1]);
    }
  }
  return fit;
}

void SlownessMemory::complete(double ahead) {
  std::array<double, kPeriods> errors{};
  std::array<double, kPeriods> weights{};
  double now = 0;
  double now_weight = 0;
  for (auto& [id, track] : tracks_) {
    if (track.count == track.first) {
      track.first = track.count = track.changed = count_;
    }
    const float last = track.count > track.first ? track.values[(track.count - 1) % kBins] : 0;
    track.push(track.parts > 0 ? track.sum / static_cast<float>(track.parts) : last, ahead);
    track.sum = 0;
    track.parts = 0;
    for (std::size_t p = 0; p < kPeriods; ++p) {
      errors[p] += static_cast<double>(track.error[p]);
      weights[p] += static_cast<double>(track.weight[p]);
    }
    now += static_cast<double>(track.error_now);
    now_weight += static_cast<double>(track.weight_now);
  }
  ++count_;
  ticks_ = 0;
  double sum = 0;
  double counted = 0;
  for (std::size_t p = 0; p < kPeriods; ++p) {
    const bool enough = weights[p] >= static_cast<double>(kLeastWeight) * static_cast<double>(tracks_.size());
    errors[p] = enough ? errors[p] / weights[p] : -1;
    sum += enough ? errors[p] : 0;
    counted += enough ? 1 : 0;
  }
  shared_ = best(errors);
  now_error_ = sum > 0 && now_weight > 0 ? now / now_weight / (sum / counted) : 1;
}

spec::ForecastInput SlownessMemory::input(const Track& track, double bin_s, double mean_now) const {
  spec::ForecastInput in;
  if (track.count == track.first) {
    return in;
  }
  const std::size_t there = std::min(track.count - track.first, kBins);
  double sum = 0;
  double squares = 0;
  double lowest = 0;
  double highest = static_cast<double>(kSlowest);
  for (std::size_t i = track.count - there; i < track.count; ++i) {
    const auto value = static_cast<double>(track.values[i % kBins]);
    sum += value;
    squares += value * value;
    lowest = std::min(lowest, value);
    highest = std::max(highest, value);
  }
  const double mean = sum / static_cast<double>(there);
  const double variance = std::max(0.0, squares / static_cast<double>(there) - mean * mean);
  const double last = static_cast<double>(track.count - 1);
  in.now = track.values[(track.count - 1) % kBins];
  in.lowest = static_cast<float>(lowest);
  in.highest = static_cast<float>(highest);

  std::array<double, kPeriods> errors{};
  for (std::size_t p = 0; p < kPeriods; ++p) {
    errors[p] = track.weight[p] >= kLeastWeight ? static_cast<double>(track.error[p] / track.weight[p]) : -1;
  }
  const Fit own = best(errors);
  const auto ago = [&](double period, double times) -> float {
    const double bin = last + ahead_ - times * period;
    return period > 0 && bin >= last + 1 - static_cast<double>(there)
               ? static_cast<float>(track.at(bin)) - in.now
               : 0;
  };
  in.guesses[spec::kMean] = static_cast<float>(mean) - in.now;
  in.guesses[spec::kOwn] = ago(own.period, 1);
  in.guesses[spec::kOwnTwice] = ago(own.period, 2);
  in.guesses[spec::kShared] = ago(shared_.period, 1);
  in.guesses[spec::kSharedTwice] = ago(shared_.period, 2);

  const double now_error = track.weight_now > 0 ? static_cast<double>(track.error_now / track.weight_now) : 0;
  const auto cycles = [&](double period) {
    return period > 0 ? static_cast<float>(std::min(static_cast<double>(there) / period, 4.0) / 4) : 0;
  };
  const std::array<float, spec::kForecastFeatures> features = {
      in.now,
      static_cast<float>(mean),
      static_cast<float>(std::sqrt(variance)),
      log_ratio(now_error, 2 * variance) / 4,
      static_cast<float>(std::min(own.ratio, 2.0)),
      static_cast<float>(std::min(shared_.ratio, 2.0)),
      log_ratio(own.ratio, 1) / 4,
      log_ratio(shared_.ratio, 1) / 4,
      log_ratio(shared_.ratio, now_error_) / 4,
      static_cast<float>(std::min(now_error_, 2.0)),
      own.period > 0 ? static_cast<float>(std::log(own.period) / 4) : 0,
      shared_.period > 0 ? static_cast<float>(std::log(shared_.period) / 4) : 0,
      cycles(own.period),
      cycles(shared_.period),
      in.guesses[0],
      in.guesses[1],
      in.guesses[2],
      in.guesses[3],
      in.guesses[4],
      static_cast<float>(std::log1p(static_cast<double>(track.count - track.changed)) / 4),
      static_cast<float>(mean_now),
      static_cast<float>(ahead_ - 1),
      static_cast<float>(std::log(bin_s) / 2),
      std::abs(in.guesses[spec::kShared] - in.guesses[spec::kOwn])};
  in.features = features;
  return in;
}

bool SlownessMemory::update(const spec::ServiceObservation& observation, const LoopContext& loop) {
  const double tick = std::isfinite(loop.tick_s) && loop.tick_s > 0 ? loop.tick_s : 0.25;
  const double delay = std::isfinite(loop.loop_delay_s) ? std::max(loop.loop_delay_s, tick) : tick;
  const int ticks_a_bin = std::max(1, static_cast<int>(std::ceil(kLeastBinS / tick - 1e-9)));
  const double bin_s = tick * ticks_a_bin;
  bin_s_ = bin_s;
  std::map<spec::EndpointId, bool> there;
  double age = 0;
  double known = 0;
  for (const auto& endpoint : observation.endpoints) {
    const auto& telemetry = endpoint.telemetry;
    there[telemetry.id] = true;
    Track& track = tracks_[telemetry.id];
    if (telemetry.known) {
      track.sum += log_speed(telemetry);
      ++track.parts;
      age += telemetry.taken != 0 && loop.now > telemetry.taken
                 ? static_cast<double>(loop.now - telemetry.taken) * 1e-9
                 : 0;
      ++known;
    }
  }
  std::erase_if(tracks_, [&](const auto& entry) { return !there.contains(entry.first); });
  const bool completed = ++ticks_ >= ticks_a_bin;
  // The weights of this tick are in force from delay - tick to delay from now on; a bin's middle is half a
  // bin before its end.
  ahead_ = std::min((delay - tick / 2 + (known > 0 ? age / known : 0) + bin_s / 2) / bin_s, 8.0);
  if (completed) {
    complete(ahead_);
  } else {
    ahead_ += ticks_ * tick / bin_s;
  }
  double sum = 0;
  double counted = 0;
  for (const auto& [id, track] : tracks_) {
    if (track.count > track.first) {
      sum += static_cast<double>(track.values[(track.count - 1) % kBins]);
      ++counted;
    }
  }
  inputs_.clear();
  for (const auto& endpoint : observation.endpoints) {
    inputs_.push_back(input(tracks_[endpoint.telemetry.id], bin_s, counted > 0 ? sum / counted : 0));
  }
  return completed;
}

double SlownessMemory::value(const spec::EndpointId& id, double bin) const {
  const auto found = tracks_.find(id);
  return found == tracks_.end() ? 0 : found->second.at(bin);
}

}  // namespace ballast::decide
