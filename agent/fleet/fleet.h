// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "core/spec/loop_timing.h"
#include "core/spec/telemetry.h"

namespace ballast::fleet {

/// An endpoint of this tick and the offset that is in force for it.
struct Member {
  spec::EndpointTelemetry telemetry;
  double offset = 0;
  bool own = true;  ///< decided by this node; else the offset is what its node decided
};

/// What this node brings to the fleet in a tick.
struct LocalReport {
  spec::LoopTiming loop;
  /// This process gives proxies their weights, so it needs every endpoint of every service.
  bool writes = true;
  std::vector<Member> endpoints;  ///< its own; of several of one id the last holds
};

/// One service of this tick, from all nodes.
struct Service {
  spec::ServiceAggregate aggregate;
  std::vector<spec::EndpointTelemetry> endpoints;  ///< ordered by id, at least one
  std::vector<double> offsets;                     ///< in force; one an endpoint, as in Member
  std::vector<bool> own;                           ///< one an endpoint, as in Member
};

/// The nodes together. Two implementations: this node is all there is (standalone), or it is one of those
/// that report to ballast-global. Not thread-safe: one loop, one fleet.
class Fleet {
 public:
  virtual ~Fleet() = default;
  /// The one exchange of a tick: what this node has against what all have, in order of service. Does not
  /// wait for anybody. REQUIRES to be called once a tick: each call is one step of the persistence
  /// estimates. A service without an endpoint in this tick is not in the answer.
  virtual std::vector<Service> exchange(LocalReport report) = 0;
  /// Empty while all is well; else why other nodes are not seen, for the log, status and metrics.
  virtual std::string trouble() const { return {}; }
};

}  // namespace ballast::fleet
