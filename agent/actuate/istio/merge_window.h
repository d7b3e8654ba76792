// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <set>
#include <string>

#include "agent/actuate/istio/writer.h"
#include "core/base/clock.h"

/// Envoy holds back an update of weights that comes within update_merge_window (1 s) of the last. Where an
/// operator asks for it, one EnvoyFilter of ours takes that window away, from the outbound clusters of
/// managed hosts and from nothing else. It lies in Istio's root namespace, to reach every client and gateway,
/// and comes before the user's own filters (priority), so that what they say of the window stands.
namespace ballast::actuate::istio {

inline constexpr const char* kMergeWindowName = "ballast-merge-window";

/// The EnvoyFilter for these hosts.
Json merge_window_filter(const std::set<std::string>& hosts, const std::string& root_ns,
                         const PlanOptions& options);

/// Keeps that object what it should be. Each change of it is a push of clusters to every proxy, and makes the
/// cluster of the host anew in Envoy: hosts are added together and taken out a while after they were let go.
class MergeWindow {
 public:
  struct Options {
    std::string root_ns;                        ///< empty: nothing is ever written
    MonotonicNs gather_ns = 1'000'000'000ULL;   ///< hosts that come are waited for
    MonotonicNs linger_ns = 10'000'000'000ULL;  ///< hosts that went may come back
    MonotonicNs look_ns = 30'000'000'000ULL;    ///< somebody else may have changed it
  };
  MergeWindow(Writer& writer, Options options) : writer_(writer), options_(std::move(options)) {}

  /// `hosts`: all that are managed now. `next`: when there is something to do without news; 0 for none.
  Status keep(const std::set<std::string>& hosts, const PlanOptions& plan, MonotonicNs now,
              MonotonicNs& next);
  /// Away with it, whoever of this Ballast made it.
  Status remove();

 private:
  Status put(const PlanOptions& plan, MonotonicNs now);

  Writer& writer_;
  const Options options_;
  Object have_;
  std::set<std::string> hosts_;               ///< that the object names
  std::map<std::string, MonotonicNs> comes_;  ///< by host, since when
  std::map<std::string, MonotonicNs> went_;
  MonotonicNs looked_ = 0;
};

}  // namespace ballast::actuate::istio
