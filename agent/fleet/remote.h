// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "agent/fleet/local.h"
#include "agent/fleet/report.h"

namespace ballast::fleet {

struct RemoteOptions {
  std::chrono::milliseconds interval{500};  ///< between this node's reports
  /// A view that came longer ago is not used: this node is then alone, as LocalFleet is. Telemetry that
  /// is older is as good as none: its endpoint has the median capacity.
  std::chrono::milliseconds longest_age{5'000};
  /// Endpoints that only other nodes know become members of their services; without, membership is
  /// this node's own and only what they measured is taken.
  bool adopt_members = false;
};

/// This node's part of a fleet of many, through the exchange. Not thread-safe: one loop, one fleet.
class RemoteFleet final : public Fleet {
 public:
  RemoteFleet(RemoteOptions options, std::unique_ptr<Exchange> exchange);

  void set_loop(double tick_s, double loop_delay_s, bool writes) override;
  std::vector<spec::EndpointTelemetry> complete(std::vector<spec::EndpointTelemetry> own,
                                                MonotonicNs now) override;
  std::vector<spec::ServiceAggregate> report(const std::vector<spec::EndpointTelemetry>& endpoints,
                                             MonotonicNs now) override;
  bool owns(const spec::EndpointId& endpoint) const override { return !others_.contains(endpoint); }
  void honour(decide::ServiceProposal& proposal) const override;
  std::vector<ServiceView> join(const std::vector<decide::ServiceProposal>& proposals,
                                MonotonicNs now) override;

  /// Whether a view is in use that is young enough.
  bool joined() const { return view_ != nullptr; }

 private:
  struct Decided {
    double log_prior = 0;
    double offset = 0;
  };
  void take_view(MonotonicNs now);
  void send(const std::vector<spec::EndpointTelemetry>& own, MonotonicNs now);

  RemoteOptions options_;
  std::unique_ptr<Exchange> exchange_;
  LocalFleet local_;
  double tick_s_ = 0.25;
  double loop_delay_s_ = 0.4;
  bool writes_ = true;
  MonotonicNs sent_ = 0;
  std::shared_ptr<const FleetView> view_;                     ///< null: none that is young enough
  std::map<spec::EndpointId, Decided> decided_;               ///< by this node, for its own
  std::map<spec::EndpointId, const EndpointReport*> others_;  ///< of view_
};

}  // namespace ballast::fleet
