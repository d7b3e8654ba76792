// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/timeline.h"

#include <algorithm>
#include <cmath>

namespace ballast::lab {

namespace {

constexpr double kGridS = 0.01;
constexpr double kSettledStepS = 0.25;

const WeightPoint* point_at(const Timeline& timeline, double t_s) {
  const auto after = std::upper_bound(timeline.begin(), timeline.end(), t_s,
                                      [](double t, const WeightPoint& point) { return t < point.t_s; });
  return after == timeline.begin() ? nullptr : &*std::prev(after);
}

double share(const WeightPoint& point, const std::string& pod) {
  double sum = 0;
  for (const auto& [name, weight] : point.weights) {
    sum += weight;
  }
  const auto found = point.weights.find(pod);
  return found == point.weights.end() || sum <= 0 ? 0 : found->second / sum;
}

double mean_share(const Timeline& timeline, const std::string& pod, double from_s, double to_s) {
  double sum = 0;
  int n = 0;
  for (double t = from_s; t <= to_s; t += kGridS) {
    sum += share_at(timeline, pod, t);
    ++n;
  }
  return n == 0 ? 0 : sum / n;
}

bool near(double value, double target, double tolerance) {
  return std::abs(value - target) <= tolerance * target;
}

}  // namespace

double share_at(const Timeline& timeline, const std::string& pod, double t_s) {
  const auto* point = point_at(timeline, t_s);
  return point == nullptr ? 0 : share(*point, pod);
}

std::optional<double> settled_at(const Timeline& timeline, double from_s, double to_s, double tolerance) {
  const auto* last = point_at(timeline, to_s);
  if (last == nullptr || to_s <= from_s) {
    return std::nullopt;
  }
  std::map<std::string, double> target;
  for (const auto& [pod, weight] : last->weights) {
    target[pod] = mean_share(timeline, pod, to_s - (to_s - from_s) / 4, to_s);
  }
  const auto away = [&](const auto& share_of) {
    double differences = 0;
    for (const auto& [pod, mean] : target) {
      differences += std::abs(share_of(pod) - mean);
    }
    return differences / 2;
  };
  const auto mean_is_near = [&](double t_s) {
    const double until = std::min(t_s + kSettledMeanS, to_s);
    return away([&](const std::string& pod) { return mean_share(timeline, pod, t_s, until); }) <= tolerance;
  };
  double since = to_s;
  for (double t_s = to_s; t_s >= from_s && mean_is_near(t_s); t_s -= kSettledStepS) {
    since = t_s;
  }
  for (const auto& point : timeline) {
    const double t_s = std::max(point.t_s, from_s);
    const bool in_force = point_at(timeline, t_s) == &point;
    if (in_force && t_s >= since - kSettledStepS && t_s < to_s &&
        away([&](const std::string& pod) { return share(point, pod); }) <= tolerance) {
      return t_s;
    }
  }
  return std::nullopt;
}

std::optional<Reaction> reaction_of(const Timeline& timeline, const std::string& pod, double event_s,
                                    double to_s) {
  const double before = share_at(timeline, pod, event_s);
  const double after = mean_share(timeline, pod, to_s - (to_s - event_s) / 4, to_s);
  if (before <= 0 || to_s <= event_s || near(after, before, 0.10)) {
    return std::nullopt;
  }
  std::optional<double> first;
  for (const auto& point : timeline) {
    if (point.t_s <= event_s || point.t_s > to_s) {
      continue;
    }
    const double now = share(point, pod);
    const double moved = after > before ? now - before : before - now;
    if (!first && moved >= 0.05 * before) {
      first = point.t_s - event_s;
    }
    if (first && near(now, after, 0.10)) {
      return Reaction{*first, point.t_s - event_s};
    }
  }
  return std::nullopt;
}

}  // namespace ballast::lab
