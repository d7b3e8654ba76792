// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "agent/actuate/sink.h"

namespace ballast::actuate {

/// Logs what another sink would write (level info) and touches nothing.
class DryRunSink final : public WeightSink {
 public:
  std::string name() const override { return "dry-run"; }
  bool in_charge() const override { return false; }
  Status publish(const guard::GuardedWeights& weights) override;
  guard::Answer answer(const spec::ServiceId&) const override {
    return {guard::Outcome::kHeldBack, "dry run: nothing is written"};
  }
  Status withdraw(const spec::ServiceId& service) override;
};

}  // namespace ballast::actuate
