// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/identity/identity.h"
#include "agent/observe/callers.h"
#include "agent/sample/sample.h"
#include "core/base/options.h"
#include "core/spec/telemetry.h"

namespace ballast::observe {

struct ObserverOptions {
  /// The longer window: rates, quantiles and CPU per request are taken over it.
  double window_s = 5.0;
  /// An endpoint's CPU per request is shrunk towards its service's as if the service had given it
  /// this many requests (empirical Bayes: variance of one request's CPU over the variance of the
  /// mean between pods; pods of a service run the same code, so CV 1 within and 10 % between
  /// gives 1 / .1^2 = 100). With n requests the noise left is CV * sqrt(n) / (n + n0), at most
  /// CV / (2 * sqrt(n0)): 5 % at CV 1, whatever the traffic, so noise never becomes weights. A
  /// pod at 60 requests/s that really costs twice as much still shows 1.75.
  double shrink_requests = 100;
  /// With fewer requests than this in the window an endpoint has the service's CPU per request,
  /// and a service the one that it had before.
  double min_requests = 20;
  /// An endpoint's success is a mean over about this many of its last requests.
  double success_requests = 50;
  /// Running and waiting together less than this in a tick: too little to tell a speed by.
  double min_speed_evidence_ns = 1e6;
  double machine_cores = 0;  ///< an endpoint's limit is never greater; 0: the CPUs online
  /// Containers that are the mesh and not the application.
  std::vector<std::string> sidecars = {"istio-proxy"};
  bool operator==(const ObserverOptions&) const = default;

  void declare(options::Schema& s) {
    s.section("");
    s.number("window_s", window_s, 1, 3600, "s", "the longer window of every measured quantity");
  }
};

/// Samples of a cgroup's tick that cannot be, and were not believed.
struct Disbelief {
  std::uint64_t cpu = 0;        ///< more CPU time than the machine has; the whole tick is left out
  std::uint64_t answers = 0;    ///< answers to requests that never came; so is it
  std::uint64_t in_flight = 0;  ///< fewer than no requests in flight; counts as none
  std::string last;             ///< of the newest tick, for people; empty: all of it could be
};

/// Joins what the kernel measured by cgroup with who the cgroups are, and keeps the longer window
/// of every endpoint on this node.
///
/// An endpoint is a pod of a service. Of its containers the ones that answered requests since
/// they started count (all but the sidecars until one has): a log shipper's or a proxy's quota
/// says nothing about what the application can carry. Memory is the whole pod's.
///
/// Capacity is not qps / utilisation as read in one window, but the same quotient rearranged to
/// `limit * speed / (CPU per request)`: limit and speed are known at once and follow a changed quota
/// within a tick, CPU per request is a property of the code and is averaged over the longer window
/// and, shrunk, over the service.
///
/// An error costs little CPU, so by CPU alone a pod that fails at once would look the strongest of
/// all. Hence two things: the CPU per request is that of the requests that went well, and capacity
/// is cut by `success`, what goes well of an endpoint's last requests beside its service's mean
/// (gRFC A58's error penalty, made relative: errors that all pods give are no reason to prefer one).
/// Requests that come in while none goes out for a whole window count as failed.
///
/// A tick that equals the one before to the last nanosecond is no news but a stuck source: `taken`
/// stands still, and the guard sees the endpoint age.
///
/// Not thread-safe. Total: any sample gives finite telemetry.
class Observer {
 public:
  explicit Observer(ObserverOptions options = {});
  ~Observer();
  Observer(Observer&&) noexcept;
  Observer& operator=(Observer&&) noexcept;

  /// Called once a tick; the reference stays good until the next call. One entry for every
  /// (service, pod), ordered by id. `known` is false for an endpoint that is not on this node,
  /// whose cgroup has gone, that was not sampled since it came, or of whose service's CPU per
  /// request nothing is known yet. One whose CPU limit was never readable has no capacity (0), but all the
  /// rest. An endpoint that is missing from one sample keeps its
  /// telemetry with the `taken` that it had. A new cgroup id starts the window anew.
  const std::vector<spec::EndpointTelemetry>& endpoints(const sample::Sample& sample,
                                                        const std::vector<identity::Pod>& pods);
  const Disbelief& disbelief() const { return disbelief_; }

 private:
  struct Endpoint;
  struct ServiceDemand;
  void plan(const std::vector<identity::Pod>& pods);
  void pool_demand();
  void see(const sample::Sample& sample);

  ObserverOptions options_;
  std::vector<identity::Pod> planned_;  ///< the pods that endpoints_ were made from
  std::map<spec::EndpointId, std::unique_ptr<Endpoint>> endpoints_;
  std::map<spec::ServiceId, ServiceDemand> demand_;
  std::vector<const sample::CgroupSample*> by_id_;  ///< this sample's, ordered by id
  std::vector<spec::EndpointTelemetry> telemetry_;
  Disbelief disbelief_;
  Callers callers_;
  MonotonicNs seen_ = 0;  ///< when callers were looked at
};

}  // namespace ballast::observe
