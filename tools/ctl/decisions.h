// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tools/ctl/view.h"

namespace ballast::ctl {

/// The decisions about `target`, ordered by service and pod.
Result<std::vector<sample::DecisionRow>> decisions(const View& view, const std::string& target);

/// A decision's endpoint as a Name, so that matches() and the labels hold for it too.
Name name_of(const ballast_decision_key& key);

struct Reason {
  std::uint32_t bit;
  const char* name;      ///< in JSON
  const char* sentence;  ///< for people: what the guard did
};
/// The guard's reasons in `bits` (GuardReason of agent/guard/guard.h).
std::vector<Reason> reasons(std::uint32_t bits);

/// What became of it, as guard::to_string(Outcome) has it.
const char* outcome_name(const ballast_decision_value& v);

Json decision_json(const sample::DecisionRow& row, MonotonicNs now);

inline double e6(std::int64_t fixed) {
  return static_cast<double>(fixed) * 1e-6;
}

}  // namespace ballast::ctl
