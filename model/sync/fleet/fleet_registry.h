// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

#include "core/fleet/report.h"
#include "core/observe/persistence.h"

namespace ballast::fleet {

enum class ReportVerdict {
  kAccepted,
  kReplay,    ///< the sequence of an earlier report of this session, or of one before it
  kSession,   ///< an earlier life of the node's agent
  kLate,      ///< under way for too long
  kTooMany,   ///< more endpoints than a node may report, or more nodes than there may be
  kMalformed  ///< no name, or no such numbers
};
inline constexpr std::size_t kReportVerdicts = 6;
const char* to_string(ReportVerdict verdict);

struct FleetRegistryOptions {
  std::size_t most_nodes = 20'000;
  std::size_t most_endpoints = 1024;         ///< of one node
  std::chrono::milliseconds late{5'000};     ///< a report that was under way for longer is refused
  std::chrono::milliseconds forget{15'000};  ///< a node that is silent for longer has no endpoints
  std::chrono::milliseconds refresh{500};    ///< a service's aggregate is made anew after one to 1.5 of it
};

struct FleetRegistryStats {
  std::array<std::uint64_t, kReportVerdicts> verdicts{};
  std::uint64_t not_finite = 0;  ///< endpoints left out: a NaN or an infinity
  std::uint64_t claimed = 0;     ///< endpoints left out: another node that lives has them
  std::size_t nodes = 0;
  std::size_t endpoints = 0;
  std::size_t services = 0;
  double oldest_s = 0;  ///< age of the report that is oldest
};

/// All nodes' latest reports, joined by service. Thread-safe.
///
/// Nothing in it depends on the nodes' clocks being right: a report's endpoints carry their age, and
/// how long the report was under way is measured against the quickest of the node's session, so that a
/// report that was held up by a partition is as old here as it is. Of endpoints that two nodes claim,
/// the one that had it first keeps it until it no longer reports it.
class FleetRegistry {
 public:
  explicit FleetRegistry(FleetRegistryOptions options = {});
  ~FleetRegistry();
  FleetRegistry(const FleetRegistry&) = delete;
  FleetRegistry& operator=(const FleetRegistry&) = delete;

  /// Counts a report that is refused before it could be read.
  ReportVerdict refuse(ReportVerdict verdict);
  /// Takes the report in, or changes nothing and says why.
  ReportVerdict report(NodeReport report, MonotonicNs now, std::string* why = nullptr);
  /// The services of a node that reported before; with `whole` all there are, with the endpoints of the
  /// others.
  FleetView view(const std::string& node, bool whole, MonotonicNs now);
  /// Whether the node's last report has endpoints of the service.
  bool reports(const std::string& node, const spec::ServiceId& service) const;
  FleetRegistryStats stats(MonotonicNs now) const;
  std::size_t most_endpoints() const { return options_.most_endpoints; }

 private:
  struct Node;
  struct Service;
  struct Row;

  // All REQUIRE mutex_.
  ReportVerdict judge(const NodeReport& report, MonotonicNs now, std::string* why);
  void take_in(Node& node, NodeReport report, MonotonicNs now);
  void forget_silent(MonotonicNs now);
  std::vector<Service*> unlink(Node& node);
  void prune(const std::vector<Service*>& services);
  void refresh(Service& service, MonotonicNs now);

  const FleetRegistryOptions options_;
  mutable std::mutex mutex_;
  std::unordered_map<std::string, std::unique_ptr<Node>> nodes_;
  std::list<Node*> by_age_;  ///< the one that reported last comes first
  std::map<spec::ServiceId, std::unique_ptr<Service>> services_;
  std::size_t rows_ = 0;
  FleetRegistryStats counts_;
};

}  // namespace ballast::fleet
