// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <vector>

#include "agent/fleet/fleet.h"
#include "agent/observe/observation.h"
#include "agent/observe/persistence.h"

namespace ballast::fleet {

/// The fleet of one node, in process: this node's report is all there is.
///
/// An endpoint that is missing from a report is gone from the views of that very tick. A service
/// that is gone altogether has one last view without endpoints, so that the guard can let go of it.
/// Not thread-safe: one loop, one fleet.
class LocalFleet final : public Fleet {
 public:
  /// `loop` as it is at the start; see set_loop().
  explicit LocalFleet(observe::LoopNumbers loop = {}) : loop_(loop) {}

  void set_loop(double tick_s, double loop_delay_s, bool writes = true) override;
  std::vector<spec::EndpointTelemetry> complete(std::vector<spec::EndpointTelemetry> own,
                                                MonotonicNs) override {
    return own;
  }
  bool owns(const spec::EndpointId&) const override { return true; }
  void honour(decide::ServiceProposal&) const override {}

  /// REQUIRES to be called once a tick: each call is one step of the persistence estimate. Of
  /// reports of one id the last holds.
  std::vector<spec::ServiceAggregate> report(const std::vector<spec::EndpointTelemetry>& endpoints,
                                             MonotonicNs now) override;
  /// Views in order of service. The offsets are remembered for the next report's features.
  std::vector<ServiceView> join(const std::vector<decide::ServiceProposal>& proposals,
                                MonotonicNs now) override;

 private:
  struct Service {
    std::vector<spec::EndpointTelemetry> endpoints;  ///< ordered by id
    std::map<spec::EndpointId, double> offsets;      ///< of the last join
    observe::PersistenceEstimator persistence;
    spec::ServiceAggregate aggregate;
  };

  observe::LoopNumbers loop_;
  std::map<spec::ServiceId, Service> services_;
  std::vector<spec::ServiceId> gone_;  ///< since the last join
};

}  // namespace ballast::fleet
