// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/verbs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <thread>

#include "agent/guard/guard.h"
#include "core/spec/spec.h"
#include "pinned_folder.h"
#include "tools/ctl/top.h"

namespace ballast::ctl {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

constexpr sample::CgroupId kWeb = 1001;

void observe(ballast_latency& latency, std::uint64_t ns, std::uint64_t times) {
  latency.sum_ns += ns * times;
  latency.max_ns = std::max<std::uint64_t>(latency.max_ns, ns);
  latency.buckets[ballast_hist_bucket(ns)] += times;
}

// As the programs leave it: what follows from other counters is not there, and two were given back.
ballast_request_value web_requests() {
  ballast_request_value value{};
  value.requests = 103;
  value.in_flight = -2;
  value.status[2] = 97;
  value.status[5] = 3;
  observe(value.first_byte, 2'000'000, 90);
  observe(value.first_byte, 30'000'000, 10);
  observe(value.last_byte, 40'000'000, 100);
  return value;
}

ballast_request_key server_key(sample::CgroupId id) {
  ballast_request_key key{};
  key.cgroup_id = id;
  key.role = BALLAST_ROLE_SERVER;
  key.protocol = BALLAST_PROTOCOL_HTTP1;
  return key;
}

class VerbsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    folder_ = PinnedFolder::create(reason);
    if (folder_ == nullptr) {
      GTEST_SKIP() << "needs CAP_BPF and CAP_SYS_ADMIN: " << reason;
    }
    ballast_identity_value web{};
    set(web.cgroup, "/lab/web-0");
    set(web.pod, "web-0");
    set(web.ns, "shop");
    set(web.container, "app");
    set(web.service, "web");
    ASSERT_TRUE(folder_->put(BALLAST_MAP_IDENTITY, kWeb, web));
    ASSERT_TRUE(folder_->put(BALLAST_MAP_REQUESTS, server_key(kWeb), web_requests()));
  }
  View view() const { return std::move(open_view(folder_->path())).value(); }
  Report run(Result<Report> (*verb)(View&, const std::string&), const std::string& target = "") const {
    View opened = view();
    auto report = verb(opened, target);
    EXPECT_TRUE(report.ok()) << report.error().message;
    return report.ok() ? std::move(*report) : Report{};
  }
  void put_decision(const std::string& pod, std::uint32_t weight) const {
    sample::DecisionRow row;
    set(row.key.ns, "shop");
    set(row.key.service, "web");
    set(row.key.pod, pod);
    row.value.decided_ns = SystemClock().now();
    row.value.weight = row.value.in_force = weight;
    row.value.outcome = static_cast<std::uint32_t>(guard::Outcome::kAcknowledged);
    row.value.mode = 2;
    row.value.guard_reasons = guard::kCap | guard::kStep;
    row.value.log_prior_e6 = 693'147;
    row.value.offset_e6 = 50'000;
    row.value.proposed_e6 = 500'000;
    row.value.guarded_e6 = 400'000;
    row.value.feature_count = spec::kFeatures;
    row.value.features_e6[spec::kLatency] = -250'000;
    row.value.action = 3;
    row.value.policy_epoch = 2;
    row.value.policy_version = 17;
    row.value.raw[BALLAST_RAW_QPS] = 60;
    row.value.raw[BALLAST_RAW_CPU_LIMIT_CORES] = 0.4;
    row.value.raw[BALLAST_RAW_P50_NS] = 2e6;
    row.value.raw[BALLAST_RAW_CAPACITY_QPS] = 120;
    set(row.value.policy, "learned");
    set(row.value.why, "twice the capacity of the mean");
    set(row.value.address, "127.1.0.10:8080");
    ASSERT_TRUE(folder_->maps().put_decision(row).ok());
  }

  std::unique_ptr<PinnedFolder> folder_;
};

TEST_F(VerbsTest, RequestsIsTheContract) {
  const Report report = run(requests);
  ASSERT_EQ(report.json.size(), 1U);
  Json row = report.json[0];
  // Quantiles come out of buckets at most 12.5 % wide; the rest is exact.
  const Json latency = row["latency_ns"];
  row.erase("latency_ns");
  EXPECT_EQ(row, Json::parse(R"({"cgroup_id":1001,"cgroup":"/lab/web-0","pod":"web-0","namespace":"shop",
      "container":"app","service":"web","role":"server","protocol":"http1","requests":103,"responses":100,
      "in_flight":1,"status":{"1xx":0,"2xx":97,"3xx":0,"4xx":0,"5xx":3,"unknown":0},"grpc_status":{},
      "failed":3,"unknown":0,"abandoned":0,"no_answer":0})"));
  for (const char* which : {"first_byte", "last_byte"}) {
    std::vector<std::string> keys;
    for (const auto& [key, value] : latency.at(which).items()) {
      keys.push_back(key);
      EXPECT_TRUE(value.is_number_integer()) << key;
    }
    EXPECT_THAT(keys, ::testing::ElementsAre("count", "sum", "p50", "p90", "p99", "p999", "max"));
  }
  const Json& first = latency["first_byte"];
  EXPECT_EQ(first["count"], 100);
  EXPECT_EQ(first["sum"], 90 * 2'000'000 + 10 * 30'000'000);
  EXPECT_NEAR(first["p50"].get<double>(), 2e6, 2e6 * 0.125);
  EXPECT_NEAR(first["p99"].get<double>(), 30e6, 30e6 * 0.125);
  EXPECT_EQ(first["max"], 30'000'000);
  EXPECT_LE(latency["last_byte"]["p999"].get<double>(), 40e6) << "no quantile is beyond the largest value";
  EXPECT_THAT(report.text, HasSubstr("shop/web"));
}

TEST_F(VerbsTest, GrpcStatusesAreThoseSeen) {
  ballast_request_key key = server_key(kWeb);
  key.protocol = BALLAST_PROTOCOL_GRPC;
  key.role = BALLAST_ROLE_CLIENT;
  ballast_request_value value{};
  value.status[2] = 8;
  value.grpc_status[0] = 5;
  value.grpc_status[14] = 2;
  value.grpc_status[17] = 1;
  ASSERT_TRUE(folder_->put(BALLAST_MAP_REQUESTS, key, value));
  const Report report = run(requests);
  ASSERT_EQ(report.json.size(), 2U);
  const Json& row = report.json[1];
  EXPECT_EQ(row["role"], "client");
  EXPECT_EQ(row["protocol"], "grpc");
  EXPECT_EQ(row["grpc_status"], Json::parse(R"({"0":5,"14":2,"unknown":1})"));
  EXPECT_EQ(row["failed"], 2);
  EXPECT_EQ(row["unknown"], 1);
  EXPECT_EQ(row["latency_ns"]["first_byte"]["p99"], 0);
}

TEST_F(VerbsTest, ATargetLimitsTheRows) {
  ASSERT_TRUE(folder_->put(BALLAST_MAP_REQUESTS, server_key(77), web_requests()));
  EXPECT_EQ(run(requests).json.size(), 2U);
  EXPECT_EQ(run(requests, "web/web-0").json.size(), 1U);
  EXPECT_EQ(run(requests, "77").json.size(), 1U);
  EXPECT_EQ(run(requests, "none").json.size(), 0U);
}

TEST_F(VerbsTest, LossIsTheContract) {
  std::vector<ballast_loss_value> each(static_cast<std::size_t>(::sysconf(_SC_NPROCESSORS_CONF)), {2, 10});
  const std::uint32_t reason = BALLAST_LOSS_GAP;
  const UniqueFd fd(::bpf_obj_get((folder_->path() / BALLAST_MAP_LOSS).c_str()));
  ASSERT_EQ(::bpf_map_update_elem(fd.get(), &reason, each.data(), BPF_ANY), 0);
  const Json json = run(loss).json;
  EXPECT_EQ(json.size(), static_cast<std::size_t>(BALLAST_LOSS_REASONS));
  EXPECT_EQ(json["gap"], (Json{{"events", 2 * each.size()}, {"bytes", 10 * each.size()}}));
  EXPECT_EQ(json["not_http"], (Json{{"events", 0}, {"bytes", 0}}));
}

TEST_F(VerbsTest, WhatIsNotMeasuredIsSaidByPod) {
  EXPECT_TRUE(run(status).json["not_measured"].empty());
  EXPECT_THAT(run(loss).text, Not(HasSubstr("NOT MEASURED")));
  ballast_coverage_key key{};
  key.cgroup_id = kWeb;
  key.kind = BALLAST_COVERAGE_TLS;
  ASSERT_TRUE(folder_->put(BALLAST_MAP_COVERAGE, key, ballast_coverage_value{7, 1}));
  const Json gaps = run(status).json["not_measured"];
  ASSERT_EQ(gaps.size(), 1U);
  EXPECT_EQ(gaps[0]["pod"], "web-0");
  EXPECT_EQ(gaps[0]["kind"], "tls");
  EXPECT_EQ(gaps[0]["events"], 7U);
  EXPECT_THAT(run(status).text, HasSubstr("tls in 1 cgroups"));
  EXPECT_THAT(run(loss).text, HasSubstr("NOT MEASURED"));
}

TEST_F(VerbsTest, EdgesThatWereLetGoAreSaidOfTheirCaller) {
  ballast_call_key key{};
  key.cgroup_id = kWeb;
  const auto maps = sample::PinnedMaps::open(folder_->path());
  ASSERT_TRUE(maps);
  for (std::uint16_t port = 1; port <= 3; ++port) {
    key.port = port;
    ASSERT_TRUE(folder_->put(BALLAST_MAP_CALLS, key, ballast_call_value{}));
    ASSERT_TRUE(maps->crowd_out_calls({key}, 1));
  }
  EXPECT_TRUE(maps->calls()->empty());
  const Json gaps = run(status).json["not_measured"];
  ASSERT_EQ(gaps.size(), 1U);
  EXPECT_EQ(gaps[0]["pod"], "web-0");
  EXPECT_EQ(gaps[0]["kind"], "calls");
  EXPECT_EQ(gaps[0]["events"], 3U);
}

TEST_F(VerbsTest, ConnectionsAndCpuByCgroup) {
  ballast_connection_value connection{};
  connection.open = 3;
  connection.accepted = 9;
  connection.closed = 6;
  connection.srtt_us_sum = 600;
  ASSERT_TRUE(folder_->put(BALLAST_MAP_CONNECTIONS, kWeb, connection));
  ballast_cpu_value cpu_value{};
  cpu_value.on_cpu_ns = 5'000'000'000;
  ASSERT_TRUE(folder_->put(BALLAST_MAP_CPU, kWeb, cpu_value));
  const Report connections_report = run(connections, "web-0");
  EXPECT_EQ(connections_report.json[0]["open"], 3);
  EXPECT_EQ(connections_report.json[0]["pod"], "web-0");
  EXPECT_THAT(connections_report.text, HasSubstr("100 µs"));
  const Report cpu_report = run(cpu);
  EXPECT_EQ(cpu_report.json[0]["on_cpu_ns"], 5'000'000'000);
  EXPECT_THAT(cpu_report.text, HasSubstr("5.00 s"));
}

// In a network namespace of its own, where no other socket is: every figure is known. (What
// is read from freed memory is told by the build with sanitizers.)
TEST_F(VerbsTest, ConnectionsTellTheSocketTableAsItIs) {
  Report report;
  std::string wrong;
  std::thread([&] {
    constexpr int kListeners = 3;
    constexpr int kBacklog = 17;
    if (::unshare(CLONE_NEWNET) != 0) {
      wrong = std::strerror(errno);
      return;
    }
    std::vector<UniqueFd> listeners;
    for (int i = 0; i < kListeners; ++i) {
      listeners.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
      if (::listen(listeners.back().get(), kBacklog) != 0) {
        wrong = std::strerror(errno);
        return;
      }
    }
    report = run(connections);
  }).join();
  if (!wrong.empty()) {
    GTEST_SKIP() << "no network namespace: " << wrong;
  }
  std::vector<Json> told;
  for (const Json& row : report.json) {
    if (!row["netlink"].is_null()) {
      told.push_back(row["netlink"]);
    }
  }
  ASSERT_EQ(told.size(), 1U) << report.json.dump();
  EXPECT_EQ(told[0], (Json{{"open", 0},
                           {"drift", 0},
                           {"srtt_us_sum", 0},
                           {"retransmits", 0},
                           {"receive_queue_bytes", 0},
                           {"send_queue_bytes", 0},
                           {"listeners", 3},
                           {"accept_queue", 0},
                           {"accept_queue_limit", 51}}));
}

TEST_F(VerbsTest, HistogramListsTheBucketsThatHoldSomething) {
  const Report report = run(histogram, "web");
  const Json& first = report.json[0]["first_byte"];
  ASSERT_EQ(first["buckets"].size(), 2U);
  EXPECT_EQ(first["buckets"][0]["count"], 90);
  EXPECT_LE(first["buckets"][0]["lower_ns"], 2'000'000);
  EXPECT_GT(first["buckets"][0]["upper_ns"], 2'000'000);
  EXPECT_THAT(report.text, HasSubstr("90  " + std::string(50, '#')));
}

TEST_F(VerbsTest, StatusTellsTheDeadFromTheLiving) {
  const auto maps = folder_->maps();
  ballast_meta meta = *maps.meta();
  meta.pid = static_cast<std::uint32_t>(::getpid());
  meta.tick_ms = 250;
  meta.heartbeat_ns = SystemClock().now();
  meta.flags = BALLAST_META_HTTP | BALLAST_META_CPU;
  meta.policy_crc32 = 0xABCD;
  set(meta.policy, "learned");
  ASSERT_TRUE(maps.put_meta(meta).ok());
  const Json alive = run(status).json;
  EXPECT_EQ(alive["alive"], true);
  EXPECT_EQ(alive["programs"], (Json{{"http", true}, {"tcp", false}, {"cpu", true}}));
  EXPECT_EQ(alive["policy_crc32"], "0000abcd");

  meta.heartbeat_ns -= 3'000'000'000;
  ASSERT_TRUE(maps.put_meta(meta).ok());
  const Report dead = run(status);
  EXPECT_EQ(dead.json["alive"], false) << "a heartbeat of three seconds ago";
  EXPECT_THAT(dead.text, HasSubstr("dead"));
}

TEST_F(VerbsTest, StatusNamesEveryFallback) {
  const auto maps = folder_->maps();
  EXPECT_EQ(run(status).json["features"], Json::array()) << "an older ballastd says nothing";
  ASSERT_TRUE(maps.put_features({{"http requests", true, ""},
                                 {"scheduler tracepoints", false, "from the cgroups' files"},
                                 {"third", true, ""}})
                  .ok());
  ASSERT_TRUE(maps.put_features({{"http requests", true, ""},
                                 {"scheduler tracepoints", false, "from the cgroups' files"}})
                  .ok());
  const Report report = run(status);
  EXPECT_EQ(report.json["features"], Json::parse(R"([{"name":"http requests","available":true,"fallback":""},
              {"name":"scheduler tracepoints","available":false,"fallback":"from the cgroups' files"}])"))
      << "the list is replaced as a whole";
  EXPECT_THAT(report.text, HasSubstr("no: from the cgroups' files"));
  const std::string longest(500, 'x');
  ASSERT_TRUE(maps.put_features({{longest, false, longest}}).ok());
  EXPECT_EQ(run(status).json["features"][0]["name"], std::string(55, 'x')) << "cut at the field's size";
}

TEST_F(VerbsTest, WeightsAndExplainShowTheDecision) {
  put_decision("web-0", 1600);
  put_decision("web-1", 400);
  const Report table = run(weights, "web");
  ASSERT_EQ(table.json.size(), 2U);
  EXPECT_EQ(table.json[0]["weight"], 1600);
  EXPECT_EQ(table.json[0]["guard"], (Json{"cap", "step"}));
  EXPECT_THAT(table.text, HasSubstr("twice the capacity of the mean"));

  const Report one = run(explain, "web/web-0");
  ASSERT_EQ(one.json.size(), 1U);
  EXPECT_DOUBLE_EQ(one.json[0]["features"]["latency"]["own"].get<double>(), -0.25);
  EXPECT_TRUE(one.json[0]["features"]["latency"]["mean"].is_null()) << "only its own features were stored";
  EXPECT_DOUBLE_EQ(one.json[0]["measured"]["capacity_qps"].get<double>(), 120);
  EXPECT_THAT(one.text, HasSubstr("weight 1600, 40.0 % of the traffic of 2 endpoints"));
  EXPECT_THAT(one.text, HasSubstr("2.000 times the service's mean"));
  EXPECT_THAT(one.text, HasSubstr("epoch 2, version 17"));
  EXPECT_THAT(one.text, HasSubstr("cut it to the cap; it bounded the step"));
}

TEST_F(VerbsTest, ExplainingTheUnknownFails) {
  View opened = view();
  const auto report = explain(opened, "nothing");
  ASSERT_FALSE(report.ok());
  EXPECT_EQ(report.error().exit_code(), 1);
}

TEST_F(VerbsTest, TopShowsTheIntervalOnly) {
  put_decision("web-0", 1600);
  put_decision("web-9", 400);
  View opened = view();
  auto before = top_sample(opened);
  ASSERT_TRUE(before.ok());
  ballast_request_value later = web_requests();
  later.requests += 50;
  later.status[2] += 50;
  observe(later.first_byte, 500'000'000, 50);
  ASSERT_TRUE(folder_->put(BALLAST_MAP_REQUESTS, server_key(kWeb), later));
  auto now = top_sample(opened);
  ASSERT_TRUE(now.ok());
  now->taken = before->taken + 2'000'000'000;
  const auto report = top_report(opened, *before, *now, "", 0);
  ASSERT_TRUE(report.ok());
  ASSERT_EQ(report->json.size(), 2U) << "one measured here, one endpoint elsewhere";
  const Json& web = report->json[0];
  EXPECT_DOUBLE_EQ(web["requests_per_s"].get<double>(), 25);
  EXPECT_NEAR(web["p50_ns"].get<double>(), 5e8, 5e8 * 0.125) << "of the interval, not of all time";
  EXPECT_EQ(web["weight"], 1600);
  EXPECT_TRUE(report->json[1]["p50_ns"].is_null());
  EXPECT_EQ(report->json[1]["weight"], 400);
}

TEST(OpenView, ANamelessFolderSaysWhatToDo) {
  const auto none = open_view("/nowhere/ballast");
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().exit_code(), 1);
  EXPECT_THAT(none.error().message, HasSubstr("--bpffs"));
}

}  // namespace
}  // namespace ballast::ctl
