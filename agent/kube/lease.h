// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "agent/kube/client.h"
#include "core/base/clock.h"

namespace ballast::kube {

struct LeaseOptions {
  std::string ns = "ballast-system";
  std::string name = "ballast-leader";
  std::string holder;  ///< who we are; unique in the cluster
  int duration_s = 10;
  bool operator==(const LeaseOptions&) const = default;

  void declare(options::Schema& s) {
    s.section("kubernetes");
    s.text("namespace", ns, "NAME", "of the leader's Lease", options::not_empty);
    s.text("lease", name, "NAME", "of the leader's Lease", options::not_empty);
    s.number("lease_duration_s", duration_s, 3, 3600, "s", "unrenewed for so long, another may take it");
  }
};

/// What one look at the Lease told.
struct LeaseView {
  bool leading = false;    ///< we hold it, and may write until valid_until()
  bool took = false;       ///< by this very step
  bool lapsed = false;     ///< somebody held it and has not renewed it for its duration
  std::uint64_t term = 0;  ///< of ours: rises each time that we took it
  std::string holder;      ///< as found before this step
  Json annotations;        ///< of the Lease; null when there are none
};

/// Leader election over one coordination.k8s.io/v1 Lease, as client-go's leaderelection does it: time
/// is measured on our own monotonic clock from when a renewal was first seen, so that skewed clocks
/// of other nodes do not matter, and every write carries the resourceVersion that it was decided on.
/// One thread steps; valid_until() and term() may be asked from any.
class LeaderLease {
 public:
  LeaderLease(Client& client, LeaseOptions options) : client_(client), options_(std::move(options)) {}

  /// Looks, and as a candidate takes, or as the holder renews. Errors: kFailed; whoever led goes on to
  /// until valid_until(). Who does not lead reads from the API server's cache: thousands look, one writes.
  Result<LeaseView> step(MonotonicNs now, bool candidate);
  /// Lets go of it, so that another may take it at once. Only the holder writes. Where not all was handed
  /// back the holder stays named, of a Lease that lapses within a second: to all others he is one that died.
  Status give_up(bool handed_back = true);
  /// The last instant at which the leader may write; 0 when we do not lead. A second before others
  /// may take the Lease.
  MonotonicNs valid_until() const { return valid_until_; }
  /// What was decided in an earlier term of ours may not be written in a later one: another led between them.
  std::uint64_t term() const { return term_; }

 private:
  struct Seen {
    Json lease;  ///< null where there is none
    LeaseView view;
    bool free = false;  ///< a candidate may take or renew it
  };
  Result<Seen> look(MonotonicNs now, bool cached);
  Result<LeaseView> create(MonotonicNs now);
  std::string path() const;
  Status write(const Json& lease, MonotonicNs now, bool& won);

  Client& client_;
  const LeaseOptions options_;
  std::string seen_;  ///< holder and time of the last renewal seen
  MonotonicNs seen_at_ = 0;
  std::atomic<MonotonicNs> valid_until_{0};
  std::atomic<std::uint64_t> term_{0};
};

/// Now as the API writes it: 2026-11-21T11:00:00.000000Z.
std::string micro_time();

}  // namespace ballast::kube
