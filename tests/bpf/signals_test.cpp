// SPDX-License-Identifier: Apache-2.0
// Connections and CPU by cgroup.
#include <gtest/gtest.h>
#include <sched.h>

#include <string>
#include <vector>

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
  EXPECT_TRUE(eventually([&] { return cpu().wait_ns >= 200'000'000U; }));
  const auto together = cpu();
  // However busy the machine: while one of the twins runs, the other one waits behind it.
  EXPECT_GT(together.self_wait_ns, together.on_cpu_ns / 2);
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

}  // namespace
}  // namespace ballast::testing
