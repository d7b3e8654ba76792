// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <optional>
#include <string>
#include <vector>

namespace ballast::lab {

/// Weights in force at Envoy from `t_s` on (until the next point), by pod.
struct WeightPoint {
  double t_s = 0;
  std::map<std::string, int> weights;
  bool operator==(const WeightPoint&) const = default;
};
/// In order of time; a point is there only where something changed.
using Timeline = std::vector<WeightPoint>;

/// A pod's share of the weights at a time; 0 before the first point or for an unknown pod.
double share_at(const Timeline& timeline, const std::string& pod, double t_s);

/// When the split became what it stayed: the earliest time in [from_s, to_s] at which, and from which
/// on in the mean of any kSettledMeanS, no more than `tolerance` of the traffic would have to move
/// (half the sum of the shares' differences, their total variation) to make it the mean split over
/// the last quarter of the span. The mean, because a policy that explores never stands still.
/// nullopt when it does not settle, or there is nothing in the span.
inline constexpr double kSettledMeanS = 5.0;
std::optional<double> settled_at(const Timeline& timeline, double from_s, double to_s, double tolerance);

struct Reaction {
  double first_s = 0;  ///< from the event until the share is 5 % on the way (relative to itself)
  double done_s = 0;   ///< from the event until it is within 10 % of its mean over the last quarter
};

/// How a pod's share answered to an event. nullopt when it ended within 10 % of where it was.
std::optional<Reaction> reaction_of(const Timeline& timeline, const std::string& pod, double event_s,
                                    double to_s);

}  // namespace ballast::lab
