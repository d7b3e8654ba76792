// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/policies.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <sstream>

namespace ballast::lab {

const std::vector<ArmPolicy>& arm_policies() {
  static const std::vector<ArmPolicy> kPolicies = {
      {"round_robin", "ROUND_ROBIN", WeightSource::kEqual, ""},
      {"least_request", "LEAST_REQUEST", WeightSource::kEqual, ""},
      {"random", "RANDOM", WeightSource::kEqual, ""},
      {"ring_hash", "RING_HASH", WeightSource::kEqual, ""},
      {"maglev", "MAGLEV", WeightSource::kEqual, ""},
      {"cswrr", kCswrr, WeightSource::kEqual, "", 0, false, true},
      {"capacity_oracle", "LEAST_REQUEST", WeightSource::kCapacity, ""},
      {"sqrt_oracle", "LEAST_REQUEST", WeightSource::kSquareRoot, ""},
      {"prior", "LEAST_REQUEST", WeightSource::kBallast, "prior"},
      {"prior_square_root", "LEAST_REQUEST", WeightSource::kBallast, "prior", 1},
      {"queue_rule", "LEAST_REQUEST", WeightSource::kBallast, "queue_rule"},
      {"learned", "LEAST_REQUEST", WeightSource::kBallast, "learned"},
      {"forecast_rule_shipped", "LEAST_REQUEST", WeightSource::kBallast, "forecast_rule", 0, false},
      {"forecast_rule", "LEAST_REQUEST", WeightSource::kBallast, "forecast_rule"},
      {"ballast_shipped", "LEAST_REQUEST", WeightSource::kBallast, "learned", 0, false},
      {"ballast", "LEAST_REQUEST", WeightSource::kBallast, "auto"},
  };
  return kPolicies;
}

Result<std::vector<ArmPolicy>> parse_policies(const std::string& list) {
  std::vector<ArmPolicy> out;
  std::istringstream in(list);
  for (std::string name; std::getline(in, name, ',');) {
    const auto& known = arm_policies();
    const auto found =
        std::find_if(known.begin(), known.end(), [&](const auto& p) { return p.name == name; });
    if (found == known.end()) {
      std::string names;
      for (const auto& policy : known) {
        names += (names.empty() ? "" : ", ") + policy.name;
      }
      return Error::usage("--policy: \"" + name + "\" is not one of " + names);
    }
    if (std::any_of(out.begin(), out.end(), [&](const auto& p) { return p.name == name; })) {
      return Error::usage("--policy: " + name + " stands twice");
    }
    out.push_back(*found);
  }
  if (out.empty()) {
    return Error::usage("--policy: no policy given");
  }
  return out;
}

std::vector<int> weights_by_hand(WeightSource source, const std::vector<double>& quotas, double load_cores) {
  std::vector<double> shares(quotas.size(), 1);
  if (source == WeightSource::kCapacity) {
    shares = quotas;
  } else if (source == WeightSource::kSquareRoot) {
    const double capacity = std::accumulate(quotas.begin(), quotas.end(), 0.0);
    double roots = 0;
    for (const double quota : quotas) {
      roots += std::sqrt(quota);
    }
    for (std::size_t i = 0; i < quotas.size(); ++i) {
      // At low load the rule would give a slow pod less than nothing; it then gets next to nothing.
      shares[i] =
          std::max(quotas[i] - std::sqrt(quotas[i]) * (capacity - load_cores) / roots, 0.01 * quotas[i]);
    }
  } else {
    return std::vector<int>(quotas.size(), 1);
  }
  const double sum = std::accumulate(shares.begin(), shares.end(), 0.0);
  std::vector<int> weights;
  for (const double share : shares) {
    weights.push_back(std::max(1, static_cast<int>(std::lround(1000 * share / sum))));
  }
  return weights;
}

}  // namespace ballast::lab
