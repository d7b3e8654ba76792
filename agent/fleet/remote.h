// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <memory>
#include <vector>

#include "agent/fleet/local.h"
#include "core/base/options.h"
#include "core/fleet/report.h"

namespace ballast::fleet {

inline constexpr std::size_t kLargeFleet = 1000;

struct RemoteOptions {
  /// Between this node's reports, in a fleet of kLargeFleet nodes and more; in a smaller one they come
  /// sooner by as much, with each tick at most, so that ballast-global has no more to do.
  std::chrono::milliseconds interval{500};
  /// A view that came longer ago is not used: this node is then alone, as LocalFleet is. Telemetry that
  /// is older is as good as none: its endpoint has the median capacity.
  std::chrono::milliseconds longest_age{5'000};
  /// Endpoints that only other nodes know become members of their services, those of which no more than their
  /// number is told without a name; without, membership is this node's own and only what they measured is
  /// taken.
  bool adopt_members = false;
  /// So long at most the exchange waits for the answer to its report: who writes weights decides on what
  /// is known now, and not a tick later.
  std::chrono::milliseconds answer_wait{0};
  bool operator==(const RemoteOptions&) const = default;

  void declare(options::Schema& s) {
    s.section("fleet");
    s.milliseconds("interval_ms", interval, 100, 60'000,
                   "between this node's reports, from 1,000 nodes on; with fewer sooner");
    s.seconds("max_age_s", longest_age, 0.5, 3600, "a view of the fleet that is older is not used");
    s.rule({"max_age_s", "interval_ms"}, [this]() -> options::Wrong {
      return longest_age >= 2 * interval
                 ? std::nullopt
                 : options::Wrong(
                       "fleet.max_age_s is less than two intervals (fleet.interval_ms), so that "
                       "nothing would be young enough; give more");
    });
  }
};

/// This node's part of a fleet of many, through the exchange.
class RemoteFleet final : public Fleet {
 public:
  RemoteFleet(RemoteOptions options, std::unique_ptr<Exchange> exchange);

  std::vector<Service> exchange(LocalReport report) override;

  /// Whether a view is in use that is young enough.
  bool joined() const { return view_ != nullptr; }
  /// Told once nothing has come for longest_age.
  std::string trouble() const override { return trouble_; }

 private:
  using ById = std::map<spec::EndpointId, const EndpointReport*>;
  bool send(const LocalReport& report);
  ById take_view(MonotonicNs now, std::chrono::milliseconds wait);
  void complete(std::vector<Member>& endpoints, ById others) const;
  void stand_in(std::vector<Member>& endpoints);

  RemoteOptions options_;
  std::unique_ptr<Exchange> exchange_;
  LocalFleet local_;
  MonotonicNs sent_ = 0;
  std::size_t nodes_ = kLargeFleet;  ///< as last told
  MonotonicNs began_ = 0;            ///< when a view was first asked for
  std::string trouble_;
  std::map<spec::ServiceId, std::size_t> members_;  ///< on all nodes, as last told; of services here
  std::shared_ptr<const FleetView> view_;           ///< null: none that is young enough
};

}  // namespace ballast::fleet
