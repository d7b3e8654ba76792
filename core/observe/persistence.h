// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/spec/telemetry.h"

namespace ballast::observe {

/// What an endpoint says is its node's word alone, and any node may be hostile. In what is summed up over a
/// service a value counts as no more than so many times the one in the middle, and in a logarithm as no less
/// than that part of it: pods of a service are seldom so far apart.
inline constexpr double kFarthestRatio = 16;

struct PersistenceOptions {
  /// How long a service's differences are taken to last before one change was seen: quotas and
  /// machines differ for hours, so a stark difference is worth acting on at once.
  double prior_s = 60;
  /// A pattern that comes out of equality counts in full after this time: one odd tick is none.
  double confirm_s = 1;
  double longest_s = 3600;     ///< nothing is said beyond
  double enter_spread = 0.1;   ///< standard deviation of log capacity from which there is a pattern
  double leave_spread = 0.05;  ///< and below which there is none any more
  /// Unlike = |x - r|^2 / (|x|^2 + |r|^2) of pattern and reference: 1 - correlation where both
  /// are equally strong.
  double unlike = 0.3;
  double learning_rate = 0.5;  ///< of the typical spell, in log seconds
};

/// Learns how long the differences of capacity between a service's endpoints last.
///
/// The pattern of a tick is the log of every endpoint's capacity relative to their mean. While it
/// resembles its own running mean, a spell goes on; two unlike ticks in a short time end it (one
/// alone is a glitch), and its length is folded into the typical length, an exponentially weighted
/// mean of log lengths that starts at prior_s.
///
/// persistence_s() is
///   0                                while there is no pattern, so equal pods stay neutral;
///   typical * age / confirm_s        in a pattern's first second after equality;
///   max(typical, age of the spell)   from then on.
///
/// So 4:2:1:1 by quota reads 60 s after one second and more after a minute; a pattern that moves
/// every second reads 8 s, 3 s, 1.7 s, ... and settles near its period; and one that was
/// restless and stands still earns its trust back second by second.
class PersistenceEstimator {
 public:
  explicit PersistenceEstimator(PersistenceOptions options = {});

  /// One tick. Endpoints that are not known, or whose capacity is not, are left out; those that
  /// come or go are not a change of pattern. `now` must not run backwards. Total.
  double update(std::span<const spec::EndpointTelemetry> endpoints, MonotonicNs now);
  double persistence_s() const { return persistence_s_; }
  /// The learned length alone.
  double typical_s() const;

 private:
  using Pattern = std::map<std::string, double>;  // pod -> log capacity relative to the mean
  void begin(Pattern pattern, double now_s, bool confirmed);
  void end(double until_s);
  void follow(const Pattern& pattern);
  double unlike(const Pattern& pattern) const;

  PersistenceOptions options_;
  double log_typical_;
  double persistence_s_ = 0;
  bool spell_ = false;
  bool confirmed_ = false;
  double spell_began_s_ = 0;
  double unlike_since_s_ = 0;
  double unlike_score_ = 0;
  std::size_t ticks_ = 0;
  Pattern reference_;
};

}  // namespace ballast::observe
