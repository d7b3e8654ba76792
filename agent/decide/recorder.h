// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "agent/decide/policy.h"
#include "core/spec/recording.h"

namespace ballast::decide {

/// Any policy, and a record of what it saw: what a twin of the service is built from.
class Recorder final : public Policy {
 public:
  using Sink = std::function<void(const spec::RecordedTick&)>;
  Recorder(std::unique_ptr<Policy> inner, Sink sink) : inner_(std::move(inner)), sink_(std::move(sink)) {}
  std::string name() const override { return inner_->name(); }
  ServiceProposal decide(const spec::ServiceObservation& observation, const LoopContext& loop) override {
    sink_(recorded(observation, loop));
    return inner_->decide(observation, loop);
  }
  static spec::RecordedTick recorded(const spec::ServiceObservation& observation, const LoopContext& loop);

 private:
  std::unique_ptr<Policy> inner_;
  Sink sink_;
};

}  // namespace ballast::decide
