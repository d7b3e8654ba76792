// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/speed_command.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <cmath>
#include <iostream>

#include "model/sim/simulation.h"
#include "model/sim/technique.h"

namespace ballast::bench {
namespace {

double cpu_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

sim::Scenario equal_servers(std::uint32_t servers, std::uint64_t requests) {
  sim::Scenario scenario;
  scenario.name = "speed";
  scenario.servers.assign(servers, sim::ServerSpec{});
  scenario.service.kind = sim::LawSpec::Kind::kExponential;
  scenario.service.mean_s = 0.01;
  scenario.arrivals.rho = 0.8;
  scenario.requests = requests;
  return scenario;
}

}  // namespace

Result<std::vector<SpeedRow>> measure_speed(const SpeedOptions& options) {
  std::vector<SpeedRow> rows;
  for (const auto& name : options.policies) {
    const auto policy = sim::find_technique(name);
    if (!policy) {
      return policy.error();
    }
    for (const std::uint32_t servers : options.servers) {
      if (servers == 0) {
        return Error::usage("--servers: has to be at least 1");
      }
      std::vector<double> speeds;
      for (int run = 1; run <= std::max(options.runs, 1); ++run) {
        const double begin = cpu_seconds();
        sim::Simulation simulation(equal_servers(servers, options.requests), **policy,
                                   static_cast<std::uint64_t>(run));
        const auto done = static_cast<double>(simulation.run().requests);
        speeds.push_back(done / std::max(cpu_seconds() - begin, 1e-9));
      }
      std::sort(speeds.begin(), speeds.end());
      rows.push_back({name, servers, options.requests, speeds[speeds.size() / 2]});
    }
  }
  return rows;
}

Status run_speed(const SpeedOptions& options) {
  const auto rows = measure_speed(options);
  if (!rows) {
    return rows.error();
  }
  std::cout << "policy                     servers  requests/s    ns/request   cost beside the first   log n "
               "allows\n";
  const SpeedRow* first = nullptr;
  for (const auto& row : *rows) {
    if (first == nullptr || first->policy != row.policy) {
      first = &row;
    }
    const double cost = first->requests_per_s / row.requests_per_s;
    const double allowed = std::log2(row.servers + 1.0) / std::log2(first->servers + 1.0);
    std::cout << fmt::format("{:<26} {:>7}  {:>10.0f}  {:>12.0f}  {:>22.2f}  {:>13.2f}\n", row.policy,
                             row.servers, row.requests_per_s, 1e9 / row.requests_per_s, cost, allowed);
  }
  return ok();
}

}  // namespace ballast::bench
