// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "model/sim/random.h"

namespace ballast::sim {

/// An endpoint as the proxies know it (EDS).
struct Endpoint {
  std::uint32_t server = 0;
  double weight = 1;           ///< load_balancing_weight in force
  double operator_weight = 1;  ///< what a diligent operator would set by hand: true capacity
  double joined_s = 0;         ///< 0: was there at the start
};

/// Load report of a server (ORCA), over the last second.
struct LoadReport {
  double qps = 0;
  double eps = 0;
  double utilization = 0;  ///< cpu_utilization: on-CPU / limit, as a cgroup counts it
  double application = 0;  ///< application_utilization: workers busy / workers
};

/// What a probe brings back (Prequal).
struct ProbeReply {
  double rif = 0;
  double latency_s = 0;
};

/// The servers as they are. Only oracles, probes and reports may look; a proxy cannot.
class World {
 public:
  virtual ~World() = default;
  virtual double capacity(std::uint32_t server) const = 0;   ///< work a second, now
  virtual double in_flight(std::uint32_t server) const = 0;  ///< of all clients
  virtual ProbeReply probe(std::uint32_t server) const = 0;
  virtual LoadReport report(std::uint32_t server) const = 0;
};

/// What one proxy has of its own.
struct ClientView {
  std::uint32_t client = 0;
  std::uint32_t clients = 1;
  std::span<const std::uint32_t> active;  ///< its requests in flight, by server
  const double* now = nullptr;            ///< the clock
  const World* world = nullptr;
  std::uint64_t seed = 0;
};

/// The request's keys, for the hashing policies. Hashes, uniform over 64 bits.
struct Keys {
  std::uint64_t source = 0;
  std::uint64_t destination = 0;
};

struct Response {
  std::uint32_t server = 0;
  double sent_s = 0;
  double latency_s = 0;  ///< at the client
  bool ok = true;
  bool timed_out = false;
  double queue = 0;      ///< C3's piggyback: requests left at the server
  double service_s = 0;  ///< C3's piggyback: time on the processor; 0 when there was no answer
};

/// One proxy's load balancer.
class Balancer {
 public:
  virtual ~Balancer() = default;
  /// New membership or weights. Called before the first pick.
  virtual void set_endpoints(const std::vector<Endpoint>& endpoints) = 0;
  /// The server for the next request. REQUIRES at least one endpoint.
  virtual std::uint32_t pick(const Keys& keys) = 0;
  /// The picked request is out; `active` counts it already.
  virtual void on_sent(std::uint32_t server) { static_cast<void>(server); }
  /// Answered, failed or given up; `active` does not count it any more.
  virtual void on_response(const Response& response) { static_cast<void>(response); }
  /// Seconds between calls of on_tick; 0: none.
  virtual double period_s() const { return 0; }
  virtual void on_tick() {}
  /// How often weights that the balancer made itself have changed.
  virtual std::uint64_t weight_changes() const { return 0; }
};

using Balancers = std::vector<std::unique_ptr<Balancer>>;
/// Makes one balancer for each client.
using MakeBalancers = std::function<Balancers(std::span<const ClientView> clients)>;

}  // namespace ballast::sim
