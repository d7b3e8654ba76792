// SPDX-License-Identifier: Apache-2.0
//
// What pushes cost: the CPU of an Envoy that takes them, and of the turn that makes them (rule, guard, EDS),
// by the number of endpoints and of pushes a second. No request is sent and no kernel is sampled: of a node's
// cost only what a push adds. Ratios in one run, since milliseconds are of one machine:
//
//   build/release/bin/bench/bench_pushes [SECONDS] [ENDPOINTS ...]
#include <fmt/format.h>
#include <sys/resource.h>

#include <charconv>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <random>
#include <thread>

#include "agent/actuate/xds.h"
#include "agent/decide/queue_rule.h"
#include "agent/fleet/local.h"
#include "agent/turn/turn.h"
#include "core/base/file.h"
#include "core/base/listen_address.h"
#include "tools/lab/envoy.h"

namespace ballast {
namespace {

constexpr double kTickS = 0.05;

double own_cpu_s() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

/// On-CPU time of all threads of a process, from /proc/PID/task/TID/schedstat.
double cpu_s(int pid) {
  double sum = 0;
  for (const auto& task : std::filesystem::directory_iterator(fmt::format("/proc/{}/task", pid))) {
    std::ifstream file(task.path() / "schedstat");
    double ns = 0;
    file >> ns;
    sum += ns * 1e-9;
  }
  return sum;
}

/// A node whose pods' queues and speeds are drawn anew in every tick, so that every turn has weights to push.
class Node {
 public:
  explicit Node(std::size_t endpoints) {
    for (std::size_t i = 0; i < endpoints; ++i) {
      spec::EndpointTelemetry pod;
      pod.id = {{"shop", "web"}, fmt::format("web-{:04}", i)};
      pod.address = fmt::format("127.2.{}.{}", i / 250, 1 + i % 250);
      pod.port = 8080;
      pod.known = true;
      pod.cpu_limit_cores = pod.usable_cores = pod.cpu_evidence = 1;
      pod.qps = 50;
      pods_.push_back(pod);
    }
  }

  turn::Decision decide() {
    loop_.now += static_cast<MonotonicNs>(kTickS * 1e9);
    for (auto& pod : pods_) {
      pod.taken = loop_.now;
      pod.capacity_qps = 100 * std::exp(std::uniform_real_distribution<>(-1, 1)(random_));
      pod.in_flight = std::floor(std::uniform_real_distribution<>(0, 10)(random_));
    }
    auto decisions = turn_.decide(fleet_.exchange(turn_.report(pods_, loop_)), loop_, rule_);
    return std::move(decisions.front());
  }

 private:
  std::vector<spec::EndpointTelemetry> pods_;
  std::mt19937_64 random_{1};
  spec::LoopTiming loop_{.now = 1'000'000'000, .tick_s = kTickS, .loop_delay_s = 0.063, .subscribers = 1};
  decide::QueueRule rule_;
  fleet::LocalFleet fleet_;
  turn::Turn turn_{guard::GuardOptions{}};
};

struct Cost {
  double envoy = 0;  ///< CPU seconds a second
  double own = 0;
};

Cost measure(Node& node, actuate::XdsSink& sink, int envoy, double pushes_a_second, double seconds) {
  const double envoy_before = cpu_s(envoy);
  const double own_before = own_cpu_s();
  const auto begun = std::chrono::steady_clock::now();
  const auto pushes = static_cast<int>(seconds * pushes_a_second);
  for (int i = 1; i <= pushes; ++i) {
    const auto decision = node.decide();
    static_cast<void>(sink.publish(decision.weights));
    std::this_thread::sleep_until(begun + std::chrono::duration<double>(i / pushes_a_second));
  }
  std::this_thread::sleep_until(begun + std::chrono::duration<double>(seconds));
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - begun;
  return {(cpu_s(envoy) - envoy_before) / took.count(), (own_cpu_s() - own_before) / took.count()};
}

Status run(double seconds, const std::vector<std::size_t>& sizes) {
  const auto binary = lab::find_envoy();
  if (!binary) {
    return binary.error();
  }
  auto folder = TempDir::create("/tmp", "ballast-pushes-");
  if (!folder) {
    return folder.error();
  }
  fmt::print("endpoints  pushes/s  envoy ms/s  ours ms/s  envoy ms/push  ours ms/push\n");
  for (const std::size_t endpoints : sizes) {
    auto sink = actuate::XdsSink::listen({.address = "127.0.0.1:0"});
    if (!sink) {
      return sink.error();
    }
    Node node(endpoints);
    if (Status first = (*sink)->publish(node.decide().weights); !first) {
      return first;
    }
    const auto at = parse_listen_address((*sink)->address(), false);
    lab::EnvoyOptions options;
    options.binary = *binary;
    options.folder = folder->path();
    options.listener = {"127.2.254.1", 18080};
    options.admin = {"127.2.254.1", 18081};
    options.lb_policy = "LEAST_REQUEST";
    options.eds_service = "shop/web";
    options.eds_server = {at->host, at->port};
    auto envoy = lab::Envoy::start(options);
    if (!envoy) {
      return envoy.error();
    }
    if (Status ready = envoy->wait_ready(endpoints, 30'000); !ready) {
      return ready;
    }
    Cost idle;
    for (const double rate : {0.0, 1.0, 20.0}) {
      const Cost cost = measure(node, **sink, envoy->process().pid(), rate, seconds);
      idle = rate == 0 ? cost : idle;
      fmt::print("{:9}  {:8}  {:10.2f}  {:9.2f}  {:13.3f}  {:12.3f}\n", endpoints, rate, 1e3 * cost.envoy,
                 1e3 * cost.own, rate > 0 ? 1e3 * (cost.envoy - idle.envoy) / rate : 0,
                 rate > 0 ? 1e3 * (cost.own - idle.own) / rate : 0);
      std::fflush(stdout);
    }
    envoy->stop();
  }
  return ok();
}

}  // namespace
}  // namespace ballast

int main(int argc, char** argv) {
  double seconds = 10;
  std::vector<std::size_t> sizes;
  for (int i = 1; i < argc; ++i) {
    const std::string_view word(argv[i]);
    std::size_t number = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), number);
    if (error != std::errc() || end != word.data() + word.size() || number == 0) {
      fmt::print(stderr, "usage: bench_pushes [SECONDS] [ENDPOINTS ...]\n");
      return 2;
    }
    i == 1 ? static_cast<void>(seconds = static_cast<double>(number)) : sizes.push_back(number);
  }
  const ballast::Status done =
      ballast::run(seconds, sizes.empty() ? std::vector<std::size_t>{10, 100, 1000} : sizes);
  if (!done) {
    fmt::print(stderr, "bench_pushes: {}\n", done.error().message);
    return 1;
  }
  return 0;
}
