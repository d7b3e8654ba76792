// SPDX-License-Identifier: Apache-2.0
//
// What the agent's loop gives a sink, to the last unit: one node alone, then two nodes in a fleet, with the
// shipped parameters.
#include "agent/loop/loop.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <deque>

#include "agent/fleet/remote.h"
#include "golden.h"
#include "model/sync/fleet/fleet_registry.h"

namespace ballast::golden {
namespace {

constexpr MonotonicNs kTick = 250'000'000;
constexpr std::size_t kPods = 6;

struct FixedIdentity final : identity::IdentitySource {
  explicit FixedIdentity(const std::vector<identity::Pod>& given) : pods_(given) {}
  const std::vector<identity::Pod>& pods() override { return pods_; }
  const std::vector<identity::Pod>& pods_;
};

struct WritingSink final : actuate::WeightSink {
  WritingSink(std::string& to, std::size_t node) : out(to), prefix(node) {}
  std::string name() const override { return "golden"; }
  Status publish(const guard::GuardedWeights& weights) override {
    out += fmt::format("node {} {}/{}", prefix, weights.service().ns, weights.service().name);
    for (const guard::WeightedEndpoint& e : weights.endpoints()) {
      out += fmt::format(" {}@{}:{}={}/{:x}", e.id.pod, e.address, e.port, e.weight, e.reasons);
    }
    out += " " + weights.why() + "\n";
    return ok();
  }
  Status withdraw(const spec::ServiceId& service) override {
    out += fmt::format("node {} withdraws {}/{}\n", prefix, service.ns, service.name);
    return ok();
  }
  std::size_t subscribers() const override { return 3; }
  double acknowledgement_delay_s() const override { return 0.12; }
  std::string& out;
  std::size_t prefix;
};

class DirectExchange final : public fleet::Exchange {
 public:
  DirectExchange(fleet::FleetRegistry& to, std::string name) : registry_(to), node_(std::move(name)) {}
  void offer(fleet::NodeReport report) override {
    report.node = node_;
    report.session = 1;
    report.sequence = ++sequence_;
    const bool whole = report.whole;
    const MonotonicNs now = report.sent;
    if (registry_.report(std::move(report), now) == fleet::ReportVerdict::kAccepted) {
      view_ = std::make_shared<const fleet::FleetView>(registry_.view(node_, whole, now));
    }
  }
  std::shared_ptr<const fleet::FleetView> latest() const override { return view_; }

 private:
  fleet::FleetRegistry& registry_;
  std::string node_;
  std::uint64_t sequence_ = 0;
  std::shared_ptr<const fleet::FleetView> view_;
};

std::vector<identity::Pod> pods_of_node(std::size_t node, std::size_t nodes) {
  std::vector<identity::Pod> pods;
  for (std::size_t i = 0; i < kPods; ++i) {
    const bool local = i % nodes == node;
    pods.push_back({.cgroup_id = local ? 10 + i : 0,
                    .cgroup = "/lab/web-" + std::to_string(i),
                    .pod = "web-" + std::to_string(i),
                    .ns = "shop",
                    .service = i < 4 ? "web" : "cart",
                    .address = "127.1.0." + std::to_string(10 + i),
                    .port = 8080});
    pods.back().local = local;
  }
  return pods;
}

/// A tick of a node: quotas that differ and move, answers at 60 to 80 % of what they carry, now and then
/// none.
sample::Sample sample_of(const std::vector<identity::Pod>& pods, std::size_t tick, MonotonicNs now) {
  sample::Sample sample;
  sample.taken = now;
  sample.interval_ns = kTick;
  for (std::size_t i = 0; i < pods.size(); ++i) {
    if (pods[i].cgroup_id == 0 || (i == 1 && tick > 150 && tick < 165)) {
      continue;
    }
    sample::CgroupSample c;
    c.id = pods[i].cgroup_id;
    c.cpu_limit_cores = 0.1 * static_cast<double>(1 + i % 4) * (i == 2 && tick > 100 ? 0.5 : 1);
    c.responses = c.requests =
        static_cast<std::uint64_t>(c.cpu_limit_cores * static_cast<double>(75 + 5 * ((tick / 9 + i) % 5)));
    c.errors = i == 3 && tick % 40 < 6 ? c.responses / 3 : 0;
    c.in_flight = static_cast<std::int64_t>((tick + i) % 5);
    c.on_cpu_ns = c.responses * 2'000'000;
    c.wait_ns = c.responses * 150'000 * (i % 3);
    c.first_byte.count = c.responses;
    c.first_byte.sum_ns = c.responses * (3'000'000 + 500'000 * i) + tick;
    c.first_byte.buckets[ballast_hist_bucket(3'000'000 + 500'000 * i)] = c.responses;
    c.last_byte = c.first_byte;
    sample.cgroups.push_back(c);
  }
  return sample;
}

std::string weights_of(std::size_t nodes) {
  std::string out;
  fleet::FleetRegistry registry;
  std::deque<std::vector<identity::Pod>> pods;
  std::deque<loop::Loop> loops;
  for (std::size_t n = 0; n < nodes; ++n) {
    pods.push_back(pods_of_node(n, nodes));
    loop::LoopOptions options;
    options.mode = options.guard.mode = guard::Mode::kActive;
    options.observer.machine_cores = 4;
    loop::LoopDoors doors;
    doors.identity = std::make_unique<FixedIdentity>(pods[n]);
    doors.sink = std::make_unique<WritingSink>(out, n);
    if (nodes > 1) {
      doors.fleet = std::make_unique<fleet::RemoteFleet>(
          fleet::RemoteOptions{.adopt_members = true},
          std::make_unique<DirectExchange>(registry, "node-" + std::to_string(n)));
    }
    loops.emplace_back(options, *loop::ActingPolicy::create(loop::PolicyKind::kLearned, {}, std::nullopt),
                       std::move(doors));
  }
  MonotonicNs now = 1'000'000'000;
  for (std::size_t tick = 0; tick < 240; ++tick) {
    now += kTick;
    for (std::size_t n = 0; n < nodes; ++n) {
      if (tick == 200) {
        std::erase_if(pods[n], [](const identity::Pod& pod) { return pod.service == "cart"; });
      }
      loops[n].tick(sample_of(pods[n], tick, now));
    }
  }
  for (loop::Loop& loop : loops) {
    loop.release();
  }
  return out;
}

TEST(Golden, OneNodesLoopGivesTheSameWeights) {
  compare("loop_alone", weights_of(1));
}

TEST(Golden, TwoNodesLoopsGiveTheSameWeights) {
  compare("loop_fleet", weights_of(2));
}

}  // namespace
}  // namespace ballast::golden
