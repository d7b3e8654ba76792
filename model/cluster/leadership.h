// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>

#include "agent/kube/lease.h"

namespace ballast::cluster {

/// Keeps asking for a Lease, and renews it while it is ours, from a thread of its own.
class Leadership {
 public:
  Leadership(kube::Client& client, kube::LeaseOptions options);
  /// Lets go of the Lease.
  ~Leadership();
  Leadership(const Leadership&) = delete;
  Leadership& operator=(const Leadership&) = delete;

  /// Whether this process may write now; a second before others may lead.
  bool leads() const { return SystemClock().now() < valid_until_; }

 private:
  void run(const std::stop_token& stop);

  kube::Client& client_;
  kube::LeaderLease lease_;
  const std::chrono::milliseconds interval_;
  std::atomic<MonotonicNs> valid_until_{0};
  std::jthread thread_;
};

}  // namespace ballast::cluster
