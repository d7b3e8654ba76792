// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/spec/telemetry.h"

namespace ballast::fleet {

/// What a node measured of one of its endpoints, and what it decided for it.
struct EndpointReport {
  spec::EndpointTelemetry telemetry;  ///< `taken` in the clock of whoever holds this
  double offset = 0;
};

/// All of a node's measured endpoints at one moment.
struct NodeReport {
  std::string node;
  /// Higher for every later life of the node's agent: its start in ns since 1970.
  std::uint64_t session = 0;
  std::uint64_t sequence = 0;  ///< rises with every report of a session
  MonotonicNs sent = 0;        ///< in the node's clock, which need not be ours
  double tick_s = 0.25;
  double loop_delay_s = 0.4;
  /// The other nodes' endpoints are wanted too, of every service there is (for who writes weights), and
  /// not only the aggregates of the services in this report.
  bool whole = false;
  std::vector<EndpointReport> endpoints;
};

/// One service, joined over all nodes.
struct ServiceReport {
  spec::ServiceAggregate aggregate;
  std::vector<EndpointReport> others;  ///< not of the node that asks; empty unless it asked for the whole
};

/// What a node has of the fleet.
struct FleetView {
  MonotonicNs received = 0;  ///< in our clock; so are the times of all telemetry
  bool whole = false;
  std::size_t nodes = 0;  ///< that report now, this one too
  std::vector<ServiceReport> services;
};

/// The way to the fleet of all nodes.
class Exchange {
 public:
  virtual ~Exchange() = default;
  /// Sends this, or the next one if the one before is still on its way: what is old is worth nothing.
  /// Fills in node, session and sequence. Waits for nobody.
  virtual void offer(NodeReport report) = 0;
  /// The newest view; null before the first.
  virtual std::shared_ptr<const FleetView> latest() const = 0;
  /// The same, once what was offered last was answered; waits at most so long for that.
  virtual std::shared_ptr<const FleetView> answered(std::chrono::milliseconds /*most*/) const {
    return latest();
  }
};

}  // namespace ballast::fleet
