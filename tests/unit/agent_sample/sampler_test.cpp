// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/sampler.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/base/file.h"

namespace ballast::sample {
namespace {

constexpr MonotonicNs kTick = 250'000'000;

class SamplerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto folder = TempDir::create("/tmp", "ballast-sampler-");
    ASSERT_TRUE(folder.ok());
    folder_.emplace(std::move(*folder));
    roots_.v2 = folder_->path();
    roots_.online_cpus = 4;
    totals_.taken = 10 * kTick;
    sampler_.emplace([this] { return Result<Totals>(totals_); }, roots_);
  }
  RequestRow& row(CgroupId id, ballast_role role = BALLAST_ROLE_SERVER,
                  ballast_protocol protocol = BALLAST_PROTOCOL_HTTP1) {
    for (auto& each : totals_.requests) {
      if (each.key.cgroup_id == id && each.key.role == role && each.key.protocol == protocol) {
        return each;
      }
    }
    RequestRow fresh;
    fresh.key.cgroup_id = id;
    fresh.key.role = role;
    fresh.key.protocol = protocol;
    totals_.requests.push_back(fresh);
    return totals_.requests.back();
  }
  void answer(RequestRow& to, std::uint64_t count, std::uint64_t ns) {
    to.value.requests += count;
    to.value.responses += count;
    to.value.status[2] += count;
    for (auto* histogram : {&to.value.first_byte, &to.value.last_byte}) {
      histogram->count += count;
      histogram->sum_ns += count * ns;
      histogram->buckets[ballast_hist_bucket(ns)] += count;
    }
  }
  Sample tick(const std::vector<CgroupRef>& wanted = {}) {
    totals_.taken += kTick;
    auto sample = sampler_->sample(wanted);
    EXPECT_TRUE(sample.ok());
    return sample.ok() ? std::move(*sample) : Sample{};
  }
  static CgroupSample of(const Sample& sample, CgroupId id) {
    for (const auto& each : sample.cgroups) {
      if (each.id == id) {
        return each;
      }
    }
    return {};
  }
  void write(const std::string& path, const std::string& text) const {
    std::filesystem::create_directories((folder_->path() / path).parent_path());
    std::ofstream(folder_->path() / path, std::ios::trunc) << text;
  }

  std::optional<TempDir> folder_;
  CgroupRoots roots_;
  Totals totals_;
  std::optional<Sampler> sampler_;
};

TEST_F(SamplerTest, TheFirstSampleHasNoDeltas) {
  answer(row(7), 100, 2'000'000);
  row(7).value.in_flight = 3;
  totals_.cpu = {{7, {5'000'000, 1'000'000, 500'000, 9}}};
  const auto first = tick();
  EXPECT_EQ(first.interval_ns, 0U);
  EXPECT_EQ(of(first, 7).id, 7U);
  EXPECT_EQ(of(first, 7).requests, 0U);
  EXPECT_EQ(of(first, 7).first_byte.count, 0U);
  EXPECT_EQ(of(first, 7).on_cpu_ns, 0U);
  EXPECT_EQ(of(first, 7).in_flight, 3) << "a gauge is known at once";
}

TEST_F(SamplerTest, DeltasOfATick) {
  answer(row(7), 100, 2'000'000);
  tick();
  answer(row(7), 40, 8'000'000);
  row(7).value.status[5] += 2;
  totals_.connections = {{7, {}}};
  totals_.connections[0].second.open = 5;
  totals_.loss[BALLAST_LOSS_GAP].bytes = 12;
  const auto second = tick();
  EXPECT_EQ(second.interval_ns, kTick);
  const auto sample = of(second, 7);
  EXPECT_EQ(sample.requests, 40U);
  EXPECT_EQ(sample.responses, 40U);
  EXPECT_EQ(sample.errors, 2U);
  EXPECT_EQ(sample.connections, 5);
  EXPECT_EQ(sample.first_byte.count, 40U);
  EXPECT_NEAR(sample.first_byte.quantile_ns(0.5), 8e6, 8e6 * 0.0625) << "the earlier hundred are not in it";
  EXPECT_EQ(second.loss[BALLAST_LOSS_GAP].bytes, 12U);
  EXPECT_EQ(of(tick(), 7).requests, 0U);
}

TEST_F(SamplerTest, ACounterThatWentBackCountsFromZero) {
  answer(row(7), 100, 2'000'000);
  totals_.cpu = {{7, {90'000'000, 80'000'000, 70'000'000, 9}}};
  tick();
  totals_.requests.clear();
  answer(row(7), 6, 3'000'000);
  totals_.cpu = {{7, {2'000'000, 1'000'000, 500'000, 1}}};
  const auto sample = of(tick(), 7);
  EXPECT_EQ(sample.requests, 6U);
  EXPECT_EQ(sample.first_byte.count, 6U);
  EXPECT_EQ(sample.first_byte.sum_ns, 18'000'000U);
  EXPECT_EQ(sample.on_cpu_ns, 2'000'000U);
  EXPECT_EQ(sample.wait_ns, 1'000'000U);
  EXPECT_EQ(sample.self_wait_ns, 500'000U);
}

TEST_F(SamplerTest, ANewCgroupCountsWholeAndAGoneOneIsForgotten) {
  answer(row(7), 1, 1'000'000);
  tick();
  answer(row(8), 4, 1'000'000);
  EXPECT_EQ(of(tick(), 8).requests, 4U);
  totals_.requests.clear();
  EXPECT_TRUE(tick().cgroups.empty());
  answer(row(8), 5, 1'000'000);
  EXPECT_EQ(of(tick(), 8).requests, 5U);
}

TEST_F(SamplerTest, ClientCallsAreNeverMixedIn) {
  tick();
  answer(row(7, BALLAST_ROLE_CLIENT), 50, 9'000'000);
  answer(row(7), 2, 1'000'000);
  const auto sample = of(tick(), 7);
  EXPECT_EQ(sample.requests, 2U);
  EXPECT_EQ(sample.first_byte.count, 2U);
}

TEST_F(SamplerTest, ProtocolsOfACgroupAddUp) {
  tick();
  answer(row(7), 2, 1'000'000);
  auto& grpc = row(7, BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_GRPC);
  answer(grpc, 3, 1'000'000);
  grpc.value.grpc_status[0] = 2;
  grpc.value.grpc_status[14] = 1;
  const auto sample = of(tick(), 7);
  EXPECT_EQ(sample.requests, 5U);
  EXPECT_EQ(sample.errors, 1U);
  EXPECT_EQ(sample.last_byte.count, 5U);
  EXPECT_EQ(sample.grpc_last_byte.count, 3U) << "gRPC's part of it";
}

// rpc.grpc.status_code of OpenTelemetry: what is a server's failure, and what its caller's.
TEST_F(SamplerTest, UnknownIsNotFailedAndSilenceIsNotSuccess) {
  tick();
  auto& grpc = row(7, BALLAST_ROLE_SERVER, BALLAST_PROTOCOL_GRPC);
  answer(grpc, 40, 1'000'000);
  for (int code = 0; code <= 17; ++code) {
    grpc.value.grpc_status[code] = 2;
  }
  auto& http = row(7);
  answer(http, 10, 1'000'000);
  http.value.status[2] -= 3;
  http.value.status[0] += 3;
  http.value.abandoned = 5;
  http.value.no_answer = 7;
  const auto sample = of(tick(), 7);
  EXPECT_EQ(sample.unanswered, 12U);
  EXPECT_EQ(sample.unknown, 5U) << "two of gRPC, three of HTTP";
  EXPECT_EQ(sample.errors, 6U * 2 + 12)
      << "UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS";
}

// The rows of two cgroups, of which one was told the other's requests first: neither runs backwards.
TEST_F(SamplerTest, RequestsThatWereAnothersMove) {
  tick();
  row(7).value.requests = 10;
  tick();
  row(7).value.moved = 10;
  row(7).value.requests -= 10;  // as PinnedMaps::requests() gives it
  row(8).value.requests = 10;
  const Sample now = tick();
  EXPECT_EQ(of(now, 7).requests, 0U);
  EXPECT_EQ(of(now, 8).requests, 10U);
}

// A pod's requests to itself are told at the first answer of their connection.
TEST_F(SamplerTest, RequestsToItselfAreNobodysWork) {
  tick();
  answer(row(7), 2, 1'000'000);
  row(7).value.moved = 3;  // which came and went within the tick
  RequestRow self;
  self.key.cgroup_id = 7;
  self.key.role = BALLAST_ROLE_SELF;
  answer(self, 50, 1'000);
  totals_.requests.push_back(self);
  const auto sample = of(tick(), 7);
  EXPECT_EQ(sample.requests, 2U);
  EXPECT_EQ(sample.responses, 2U);
  EXPECT_EQ(sample.first_byte.count, 2U);
}

TEST_F(SamplerTest, ATaskThatIsNeverSwitchedOutIsSeenRunning) {
  totals_.cpu = {{7, {1'000'000, 0, 0, 1}}};
  totals_.running = {{totals_.taken, 7, {}}, {0, 0, {}}};
  tick();
  EXPECT_EQ(of(tick(), 7).on_cpu_ns, kTick);
  EXPECT_EQ(of(tick(), 7).on_cpu_ns, kTick);
  // It is switched out: the counter takes over what was handed out already.
  const MonotonicNs ran = totals_.taken + kTick / 2 - totals_.running[0].since_ns;
  totals_.cpu[0].second.on_cpu_ns += ran;
  totals_.running[0] = {};
  EXPECT_EQ(of(tick(), 7).on_cpu_ns, kTick / 2);
}

TEST_F(SamplerTest, ATurnThatEndsBetweenTwoReadsIsNotCountedTwice) {
  totals_.cpu = {{7, {0, 0, 0, 1}}};
  totals_.running = {{totals_.taken, 7, {}}};
  tick();
  const std::uint64_t seen = of(tick(), 7).on_cpu_ns;
  totals_.running[0] = {};  // the turn is over, its end was not in the counters yet
  EXPECT_EQ(of(tick(), 7).on_cpu_ns, 0U);
  totals_.cpu[0].second.on_cpu_ns = 2 * kTick;
  EXPECT_EQ(seen, kTick);
  EXPECT_EQ(of(tick(), 7).on_cpu_ns, 0U) << "both ticks had been handed out";
  totals_.cpu[0].second.on_cpu_ns += 5'000;
  EXPECT_EQ(of(tick(), 7).on_cpu_ns, 5'000U);
}

TEST_F(SamplerTest, FilesOfTheCgroupsThatAreWanted) {
  write("lab/web/cpu.stat", "throttled_usec 100\n");
  write("lab/web/cpu.max", "50000 100000\n");
  write("lab/web/memory.current", "4096\n");
  write("lab/web/memory.max", "65536\n");
  const std::vector<CgroupRef> wanted{{7, "/lab/web"}, {0, "/not/there"}};
  auto sample = of(tick(wanted), 7);
  EXPECT_EQ(sample.throttled_ns, 0U) << "no delta yet";
  EXPECT_DOUBLE_EQ(sample.cpu_limit_cores, 0.5);
  EXPECT_EQ(sample.memory_bytes, 4096U);
  EXPECT_EQ(sample.memory_limit_bytes, 65536U);

  write("lab/web/cpu.stat", "throttled_usec 350\n");
  write("lab/web/memory.current", "8192\n");
  sample = of(tick(wanted), 7);
  EXPECT_EQ(sample.throttled_ns, 250'000U);
  EXPECT_EQ(sample.memory_bytes, 8192U);

  write("lab/web/cpu.max", "20000 100000\n");
  EXPECT_DOUBLE_EQ(of(tick(wanted), 7).cpu_limit_cores, 0.2) << "a quota of its own holds from the next tick";
  write("lab/cpu.max", "10000 100000\n");
  EXPECT_DOUBLE_EQ(of(tick(wanted), 7).cpu_limit_cores, 0.2);
  for (int i = 0; i < 4; ++i) {
    sample = of(tick(wanted), 7);
  }
  EXPECT_DOUBLE_EQ(sample.cpu_limit_cores, 0.1) << "all limits above are read once a second";
}

// crun puts a container's processes into a cgroup below the container's, a systemd in a pod into many.
TEST_F(SamplerTest, CgroupsBelowAContainerCountAsTheContainer) {
  const std::vector<CgroupRef> wanted = {{7, "/pod/app", {8, 9}}};
  answer(row(8), 10, 2'000'000);
  row(8).value.in_flight = 2;
  totals_.cpu = {{8, {5'000'000, 0, 0, 1}}};
  EXPECT_EQ(of(tick(wanted), 7).in_flight, 2);
  answer(row(8), 30, 2'000'000);
  answer(row(9), 12, 2'000'000);
  totals_.connections = {{9, {}}};
  totals_.connections[0].second.open = 4;
  totals_.cpu = {{8, {9'000'000, 3'000'000, 1'000'000, 2}}};
  const auto sample = of(tick(wanted), 7);
  EXPECT_EQ(sample.requests, 42U);
  EXPECT_EQ(sample.first_byte.count, 42U);
  EXPECT_EQ(sample.connections, 4);
  EXPECT_EQ(sample.on_cpu_ns, 4'000'000U);
  EXPECT_EQ(sample.wait_ns, 3'000'000U);
  EXPECT_EQ(sample.self_wait_ns, 1'000'000U);
  totals_.requests.clear();  // one below goes: what it did is not counted anew
  totals_.cpu.clear();
  EXPECT_EQ(of(tick({{7, "/pod/app", {9}}}), 7).requests, 0U);
}

TEST_F(SamplerTest, WithoutTheProbeCpuTimeComesFromTheFiles) {
  sampler_.emplace([this] { return Result<Totals>(totals_); }, roots_, CpuSource::kCgroupFiles);
  const std::vector<CgroupRef> wanted = {{7, "/lab/web"}};
  totals_.cpu = {{7, {90'000'000, 80'000'000, 70'000'000, 9}}};  // left by a ballastd that had the probe
  write("lab/web/cpu.stat", "usage_usec 1000\nthrottled_usec 0\n");
  EXPECT_EQ(of(tick(wanted), 7).on_cpu_ns, 0U) << "the first sample has no deltas";
  write("lab/web/cpu.stat", "usage_usec 3500\nthrottled_usec 400\n");
  const auto sample = of(tick(wanted), 7);
  EXPECT_EQ(sample.on_cpu_ns, 2'500'000U);
  EXPECT_EQ(sample.wait_ns, 400'000U) << "of waiting only what the quota caused is known";
  EXPECT_EQ(sample.self_wait_ns, 0U);
  write("lab/web/cpu.stat", "usage_usec 100\nthrottled_usec 0\n");
  EXPECT_EQ(of(tick(wanted), 7).on_cpu_ns, 100'000U) << "a cgroup made anew counts from zero";
}

TEST_F(SamplerTest, AFailedReadSpansTwoTicks) {
  answer(row(7), 1, 1'000'000);
  bool fail = false;
  Sampler sampler(
      [&]() -> Result<Totals> {
        if (fail) {
          return Error::failed("no maps");
        }
        return totals_;
      },
      roots_);
  ASSERT_TRUE(sampler.sample({}).ok());
  fail = true;
  EXPECT_FALSE(sampler.sample({}).ok());
  fail = false;
  totals_.taken += 2 * kTick;
  answer(row(7), 9, 1'000'000);
  const auto sample = sampler.sample({});
  ASSERT_TRUE(sample.ok());
  EXPECT_EQ(sample->interval_ns, 2 * kTick);
  EXPECT_EQ(of(*sample, 7).requests, 9U);
}

}  // namespace
}  // namespace ballast::sample
