// SPDX-License-Identifier: Apache-2.0
// Kernels that refuse one program or another: the rest measures on, and `ballastctl status` names what is
// missing.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/sample/sampler.h"
#include "live.h"
#include "program.h"
#include "refusing_kernel.h"

namespace ballast::testing {
namespace {

using ::testing::HasSubstr;
using Json = nlohmann::json;

const std::string kGet = "GET /plain HTTP/1.1\r\nHost: test\r\n\r\n";
const std::set<std::string> kConnections = {"tcp_state", "tcp_state_unmarked", "tcp_retransmit"};
const std::set<std::string> kScheduler = {"cpu_switch", "cpu_wakeup", "cpu_wakeup_new"};

class Fallback : public LiveTest {
 protected:
  // Restarts on a kernel that refuses the programs named: it takes over what the whole set left.
  void restart_without(const std::set<std::string>& names) {
    maps_.reset();
    probes_.reset();
    if (!on_a_kernel_without(names, [this] { load(); })) {
      GTEST_SKIP() << "no seccomp notifications on this kernel";
    }
    ASSERT_TRUE(probes_.has_value());
    ASSERT_TRUE(maps_->put_features(probes_->features()).ok());
  }

  Feature feature(const std::string& name) const {
    for (const Feature& each : probes_->features()) {
      if (each.name == name) {
        return each;
      }
    }
    ADD_FAILURE() << "no feature " << name;
    return {};
  }

  std::string ctl(const std::string& verb, const std::string& format) const {
    const auto output = folder_->path() / (verb + "." + format);
    std::filesystem::remove(output);
    ProcessOptions options;
    options.argv = {testing::program("ballastctl"), "--bpffs", bpffs_.string(), verb, "-o", format};
    options.output = output;
    auto child = ChildProcess::spawn(options);
    const auto ended = child ? child->wait(std::chrono::seconds(20)) : std::nullopt;
    EXPECT_TRUE(ended && ended->code == 0) << verb;
    const auto text = read_file(output);
    return text ? *text : "";
  }

  // Ten requests on one connection, counted and timed to the last.
  void requests_are_exact() {
    start_server();
    const auto before = row();
    {
      const Client client(port_);
      for (int i = 0; i < 10; ++i) {
        client.send(kGet);
        ASSERT_NE(client.receive_until("hello"), "");
      }
    }
    EXPECT_TRUE(eventually([&] { return row().responses == before.responses + 10; }));
    EXPECT_EQ(row().requests, before.requests + 10);
    EXPECT_EQ(row().last_byte.count, before.last_byte.count + 10);
    EXPECT_EQ(row().in_flight, 0);
  }

  // The status verb says the same in both forms.
  void status_names(const std::string& name) const {
    const Feature missing = feature(name);
    EXPECT_FALSE(missing.available) << name;
    EXPECT_FALSE(missing.fallback.empty()) << name;
    EXPECT_THAT(ctl("status", "table"), HasSubstr("no: " + missing.fallback));
    const Json json = Json::parse(ctl("status", "json"), nullptr, false);
    bool told = false;
    for (const auto& each : json["features"]) {
      told = told ||
             (each["name"] == name && each["available"] == false && each["fallback"] == missing.fallback);
    }
    EXPECT_TRUE(told) << json.dump();
  }
};

TEST_F(Fallback, EverythingThatThisKernelOffersIsUsed) {
  for (const Feature& each : probes_->features()) {
    if (each.name == "AF_UNIX connections") {
      continue;  // Linux 6.7 on, and Debian 12 has 6.1; Signals.AfUnixIsAKnownGap
    }
    EXPECT_TRUE(each.available) << each.name << ": " << each.fallback;
    EXPECT_EQ(each.fallback, "") << each.name;
  }
  EXPECT_EQ(probes_->flags(), BALLAST_META_HTTP | BALLAST_META_TCP | BALLAST_META_CPU);
}

// What Linux 5.10 does: no socket storage in tracing programs.
TEST_F(Fallback, WithoutMarksOnSocketsConnectionsAreToldByTheirStates) {
  restart_without({"tcp_state", "http_close"});
  if (IsSkipped() || HasFatalFailure()) {
    return;
  }
  EXPECT_TRUE(feature("connection tracking").available);
  status_names("socket storage in tracepoints");
  status_names("close tracking");
  requests_are_exact();
  EXPECT_TRUE(eventually([&] { return connections().closed >= 1 && connections().open == 0; }));
  EXPECT_EQ(connections().adopted, 0U);
}

// What a verifier with less patience does: it does not walk the parser twice.
TEST_F(Fallback, WithoutParsingInPlaceTheRequestsCount) {
  maps_.reset();
  probes_.reset();
  parse_in_place_ = false;
  load();
  ASSERT_TRUE(probes_.has_value());
  ASSERT_TRUE(maps_->put_features(probes_->features()).ok());
  status_names("parsing in place");
  requests_are_exact();
}

TEST_F(Fallback, WithoutConnectionsTheRequestsCount) {
  restart_without(kConnections);
  if (IsSkipped() || HasFatalFailure()) {
    return;
  }
  EXPECT_EQ(probes_->flags(), BALLAST_META_HTTP | BALLAST_META_CPU);
  status_names("connection tracking");
  requests_are_exact();
  EXPECT_EQ(connections().accepted, 0U) << "the programs of the run before are gone too";
}

TEST_F(Fallback, WithoutTheSchedulerCpuTimeComesFromCgroupFiles) {
  restart_without(kScheduler);
  if (IsSkipped() || HasFatalFailure()) {
    return;
  }
  EXPECT_EQ(probes_->flags(), BALLAST_META_HTTP | BALLAST_META_TCP);
  status_names("scheduler tracepoints");
  const std::string path = "/" + cgroup_->path().filename().string();
  ballast_identity_value pod{};
  path.copy(pod.cgroup, sizeof pod.cgroup - 1);
  ASSERT_TRUE(maps_->put_identity(cgroup_->id(), pod).ok());
  auto roots = sample::CgroupRoots::discover();
  ASSERT_TRUE(roots.ok());
  roots->v2 = probes_->cgroup_root();
  sample::Sampler sampler([this] { return sample::read_totals(*maps_, SystemClock()); }, std::move(*roots),
                          sample::CpuSource::kCgroupFiles);
  ASSERT_TRUE(sampler.sample({{cgroup_->id(), path}}).ok());

  start_server();
  const Client client(port_);
  for (int i = 0; i < 3; ++i) {
    client.send("GET /burn HTTP/1.1\r\n\r\n");
    ASSERT_NE(client.receive_until("hello"), "");
  }
  const auto sample = sampler.sample({{cgroup_->id(), path}});
  ASSERT_TRUE(sample.ok());
  for (const auto& each : sample->cgroups) {
    if (each.id == cgroup_->id()) {
      EXPECT_GE(each.on_cpu_ns, 50'000'000U) << "three times 20 ms were computed";
      EXPECT_LT(each.on_cpu_ns, 60'000'000'000U);
    }
  }
  const Json rows = Json::parse(ctl("cpu", "json"), nullptr, false);
  ASSERT_EQ(rows.size(), 1U) << rows.dump();
  EXPECT_EQ(rows[0]["source"], "cgroup_files");
  EXPECT_GE(rows[0]["on_cpu_ns"].get<std::uint64_t>(), 50'000'000U);
  EXPECT_TRUE(rows[0]["wait_ns"].is_null());
}

TEST_F(Fallback, WithoutAnyTracepointTheRequestsCount) {
  std::set<std::string> all = kConnections;
  all.insert(kScheduler.begin(), kScheduler.end());
  all.insert("http_close");
  restart_without(all);
  if (IsSkipped() || HasFatalFailure()) {
    return;
  }
  EXPECT_EQ(probes_->flags(), BALLAST_META_HTTP);
  requests_are_exact();
}

TEST_F(Fallback, WithoutTheHttpProbeThereIsNothingToDo) {
  maps_.reset();
  probes_.reset();
  Error error;
  if (!on_a_kernel_without({"http_ingress"}, [&] {
        kernel::ProbeOptions options;
        options.bpffs = bpffs_;
        const auto probes = kernel::Probes::load(options);
        error = probes ? Error{} : probes.error();
      })) {
    GTEST_SKIP() << "no seccomp notifications on this kernel";
  }
  EXPECT_EQ(error.kind, Error::Kind::kPrivilege);
  EXPECT_THAT(error.message, HasSubstr("http probe"));
}

}  // namespace
}  // namespace ballast::testing
