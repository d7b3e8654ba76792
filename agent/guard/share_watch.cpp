// SPDX-License-Identifier: Apache-2.0
#include "agent/guard/share_watch.h"

#include <algorithm>
#include <cmath>
#include <utility>

namespace ballast::guard {

namespace {

constexpr double kSigmas = 3;  // of what chance does to a count
constexpr double kLag = 0.3;   // of a change of weights, which proxies follow later
constexpr double kLeastSuccess = 0.02;

}  // namespace

std::vector<double> ShareWatch::update(const std::vector<Claim>& claims, bool neutral, MonotonicNs now) {
  const double elapsed_s = last_ != 0 && now > last_ ? static_cast<double>(now - last_) * 1e-9 : 0;
  last_ = now;
  std::vector<double> factors(claims.size(), 1.0);
  if (elapsed_s <= 0) {
    return factors;
  }
  const double alpha = 1 - std::exp(-elapsed_s / kMemoryS);
  neutral_ += alpha * ((neutral ? 1.0 : 0.0) - neutral_);
  decltype(tracks_) next;
  std::vector<double> rates;  // requests that a fair share's weight brings
  for (const Claim& claim : claims) {
    if (!claim.known || !std::isfinite(claim.requests) || !(claim.weight > 0)) {
      continue;
    }
    Track track = tracks_[claim.key];
    track.requests += alpha * (std::max(claim.requests, 0.0) - track.requests);
    track.weight += alpha * (claim.weight - track.weight);
    track.known += alpha * (1 - track.known);
    next[claim.key] = track;
    if (track.requests > 0) {  // none at all: nobody sends it any
      rates.push_back(track.requests / track.weight);
    }
  }
  tracks_ = std::move(next);
  if (rates.size() < 2) {
    return factors;
  }
  const auto middle = rates.begin() + static_cast<std::ptrdiff_t>((rates.size() - 1) / 2);
  std::nth_element(rates.begin(), middle, rates.end());
  for (std::size_t i = 0; i < claims.size(); ++i) {
    const auto track = tracks_.find(claims[i].key);
    if (track == tracks_.end()) {
      continue;
    }
    const double due = *middle * track->second.weight;
    const double moved = std::abs(std::log(claims[i].weight * track->second.known / track->second.weight));
    const double believed = 1 + kMargin + kNeutralMargin * neutral_ + kLag * moved +
                            kSigmas / std::sqrt(std::max(due / alpha, 1.0));
    const double over = std::max(track->second.requests / due, 1.0);
    double factor = std::min(1.0, believed / over);
    if (const double success = std::clamp(claims[i].success, kLeastSuccess, 1.0); factor < 1) {
      factor *= std::max(1 - (1 - success) * over, kLeastSuccess) / success;
    }
    double& last = track->second.factor;
    factors[i] = last = std::min({1.0, factor, last * std::exp(elapsed_s / kForgiveS)});
  }
  return factors;
}

}  // namespace ballast::guard
