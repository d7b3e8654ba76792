// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "agent/export/state_writer.h"

namespace ballast::telemetry {

/// The key under which an endpoint's decision is kept. Names are cut at their field's size.
ballast_decision_key decision_key(const spec::ServiceId& service, const std::string& pod);

/// Makes the rows of one service; looks endpoints up by pod, at the same place first. Holds
/// references: `service` and `tick` must outlive it.
class DecisionRows {
 public:
  DecisionRows(const turn::Decision& service, const TickState& tick);

  const decide::Proposal* proposal(std::size_t index) const;
  /// The row of weights.endpoints()[index].
  sample::DecisionRow row(std::size_t index) const;

 private:
  const spec::EndpointObservation* observation(std::size_t index) const;

  const turn::Decision& service_;
  const TickState& tick_;
  std::unordered_map<std::string_view, std::size_t> observed_;
  std::unordered_map<std::string_view, std::size_t> proposed_;
  double weight_sum_ = 0;
};

}  // namespace ballast::telemetry
