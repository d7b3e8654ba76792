// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "core/base/result.h"

namespace ballast::lab {

enum class WeightSource {
  kEqual,       ///< 1 each
  kCapacity,    ///< the true quotas, by hand
  kSquareRoot,  ///< the static optimum of M/G/1-PS: c - sqrt(c) * spare / sum(sqrt(c)), by hand
  kBallast,     ///< ballastd's EDS
};

/// One arm: what chooses among the pods, and where the weights come from.
struct ArmPolicy {
  std::string name;
  std::string lb_policy;  ///< Envoy's
  WeightSource weights = WeightSource::kEqual;
  std::string decide;      ///< policy.name of ballastd, of kBallast only
  double square_root = 0;  ///< its prior.square_root
  bool learns = true;      ///< beside a learner, where the scenario has one
  bool reports = false;    ///< the pods tell their load with each answer (ORCA)
};

/// Envoy's client-side weighted round robin (gRFC A58), which has no name in the cluster's lb_policy.
inline constexpr const char* kCswrr = "CLIENT_SIDE_WEIGHTED_ROUND_ROBIN";

/// All of them, in the order of the help text.
const std::vector<ArmPolicy>& arm_policies();
/// Comma-separated names. kUsage names the unknown one and lists the known.
Result<std::vector<ArmPolicy>> parse_policies(const std::string& list);

/// Envoy's integer weights for pods of these quotas under a load in CPUs; at least 1 each.
std::vector<int> weights_by_hand(WeightSource source, const std::vector<double>& quotas, double load_cores);

}  // namespace ballast::lab
