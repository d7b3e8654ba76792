// SPDX-License-Identifier: Apache-2.0
#include "core/observe/persistence.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/base/statistics.h"

namespace ballast::observe {
namespace {

constexpr double kUnlikeTicksToEnd = 2;
constexpr double kLikeTickForgives = 0.5;
constexpr double kShortestSpell = 0.01;
// The reference is the mean of this many ticks at most, so that it follows a slow drift, which
// the loop follows as well.
constexpr double kReferenceTicks = 20;
// Else one node's claims, which come and go as it likes, would drown the differences between all others.
const double kFurthest = std::log(kFarthestRatio);

double spread(const std::map<std::string, double>& pattern) {
  double squares = 0;
  for (const auto& [pod, x] : pattern) {
    squares += x * x;
  }
  return pattern.empty() ? 0 : std::sqrt(squares / static_cast<double>(pattern.size()));
}

std::map<std::string, double> pattern_of(std::span<const spec::EndpointTelemetry> endpoints) {
  std::map<std::string, double> pattern;
  std::vector<double> all;
  for (const auto& endpoint : endpoints) {
    if (endpoint.known && std::isfinite(endpoint.capacity_qps) && endpoint.capacity_qps > 0) {
      const double x = std::log(endpoint.capacity_qps);
      pattern.emplace_hint(pattern.end(), endpoint.id.pod, x);
      all.push_back(x);
    }
  }
  const double middle = median_in_place(all);
  double sum = 0;
  for (auto& [pod, x] : pattern) {
    x = std::clamp(x, middle - kFurthest, middle + kFurthest);
    sum += x;
  }
  const double mean = pattern.empty() ? 0 : sum / static_cast<double>(pattern.size());
  for (auto& [pod, x] : pattern) {
    x -= mean;
  }
  return pattern;
}

}  // namespace

PersistenceEstimator::PersistenceEstimator(PersistenceOptions options)
    : options_(options), log_typical_(std::log(std::max(options.prior_s, kShortestSpell))) {}

double PersistenceEstimator::typical_s() const {
  return std::exp(log_typical_);
}

void PersistenceEstimator::begin(Pattern pattern, double now_s, bool confirmed) {
  spell_ = true;
  confirmed_ = confirmed;
  spell_began_s_ = now_s;
  unlike_score_ = 0;
  ticks_ = 1;
  reference_ = std::move(pattern);
}

void PersistenceEstimator::end(double until_s) {
  const double length = std::clamp(until_s - spell_began_s_, kShortestSpell, options_.longest_s);
  log_typical_ += options_.learning_rate * (std::log(length) - log_typical_);
  spell_ = false;
  reference_.clear();
}

// The reference moves towards the pattern; who left is dropped, who came is taken as it is.
void PersistenceEstimator::follow(const Pattern& pattern) {
  ++ticks_;
  const double rate = 1.0 / std::min(static_cast<double>(ticks_), kReferenceTicks);
  std::erase_if(reference_, [&](const auto& entry) { return !pattern.contains(entry.first); });
  for (const auto& [pod, x] : pattern) {
    const auto [entry, came] = reference_.try_emplace(pod, x);
    if (!came) {
      entry->second += rate * (x - entry->second);
    }
  }
}

double PersistenceEstimator::unlike(const Pattern& pattern) const {
  // Both are centred over the endpoints that they share: a new one moves the mean of all.
  std::vector<std::pair<double, double>> shared;
  double mean_x = 0;
  double mean_r = 0;
  for (const auto& [pod, x] : pattern) {
    if (const auto found = reference_.find(pod); found != reference_.end()) {
      shared.emplace_back(x, found->second);
      mean_x += x;
      mean_r += found->second;
    }
  }
  if (shared.empty()) {
    return 0;
  }
  mean_x /= static_cast<double>(shared.size());
  mean_r /= static_cast<double>(shared.size());
  double apart = 0;
  double strength = 0;
  for (const auto& [x, r] : shared) {
    const double dx = x - mean_x;
    const double dr = r - mean_r;
    apart += (dx - dr) * (dx - dr);
    strength += dx * dx + dr * dr;
  }
  return strength > 0 ? apart / strength : 0;
}

double PersistenceEstimator::update(std::span<const spec::EndpointTelemetry> endpoints, MonotonicNs now) {
  const double now_s = static_cast<double>(now) / 1e9;
  Pattern pattern = pattern_of(endpoints);
  const double strength = spread(pattern);
  if (spell_ && strength < options_.leave_spread) {
    end(now_s);
  } else if (spell_) {
    if (unlike(pattern) > options_.unlike) {
      if (unlike_score_ <= 0) {
        unlike_since_s_ = now_s;
      }
      unlike_score_ += 1;
    } else {
      unlike_score_ = std::max(0.0, unlike_score_ - kLikeTickForgives);
      follow(pattern);
    }
    if (unlike_score_ >= kUnlikeTicksToEnd) {
      const double changed_s = unlike_since_s_;
      end(changed_s);
      begin(std::move(pattern), changed_s, true);
    }
  } else if (strength >= options_.enter_spread) {
    begin(std::move(pattern), now_s, false);
  }
  if (!spell_) {
    return persistence_s_ = 0;
  }
  const double age = std::max(0.0, now_s - spell_began_s_);
  confirmed_ = confirmed_ || age >= options_.confirm_s;
  const double certainty = confirmed_ ? 1.0 : age / options_.confirm_s;
  return persistence_s_ = std::min(options_.longest_s, std::max(typical_s() * certainty, age));
}

}  // namespace ballast::observe
