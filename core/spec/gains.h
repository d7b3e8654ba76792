// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

/// The gains of the strong rule (agent/decide/queue_rule.h) that are learned a service, in the twin of it.
namespace ballast::spec {

enum Gain : std::size_t {
  kHorizonGain = 0,  ///< horizon of the feedback from the queues
  kTiltGain,         ///< exponent of the square-root tilt
  kTrustGain,        ///< trust in the capacities that are measured: times their logs
  kFeedbackGain,     ///< part of a queue's deviation that is answered
  kLastingGain,      ///< pace of the slow part
  kReadyGain,        ///< how readily weights are in force in the place of neutral
  kGains
};
inline constexpr std::array<std::string_view, kGains> kGainNames = {"horizon",  "tilt",    "trust",
                                                                    "feedback", "lasting", "ready"};
inline constexpr unsigned kGainsVersion = 1;

/// Each within [-1, 1]; 0 is the strong rule as it is, to the last bit.
using Gains = std::array<double, kGains>;

/// Most that a gain changes its constant by, in octaves.
inline constexpr std::array<double, kGains> kGainOctaves = {2, 1, 1, 2, 2, 5};

/// What the constant is multiplied by: exactly 1 at 0, and for what is not finite.
inline double gain_factor(const Gains& gains, Gain gain) {
  const double value = std::isfinite(gains[gain]) ? std::clamp(gains[gain], -1.0, 1.0) : 0;
  return std::exp2(kGainOctaves[gain] * value);
}

/// What the twin of a service says of itself: what it was built from, how near it came to what happened, and
/// what its gains are worth. All of the part of the recording that nothing was learned from.
struct TwinWord {
  double recorded_s = 0;  ///< learned from and judged on
  std::size_t gaps = 0;
  double foreseen_p99_ms = 0;  ///< under what acted; 0: there is no twin
  double came_p99_ms = 0;
  double ratio = 1, low = 1, high = 1;  ///< p99 of the gains over that of the rule's own, with 95 % bounds
  bool in_force = false;                ///< the gains act; else the rule's own
  std::string note;                     ///< what could not be used, for people; may be empty
};

}  // namespace ballast::spec
