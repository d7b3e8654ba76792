// SPDX-License-Identifier: Apache-2.0
#include "agent/guard/share_watch.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/base/statistics.h"

namespace ballast::guard {

namespace {

constexpr std::array<double, 2> kMemoryS = {ShareWatch::kFastS, ShareWatch::kSlowS};
constexpr double kSigmas = 3;        // of what chance does to a count
constexpr double kMostChance = 0.5;  // beyond it a count proves nothing
constexpr double kLag = 0.3;         // of a change of weights, which proxies follow later
constexpr double kForgiveS = 5;      // in which a factor grows back by e
constexpr double kLeastSuccess = 0.02;
constexpr double kTrouble = 0.95;  // success below it
constexpr double kSilentS = 1;
constexpr double kUnaskedS = 2;

double waiting(const ShareWatch::Claim& claim) {
  return std::isfinite(claim.in_flight) ? std::max(claim.in_flight, 0.0) : 0;
}

/// As LEAST_REQUEST weighs who has requests waiting.
double draws(const ShareWatch::Claim& claim) {
  return claim.weight / (1 + waiting(claim));
}

bool usable(const ShareWatch::Claim& claim) {
  return claim.known && std::isfinite(claim.requests) && claim.weight > 0;
}

/// What is left of who counts `over` times what is due, of which `believed` is.
double cut_to(double believed, double over, double success) {
  double factor = std::min(1.0, believed / over);
  success = std::clamp(success, kLeastSuccess, 1.0);
  if (factor < 1) {
    factor *= std::max(1 - (1 - success) * over, kLeastSuccess) / success;
  }
  return factor;
}

}  // namespace

/// What is left of each by its means over one memory; infinite: there was nothing to hold it against.
std::vector<double> ShareWatch::cut(const std::vector<Claim>& claims, std::size_t memory, double alpha) {
  std::vector<double> factors(claims.size(), std::numeric_limits<double>::infinity());
  std::vector<double> rates;   // requests that a fair share's weight brings
  std::vector<double> queues;  // the same, where whoever has many waiting is sent fewer
  for (const auto& [key, track] : tracks_) {
    const Means& means = track.means[memory];
    if (track.measures() && means.requests > 0) {
      rates.push_back(means.requests / means.weight);
      queues.push_back(means.requests / means.drawn);
    }
  }
  if (rates.empty()) {
    return factors;
  }
  const double rate = median_low(rates);
  const double queue = median_low(queues);
  for (std::size_t i = 0; i < claims.size(); ++i) {
    const auto found = tracks_.find(claims[i].key);
    if (found == tracks_.end() || (found->second.measures() && rates.size() < 2)) {
      continue;
    }
    const Track& track = found->second;
    const Means& means = track.means[memory];
    const double due = std::max(rate * means.weight, queue * means.drawn);
    const double chance = kSigmas / std::sqrt(std::max(due / alpha, 1.0));
    if (chance > kMostChance) {
      continue;
    }
    const double moved = std::abs(std::log(claims[i].weight * means.known / means.weight));
    const double believed = 1 + kMargin + kNeutralMargin * neutral_ + kLag * moved + chance;
    const double over = std::max(means.requests / due, 1.0);
    factors[i] = cut_to(believed, over, claims[i].success);
  }
  return factors;
}

/// The same by what callers saw, where peers are in trouble; 1: nothing speaks against it.
double ShareWatch::cut_by_callers(const Claim& claim, std::size_t memory) const {
  const CallersWatch& callers = tracks_.at(claim.key).callers[memory];
  if (!callers.fell()) {
    return 1;
  }
  std::vector<double> fell;
  std::vector<double> chances;
  for (const auto& [key, peer] : tracks_) {
    if (const auto part = key == claim.key ? std::nullopt : peer.callers[memory].fell(); part) {
      fell.push_back(*part);
      chances.push_back(peer.callers[memory].chance());
    }
  }
  if (fell.empty()) {
    return 1;
  }
  const double chance = std::hypot(callers.chance(), median_low(chances));
  if (chance > kMostChance) {
    return 1;
  }
  return cut_to(1 + kMargin + chance, callers.over(median_low(fell)), claim.success);
}

void ShareWatch::learn(const Claim& claim, Track& track, const std::array<double, 2>& alpha, double drawn,
                       double elapsed_s) {
  const double in_flight = waiting(claim);
  for (std::size_t memory = 0; memory < alpha.size(); ++memory) {
    Means& means = track.means[memory];
    means.requests += alpha[memory] * (std::max(claim.requests, 0.0) - means.requests);
    means.weight += alpha[memory] * (claim.weight - means.weight);
    means.drawn += alpha[memory] * (drawn - means.drawn);
    means.known += alpha[memory] * (1 - means.known);
  }
  track.silent_s = claim.answered || in_flight < 1 ? 0 : track.silent_s + elapsed_s;
  track.unasked_s = claim.requests > 0 ? 0 : track.unasked_s + elapsed_s;
  const bool troubled =
      claim.success < kTrouble || track.silent_s >= kSilentS || track.unasked_s >= kUnaskedS;
  track.trouble_s = troubled ? kTroubleS : track.trouble_s - elapsed_s;
  track.joined_s -= elapsed_s;
}

std::vector<ShareWatch::Verdict> ShareWatch::update(const std::vector<Claim>& claims, bool neutral,
                                                    MonotonicNs now) {
  const double elapsed_s = last_ != 0 && now > last_ ? static_cast<double>(now - last_) * 1e-9 : 0;
  last_ = now;
  std::vector<Verdict> verdicts(claims.size());
  if (elapsed_s <= 0) {
    return verdicts;
  }
  std::array<double, 2> alpha{};
  for (std::size_t memory = 0; memory < alpha.size(); ++memory) {
    alpha[memory] = 1 - std::exp(-elapsed_s / kMemoryS[memory]);
  }
  neutral_ += alpha[1] * ((neutral ? 1.0 : 0.0) - neutral_);
  decltype(tracks_) next;
  bool trouble = false;
  double requests = 0;
  double drawing = 0;
  for (const Claim& claim : claims) {
    requests += usable(claim) ? std::max(claim.requests, 0.0) : 0;
    drawing += usable(claim) ? draws(claim) : 0;
  }
  for (const Claim& claim : claims) {
    if (!usable(claim)) {
      continue;
    }
    const auto before = tracks_.find(claim.key);
    Track& track = next[claim.key];
    if (before != tracks_.end()) {
      track = before->second;
    } else if (!tracks_.empty()) {
      track.joined_s = kTroubleS;
    }
    learn(claim, track, alpha, requests * draws(claim) / drawing, elapsed_s);
    trouble |= track.trouble_s > 0;
  }
  tracks_ = std::move(next);
  const std::vector<double> fast = cut(claims, 0, alpha[0]);
  const std::vector<double> slow = cut(claims, 1, alpha[1]);
  for (std::size_t i = 0; i < claims.size(); ++i) {
    const auto found = tracks_.find(claims[i].key);
    if (found == tracks_.end()) {
      continue;
    }
    Track& track = found->second;
    double factor = std::min({1.0, fast[i], slow[i]});
    const bool calm = !trouble && std::isfinite(slow[i]);
    const bool learns = calm && factor == 1;
    for (std::size_t memory = 0; memory < track.callers.size(); ++memory) {
      track.callers[memory].learn(claims[i].answers_per_s, claims[i].seen_per_s, elapsed_s, learns);
      factor = calm ? factor : std::min(factor, cut_by_callers(claims[i], memory));
    }
    if (factor <= track.factor) {
      track.factor = factor;
      track.held_s = kHoldS;
    } else if ((track.held_s -= elapsed_s) <= 0) {
      track.factor = std::min(factor, track.factor * std::exp(elapsed_s / kForgiveS));
    }
    verdicts[i] = {track.factor, trouble || std::isfinite(slow[i])};
  }
  return verdicts;
}

}  // namespace ballast::guard
