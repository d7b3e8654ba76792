// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>
#include <cmath>

#include "model/sim/random.h"
#include "model/sim/scenario.h"

namespace ballast::sim {
namespace {

enum class Limit { kCpu, kThread, kPool, kOutside };

template <std::size_t N>
double one_of(Rng& rng, const std::array<double, N>& values) {
  return values[rng.below(N)];
}

void make_servers(Rng& rng, Limit limit, Scenario& world) {
  const std::size_t pods = 3 + rng.below(10);
  const bool unequal = rng.uniform() < 0.7;
  const bool limits_lie = rng.uniform() < 0.5;
  for (std::size_t i = 0; i < pods; ++i) {
    ServerSpec server;
    if (limit == Limit::kCpu || limit == Limit::kThread) {
      server.speed = unequal ? one_of<5>(rng, {1, 0.75, 0.5, 0.35, 0.25}) : 1;
    } else if (limit == Limit::kPool) {
      server.workers = static_cast<std::uint32_t>(unequal ? one_of<4>(rng, {2, 4, 8, 16}) : 8);
    } else {
      server.workers = 8;
      server.wait_factor = unequal ? one_of<4>(rng, {1, 1, 2, 4}) : 1;
    }
    if (limit != Limit::kCpu) {
      server.limit = limits_lie ? server.capacity() * one_of<4>(rng, {1, 1, 2, 4}) : 0;
    }
    world.servers.push_back(server);
  }
}

void make_slowness(Rng& rng, Limit limit, Scenario& world) {
  const double dice = rng.uniform();
  const std::size_t pods = world.servers.size();
  Slowness slow;
  slow.factor = 0.2 + 0.4 * rng.uniform();
  slow.shows = limit == Limit::kOutside || limit == Limit::kPool ? Slowness::Shows::kIo
               : rng.uniform() < 0.7                             ? Slowness::Shows::kWait
                                                                 : Slowness::Shows::kWork;
  if (dice < 0.4) {
    return;
  }
  if (dice < 0.6) {
    slow.kind = Slowness::Kind::kRotate;
    slow.count = 1 + rng.below(static_cast<std::uint32_t>(std::max<std::size_t>(1, pods / 3)));
    slow.every_s = std::exp(std::log(2.0) + rng.uniform() * std::log(30.0));
  } else {
    slow.kind = dice < 0.85 ? Slowness::Kind::kPeriodic : Slowness::Kind::kPause;
    slow.every_s = std::exp(std::log(5.0) + rng.uniform() * std::log(12.0));
    slow.duration_s = slow.every_s * (0.05 + 0.2 * rng.uniform());
    if (slow.kind == Slowness::Kind::kPeriodic && rng.uniform() < 0.7) {
      slow.stagger_s = slow.every_s / static_cast<double>(pods);
    } else if (slow.kind == Slowness::Kind::kPeriodic) {
      for (std::uint32_t i = 0; i < pods; i += 2) {
        slow.servers.push_back(i);
      }
    }
  }
  world.slowness.push_back(slow);
}

}  // namespace

Scenario random_world(std::uint64_t seed) {
  Rng rng(seed, Cause::kSlowness, 0x0B0B);
  Scenario world;
  world.name = "random:" + std::to_string(seed);
  world.title = "a world drawn at random, of every kind";
  world.clients = static_cast<std::uint32_t>(one_of<4>(rng, {1, 5, 20, 100}));
  const double dice = rng.uniform();
  const Limit limit = dice < 0.5    ? Limit::kCpu
                      : dice < 0.65 ? Limit::kThread
                      : dice < 0.85 ? Limit::kPool
                                    : Limit::kOutside;
  const double mean = 0.005 + 0.015 * rng.uniform();
  world.service.cv = 0.5 + 1.5 * rng.uniform();
  if (limit == Limit::kCpu && rng.uniform() < 0.15) {
    world.service.kind = LawSpec::Kind::kPareto;
    world.service.shape = 1.8 + 0.7 * rng.uniform();
  }
  if (limit == Limit::kCpu || limit == Limit::kThread) {
    world.service.mean_s = mean;
  } else {
    const double share = 0.03 + 0.2 * rng.uniform();
    world.service.mean_s = mean * share;
    world.wait = {.mean_s = mean * (1 - share), .cv = 0.5 + rng.uniform()};
  }
  world.discipline = limit == Limit::kCpu ? Discipline::kProcessorSharing : Discipline::kFifo;
  make_servers(rng, limit, world);
  world.arrivals.rho = 0.35 + 0.5 * rng.uniform();
  make_slowness(rng, limit, world);
  if (!world.slowness.empty()) {
    world.arrivals.rho = std::min(world.arrivals.rho, 0.75);
  }
  if (rng.uniform() < 0.25) {
    const double swing = 0.2 + 0.3 * rng.uniform();
    const double period = 4 + 16 * rng.uniform();
    world.arrivals.mmpp = {{1 - swing, period}, {1 + swing, period}};
    world.arrivals.rho = std::min(world.arrivals.rho, 0.65);
    world.deadline_s = 2;
  }
  world.warmup_s = 15;
  world.duration_s = 15 + std::min(120.0, 50'000 / base_rate(world));
  return world;
}

}  // namespace ballast::sim
