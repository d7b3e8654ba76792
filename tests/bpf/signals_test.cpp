// SPDX-License-Identifier: Apache-2.0
// Connections and CPU by cgroup.
#include <gtest/gtest.h>
#include <sched.h>

#include <algorithm>
#include <chrono>
#include <initializer_list>
#include <string>
#include <utility>
#include <vector>

#include "agent/sample/map_fill.h"
#include "live.h"

namespace ballast::testing {
namespace {

class Signals : public LiveTest {
 protected:
  ballast_cpu_value cpu() const {
    const auto rows = maps_->cpu();
    if (!rows) {
      ADD_FAILURE() << rows.error().message;
      return {};
    }
    for (const auto& [id, value] : *rows) {
      if (id == cgroup_->id()) {
        return value;
      }
    }
    return {};
  }
  ChildProcess burner(const std::filesystem::path& cgroup, int cpu_number) const {
    ProcessOptions options;
    options.argv = {"/bin/sh", "-c", "while :; do :; done"};
    options.cgroups = {cgroup};
    options.cpus = {cpu_number};
    auto child = ChildProcess::spawn(options);
    EXPECT_TRUE(child.ok());
    return child.ok() ? std::move(*child) : ChildProcess();
  }
};

TEST_F(Signals, ConnectionsOpenAndClose) {
  start_server();
  const auto before = connections();
  {
    const Client one(port_);
    const Client two(port_);
    EXPECT_TRUE(eventually([&] { return connections().accepted == before.accepted + 2; }));
    EXPECT_TRUE(eventually([&] { return connections().open == 2; }));
  }
  EXPECT_TRUE(eventually([&] { return connections().open == 0; }));
  EXPECT_EQ(connections().closed, connections().accepted);
}

TEST_F(Signals, CpuTimeOfAServer) {
  start_server();
  const auto before = cpu();
  const Client client(port_);
  // One more than the bound asks for: the server burns by its own clock, which differs by some 0.3 %.
  for (int i = 0; i < 6; ++i) {
    client.send("GET /burn HTTP/1.1\r\n\r\n");
    ASSERT_NE(client.receive_until("hello"), "");
  }
  EXPECT_TRUE(eventually([&] { return cpu().on_cpu_ns - before.on_cpu_ns >= 100'000'000U; }))
      << "six times 20 ms were computed, not " << cpu().on_cpu_ns - before.on_cpu_ns << " ns";
  EXPECT_GT(cpu().switches, before.switches);
}

// Two of one cgroup on one CPU wait for each other; two cgroups wait for somebody else.
TEST_F(Signals, WaitingBehindItselfIsToldFromWaitingForOthers) {
  cpu_set_t mine;
  CPU_ZERO(&mine);
  ASSERT_EQ(::sched_getaffinity(0, sizeof mine, &mine), 0);
  int cpu_number = 0;
  while (!CPU_ISSET(static_cast<std::size_t>(cpu_number), &mine)) {
    ++cpu_number;
  }
  auto one = burner(cgroup_->path(), cpu_number);
  auto two = burner(cgroup_->path(), cpu_number);
  // From when both run: the first one was alone for as long as the second one took to start.
  EXPECT_TRUE(eventually([&] { return cpu().self_wait_ns >= 20'000'000U; }));
  const auto start = cpu();
  EXPECT_TRUE(eventually([&] { return cpu().wait_ns - start.wait_ns >= 200'000'000U; }));
  const auto together = cpu();
  // However busy the machine: while one of the twins runs, the other one waits behind it.
  EXPECT_GT(together.self_wait_ns - start.self_wait_ns, (together.on_cpu_ns - start.on_cpu_ns) / 2);
  EXPECT_LE(together.self_wait_ns, together.wait_ns);
  one.stop(std::chrono::milliseconds(0));
  two.stop(std::chrono::milliseconds(0));

  const TestCgroup other(probes_->cgroup_root(), "ballast-test-other-" + std::to_string(::getpid()));
  const auto before = cpu();
  {
    auto ours = burner(cgroup_->path(), cpu_number);
    auto theirs = burner(other.path(), cpu_number);
    EXPECT_TRUE(eventually([&] { return cpu().wait_ns - before.wait_ns >= 200'000'000U; }));
  }
  const auto apart = cpu();
  EXPECT_LT(apart.self_wait_ns - before.self_wait_ns, (apart.on_cpu_ns - before.on_cpu_ns) / 10);
}

TEST_F(Signals, AfUnixIsAKnownGap) {
  for (const Feature& each : probes_->features()) {
    if (each.name == "AF_UNIX connections" && !each.available) {
      GTEST_SKIP() << each.fallback;
    }
  }
  // Not an interpreter's connections: its start may make others, for example to look up its user.
  start_server();
  const Client client(port_);
  client.send("GET /unix HTTP/1.1\r\n\r\n");
  const std::string answered = client.receive_until("hello");
  EXPECT_TRUE(answered.starts_with("HTTP/1.1 200"))
      << "the connections themselves are untouched: " << answered;
  const auto rows = maps_->coverage();
  ASSERT_TRUE(rows.ok());
  std::uint64_t seen = 0;
  for (const auto& each : *rows) {
    if (each.key.cgroup_id == cgroup_->id() && each.key.kind == BALLAST_COVERAGE_UNIX) {
      seen += each.value.events;
    }
  }
  EXPECT_EQ(seen, 3U);
}

TEST_F(Signals, EveryMapTellsHowFullItIs) {
  start_server();
  const Client client(port_);
  client.send("GET /plain HTTP/1.1\r\n\r\n");
  ASSERT_NE(client.receive_until("hello"), "");
  const auto fills = sample::map_fills(bpffs_);
  for (const auto& [name, bound] : std::initializer_list<std::pair<std::string, std::uint64_t>>{
           {BALLAST_MAP_REQUESTS, BALLAST_MAX_REQUEST_KEYS},
           {BALLAST_MAP_CONNECTIONS, BALLAST_MAX_CGROUPS},
           {BALLAST_MAP_CALLS, BALLAST_MAX_CALLS},
           {BALLAST_MAP_TASKS, BALLAST_MAX_TASKS}}) {
    const auto fill = std::ranges::find(fills, name, &sample::MapFill::name);
    ASSERT_NE(fill, fills.end()) << name;
    EXPECT_GE(fill->entries, 1U) << name;
    EXPECT_EQ(fill->max_entries, bound) << name;
  }
  for (const sample::MapFill& fill : fills) {
    EXPECT_FALSE(fill.name.ends_with("_link")) << fill.name << " is no map";
  }
}

}  // namespace
}  // namespace ballast::testing
