// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "agent/decide/policy.h"
#include "core/spec/telemetry.h"

namespace ballast::fleet {

/// One endpoint of the joined view: where it is, what its weight should be.
struct EndpointView {
  spec::EndpointId id;
  std::string address;
  std::uint16_t port = 0;
  bool known = false;  ///< measured by an agent
  double age_s = 0;    ///< of its telemetry
  double share = 0;    ///< wanted share of the service's traffic; the shares sum to 1
  double log_prior = 0;
  double offset = 0;
};

struct ServiceView {
  spec::ServiceId service;
  bool neutral = true;
  std::string why;
  double p99_ns = 0;  ///< of the whole service in the longer window
  double error_rate = 0;
  double qps = 0;
  std::vector<EndpointView> endpoints;
};

/// Joins the reports of all nodes. Two implementations: this node is all there is (standalone), or it
/// is one of those that report to ballast-global. In a tick the calls come in the order of this class.
class Fleet {
 public:
  virtual ~Fleet() = default;
  /// Tick and delay of the loop, as the features need them from the next report on. `writes`: this
  /// process gives proxies their weights, so it needs to know every endpoint of the services.
  virtual void set_loop(double tick_s, double loop_delay_s, bool writes) = 0;
  /// This tick's endpoints with what other nodes measured of those that this one did not; ordered by id.
  virtual std::vector<spec::EndpointTelemetry> complete(std::vector<spec::EndpointTelemetry> own,
                                                        MonotonicNs now) = 0;
  /// Whether the endpoint is this node's to decide; after complete().
  virtual bool owns(const spec::EndpointId& endpoint) const = 0;
  /// Puts what the other nodes decided for their endpoints in the place of what was decided here.
  virtual void honour(decide::ServiceProposal& proposal) const = 0;
  /// Hands in the endpoints of this tick, complete() ones; gives the aggregates of every service they
  /// belong to, made from all nodes' latest reports.
  virtual std::vector<spec::ServiceAggregate> report(const std::vector<spec::EndpointTelemetry>& endpoints,
                                                     MonotonicNs now) = 0;
  /// Joins the proposals with the telemetry: one view a service, shares mean-normalised.
  virtual std::vector<ServiceView> join(const std::vector<decide::ServiceProposal>& proposals,
                                        MonotonicNs now) = 0;
};

}  // namespace ballast::fleet
