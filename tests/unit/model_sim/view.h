// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "model/sim/balancer.h"

namespace ballast::sim {

/// A world written down by hand.
struct HandWorld final : World {
  std::vector<double> capacities;
  std::vector<double> flights;
  std::vector<ProbeReply> probes;
  std::vector<LoadReport> reports;
  double capacity(std::uint32_t server) const override { return capacities[server]; }
  double in_flight(std::uint32_t server) const override { return flights[server]; }
  ProbeReply probe(std::uint32_t server) const override { return probes[server]; }
  LoadReport report(std::uint32_t server) const override { return reports[server]; }
};

/// One proxy's surroundings: its requests in flight and the clock, set by the test.
struct Proxy {
  std::vector<std::uint32_t> active;
  double now = 0;
  HandWorld world;
  std::uint32_t clients = 1;

  explicit Proxy(std::size_t servers) : active(servers, 0) {}
  ClientView view(std::uint64_t seed = 1) const {
    ClientView v;
    v.clients = clients;
    v.active = active;
    v.now = &now;
    v.world = &world;
    v.seed = seed;
    return v;
  }
};

inline std::vector<Endpoint> endpoints(const std::vector<double>& weights) {
  std::vector<Endpoint> list;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    list.push_back({static_cast<std::uint32_t>(i), weights[i], weights[i], 0});
  }
  return list;
}

/// Shares of the picks, by server.
inline std::vector<double> shares(Balancer& balancer, std::size_t servers, int picks) {
  std::vector<double> counts(servers, 0);
  for (int i = 0; i < picks; ++i) {
    counts[balancer.pick({})] += 1.0 / picks;
  }
  return counts;
}

}  // namespace ballast::sim
