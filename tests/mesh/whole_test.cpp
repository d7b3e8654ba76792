// SPDX-License-Identifier: Apache-2.0
//
// The whole of ballastd against a real control plane: the loop, and every way back out of it.
#include "whole_test.h"

#include <signal.h>

#include <fstream>

#include "tools/lab/http.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

TEST_F(WholeTest, HalvingAPodsQuotaMovesItsTraffic) {
  const int repeats = asked("BALLAST_MESH_REPEATS", 2);
  constexpr double kWatchS = 6;  // four times what a split takes to answer
  if (const auto why = too_busy()) {
    GTEST_SKIP() << "*** SKIPPED, " << *why;
  }
  ASSERT_NO_FATAL_FAILURE(start_unequal());
  ASSERT_NO_FATAL_FAILURE(start_gateway());
  load_ = Load::start(kRate, 60 + 16 * repeats + static_cast<double>(kPatience.count()));
  agent_ = start_agent();
  ASSERT_NE(agent_, nullptr);
  ASSERT_TRUE(balanced()) << agent_->log();
  std::this_thread::sleep_for(seconds(6));
  const std::string biggest = node_->pods()[0];
  lab::Timeline timeline;
  const auto zero = steady_clock::now();
  const auto watch_for = [&](double length_s) {
    const double end = seconds_since(zero) + length_s;
    while (seconds_since(zero) < end) {
      lab::WeightPoint point{seconds_since(zero), {}};
      for (const auto& [address, weight] : proxy_->weights(kWeb)) {
        point.weights[address] = static_cast<int>(weight);
      }
      if (timeline.empty() || timeline.back().weights != point.weights) {
        timeline.push_back(std::move(point));
      }
      std::this_thread::sleep_for(milliseconds(10));
    }
  };
  std::vector<double> first;
  std::vector<double> done;
  const std::pair<const char*, const Proxy*> proxies[] = {{"the client", proxy_.get()},
                                                          {"the gateway", gateway_.get()}};
  std::map<std::string, std::map<std::string, double>> before;
  for (const auto& [name, proxy] : proxies) {
    before[name] = proxy->taken();
    for (const auto& [type, count] : before[name]) {
      EXPECT_GT(count, 0) << name << " " << type;
    }
  }
  watch_for(1);
  for (int i = 0; i < repeats; ++i) {
    const double event_s = seconds_since(zero);
    node_->set_quota(biggest, 0.10);
    watch_for(kWatchS);
    const auto reaction = lab::reaction_of(timeline, node_->address(biggest), event_s, seconds_since(zero));
    node_->set_quota(biggest, 0.20);
    watch_for(kWatchS + 0.17 * (i % 3));  // no two repeats at the same point of a tick
    if (!reaction) {
      std::printf("quota halved: the pod's share ended within a tenth of where it was\n");
      continue;
    }
    const std::string address = node_->address(biggest);
    const double after_s = event_s + reaction->first_s + 0.005;
    std::printf(
        "quota halved -> its weight in Envoy moves %.2f s, within 10 %% of its end %.2f s; share %.3f, "
        "%.3f after the first step, %.3f at the end\n",
        reaction->first_s, reaction->done_s, lab::share_at(timeline, address, event_s),
        lab::share_at(timeline, address, after_s), lab::share_at(timeline, address, event_s + kWatchS));
    first.push_back(reaction->first_s);
    done.push_back(reaction->done_s);
  }
  std::printf(
      "quota halved -> new split at Envoy: moves p50 %.2f s, within 10 %% of its end p50 %.2f s, of "
      "%zu repeats\n",
      quantile(first, 0.5), quantile(done, 0.5), first.size());
  EXPECT_GE(2 * first.size(), static_cast<std::size_t>(repeats)) << "the split did not answer\n"
                                                                 << agent_->log();
  const double balanced_s = seconds_since(zero);
  for (const auto& [name, proxy] : proxies) {
    auto pushes = proxy->taken();
    for (auto& [type, count] : pushes) {
      count -= before[name].at(type);
    }
    std::printf(
        "pushes in %.0f s of balancing to %s: %.0f EDS, %.0f CDS, %.0f LDS, %.0f RDS; updates that Envoy "
        "held "
        "back for its merge window: %.0f of %.0f\n",
        balanced_s, name, pushes["eds"], pushes["cds"], pushes["lds"], pushes["rds"],
        proxy->stat("cluster_manager.cluster_updated_via_merge"),
        proxy->stat("cluster_manager.cluster_updated"));
    EXPECT_GT(pushes["eds"], 0) << name;
    EXPECT_EQ(pushes["cds"] + pushes["lds"] + pushes["rds"], 0)
        << name << ": a weight is an EDS push and nothing else";
    figure(proxy == proxy_.get() ? "balancing_eds" : "balancing_eds_gateway", pushes["eds"]);
  }
  if (fast() && repeats >= 8) {
    EXPECT_LE(quantile(done, 0.5), 0.8);
  }
  if (repeats >= 50) {
    EXPECT_GE(balanced_s, 600) << "ten minutes of balancing";
  }
  figure("loop_moves_s", quantile(first, 0.5));
  figure("loop_done_s", quantile(done, 0.5));
  figure("balancing_s", balanced_s);
  EXPECT_EQ(load_->stop(), 0U) << "requests failed";
}

class ShadowTest : public WholeTest {
 protected:
  const char* overlay() const override { return "shadow"; }
};

/// The rights of overlays/shadow are enough to lead; who leads there decides on all nodes' reports and writes
/// nothing.
TEST_F(ShadowTest, LeadsAndSaysWhatActiveWouldDoAndWritesNothing) {
  start_web(2);
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  agent_ = start_agent({.mode = "shadow", .metrics = 19092});
  ASSERT_NE(agent_, nullptr);
  EXPECT_TRUE(eventually([&] { return kube::text_at(status(*agent_), {"leader"}).starts_with("node-a_"); }))
      << status(*agent_).dump() << agent_->log();
  const auto explained = [&] {
    return Json::parse(agent_->ctl({"explain", "shop/web", "-o", "json"}).output, nullptr, false);
  };
  EXPECT_TRUE(eventually([&] {
    return explained().dump().find("mode shadow writes nothing") != std::string::npos;
  })) << explained().dump(1);
  const auto page = lab::http_get({"127.0.0.1", 19092}, "/metrics", 2000);
  EXPECT_THAT(page ? *page : "", HasSubstr("ballast_shadow_share{"));
  std::this_thread::sleep_for(seconds(3));
  EXPECT_EQ(entry_status(), 404);
  EXPECT_EQ(route_status(), 404);
  EXPECT_TRUE(plain());
  EXPECT_EQ(kube::text_at(status(*agent_), {"trouble"}), "");
  // Its Lease is let go, so that an active writer leads at once.
  agent_->process().signal(SIGTERM);
  ASSERT_TRUE(agent_->process().wait(seconds(15)).has_value());
  EXPECT_EQ(kube::text_at(plane()->must("GET", kLease), {"spec", "holderIdentity"}), "");
}

TEST_F(WholeTest, SigtermHandsEverythingBack) {
  ASSERT_NO_FATAL_FAILURE(start_weighted(400));
  const auto begun = steady_clock::now();
  agent_->process().signal(SIGTERM);
  const auto ended = agent_->process().wait(seconds(15));
  ASSERT_TRUE(ended.has_value()) << "still there\n" << agent_->log();
  EXPECT_EQ(ended->code, 0) << agent_->log();
  EXPECT_EQ(entry_status(), 404);
  EXPECT_TRUE(eventually([&] { return plain(); }));
  const double back_s = seconds_since(begun);
  std::this_thread::sleep_for(seconds(1));
  const std::uint64_t failed = load_->stop();
  std::printf("SIGTERM -> handed back: %.1f s, %lu requests failed\n", back_s, failed);
  EXPECT_EQ(failed, 0U);
}

TEST_F(WholeTest, AKilledLeadersOverrideIsRemovedByAnotherAgent) {
  ASSERT_NO_FATAL_FAILURE(start_weighted(400));
  second_ = start_agent({.node = "node-b"});
  ASSERT_NE(second_, nullptr);
  std::this_thread::sleep_for(seconds(3));
  const std::string theirs = entry_uid();
  const auto begun = steady_clock::now();
  agent_->process().signal(SIGKILL);
  // Removed, and mostly made anew before anybody looks.
  EXPECT_TRUE(eventually([&] { return entry_uid() != theirs; })) << second_->log();
  const double gone_s = seconds_since(begun);
  const auto probe = [](Agent& agent) { return agent.ctl({"status", "--alive"}).code; };
  EXPECT_EQ(probe(*agent_), 1) << "the DaemonSet's probe of a dead agent";
  EXPECT_EQ(probe(*second_), 0);
  const std::string removed = "override removed object=ServiceEntry shop/web-ballast";
  EXPECT_TRUE(eventually([&] { return second_->log().find(removed) != std::string::npos; }))
      << second_->log();
  // The new leader begins anew with what it knows.
  EXPECT_TRUE(eventually([&] { return entry_status() == 200 && weighted(); })) << second_->log();
  const std::uint64_t failed = load_->stop();
  std::printf("leader killed -> override gone %.1f s, %lu requests failed\n", gone_s, failed);
  EXPECT_EQ(failed, 0U);
}

TEST_F(WholeTest, WithEveryAgentKilledTheFirstThatComesBackRemovesTheOverride) {
  ASSERT_NO_FATAL_FAILURE(start_weighted(400));
  second_ = start_agent({.node = "node-b"});
  ASSERT_NE(second_, nullptr);
  std::this_thread::sleep_for(seconds(3));
  const std::string theirs = entry_uid();
  const auto begun = steady_clock::now();
  agent_->process().signal(SIGKILL);
  second_->process().signal(SIGKILL);
  // As the kubelet does with a container that ended.
  agent_ = start_agent({.node = "node-b"});
  ASSERT_NE(agent_, nullptr);
  EXPECT_TRUE(eventually([&] { return entry_uid() != theirs; })) << agent_->log();
  const double gone_s = seconds_since(begun);
  const std::string removed = "override removed object=ServiceEntry shop/web-ballast";
  EXPECT_TRUE(eventually([&] { return agent_->log().find(removed) != std::string::npos; })) << agent_->log();
  EXPECT_TRUE(eventually([&] { return entry_status() == 200 && weighted(); })) << agent_->log();
  const std::uint64_t failed = load_->stop();
  std::printf("every agent killed, one started again -> override gone %.1f s, %lu requests failed\n", gone_s,
              failed);
  EXPECT_EQ(failed, 0U);
}

TEST_F(WholeTest, AReleaseByHandHoldsWhileTheLeaderLives) {
  ASSERT_NO_FATAL_FAILURE(start_weighted(400));
  const auto begun = steady_clock::now();
  const Ended released = agent_->ctl({"release", "shop/web"});
  EXPECT_EQ(released.code, 0) << released.output;
  EXPECT_THAT(released.output, HasSubstr("released shop/web"));
  EXPECT_EQ(entry_status(), 404);
  EXPECT_TRUE(eventually([&] { return plain(); }));
  const double back_s = seconds_since(begun);
  std::this_thread::sleep_for(seconds(5));  // longer than the leader takes to look at its Lease
  EXPECT_EQ(entry_status(), 404) << "taken back against the operator's word\n" << agent_->log();
  // The way back that `release` names itself.
  plane()->must("PATCH", kLease, {{"metadata", {{"annotations", {{"ballast.dev/released", nullptr}}}}}},
                kube::kMergePatch);
  const auto taken = steady_clock::now();
  EXPECT_TRUE(eventually([&] { return weighted(); })) << agent_->log();
  std::printf("annotation removed -> weighted again: %.1f s\n", seconds_since(taken));
  const std::uint64_t failed = load_->stop();
  std::printf("release by hand -> plain route in Envoy: %.1f s, %lu requests failed\n", back_s, failed);
  EXPECT_EQ(failed, 0U);
}

/// All that an installation could touch, with every field; Events come and go by themselves.
std::map<std::string, Json> everything() {
  std::map<std::string, Json> all;
  for (const char* path : {"/api/v1/namespaces",
                           "/api/v1/nodes",
                           "/api/v1/services",
                           "/api/v1/pods",
                           "/api/v1/configmaps",
                           "/api/v1/secrets",
                           "/api/v1/serviceaccounts",
                           "/apis/discovery.k8s.io/v1/endpointslices",
                           "/apis/apps/v1/daemonsets",
                           "/apis/apps/v1/deployments",
                           "/apis/batch/v1/jobs",
                           "/apis/policy/v1/poddisruptionbudgets",
                           "/apis/rbac.authorization.k8s.io/v1/clusterroles",
                           "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
                           "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
                           "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
                           "/apis/rbac.authorization.k8s.io/v1/roles",
                           "/apis/rbac.authorization.k8s.io/v1/rolebindings",
                           "/apis/scheduling.k8s.io/v1/priorityclasses",
                           "/apis/networking.k8s.io/v1/networkpolicies",
                           "/apis/networking.istio.io/v1/virtualservices",
                           "/apis/networking.istio.io/v1/serviceentries",
                           "/apis/networking.istio.io/v1/destinationrules",
                           "/apis/networking.istio.io/v1/workloadentries",
                           "/apis/coordination.k8s.io/v1/leases"}) {
    const Json page = plane()->must("GET", path);
    for (const Json& item : kube::at(page, {"items"})) {
      // Leases and the like of the API server and of istiod, renewed all the time.
      const std::string ns = kube::text_at(item, {"metadata", "namespace"});
      if (ns != "kube-system" && ns != "istio-system") {
        all[std::string(path) + " " + kube::key_of(item)] = item;
      }
    }
  }
  return all;
}

TEST_F(WholeTest, UninstallingLeavesEveryObjectAsItWas) {
  ASSERT_EQ(plane()->uninstall().code, 0);
  start_unequal();
  std::this_thread::sleep_for(seconds(1));
  const auto before = everything();

  ASSERT_EQ(plane()->install().code, 0);
  agent_ = start_agent();
  ASSERT_NE(agent_, nullptr);
  load_ = start_light_load(400);
  ASSERT_TRUE(eventually([&] { return weighted(); }, kPatience)) << agent_->log();
  EXPECT_NE(everything(), before);

  // The Job of deploy/daemonset/uninstall: its command, with its service account, while the agent lives.
  const Ended released = agent_->ctl({"release", "--all"});
  EXPECT_EQ(released.code, 0) << released.output;
  EXPECT_EQ(load_->stop(), 0U) << "requests failed";
  agent_->process().signal(SIGTERM);
  EXPECT_TRUE(agent_->process().wait(seconds(15)).has_value());
  const Ended removed = plane()->uninstall();
  EXPECT_EQ(removed.code, 0) << removed.output;

  const auto after = everything();
  for (const auto& [key, object] : before) {
    ASSERT_TRUE(after.contains(key)) << key << " has gone";
    EXPECT_EQ(after.at(key), object) << key;
  }
  for (const auto& [key, object] : after) {
    EXPECT_TRUE(before.contains(key)) << key << " was left behind";
  }
  std::printf("objects compared field by field before installation and after uninstallation: %zu\n",
              before.size());
  const Ended again = plane()->install();
  EXPECT_EQ(again.code, 0) << again.output;
}

TEST_F(WholeTest, ARefusedTokenIsNamedEverywhereAndANewOneIsTakenUp) {
  const fs::path token = plane()->account_token("ballast-global");
  ASSERT_NO_FATAL_FAILURE(start_weighted(400, {.token = token, .metrics = 19091}));
  const auto metric = [] {
    const auto page = lab::http_get({"127.0.0.1", 19091}, "/metrics", 2000);
    return page ? *page : std::string();
  };
  EXPECT_THAT(metric(), HasSubstr("ballast_trouble{of=\"sink\"} 0"));
  EXPECT_EQ(kube::text_at(status(*agent_), {"trouble"}), "");

  std::ofstream(token) << "no-such-token";
  EXPECT_TRUE(eventually([&] { return !kube::text_at(status(*agent_), {"trouble"}).empty(); }));
  EXPECT_THAT(kube::text_at(status(*agent_), {"trouble"}), HasSubstr("401"));
  EXPECT_THAT(metric(), HasSubstr("ballast_trouble{of=\"sink\"} 1"));
  EXPECT_THAT(agent_->log(), HasSubstr("token refused or expired"));
  EXPECT_EQ(entry_status(), 200) << "balancing stays as it is";

  fs::copy_file(plane()->account_token("ballast-global"), token, fs::copy_options::overwrite_existing);
  EXPECT_TRUE(eventually([&] { return kube::text_at(status(*agent_), {"trouble"}).empty(); }))
      << agent_->log();
  EXPECT_EQ(load_->stop(), 0U) << "requests failed";
}

TEST_F(WholeTest, AMissingPermissionIsNamedAndBalancingStaysAsItIs) {
  ASSERT_NO_FATAL_FAILURE(start_weighted(400, {.metrics = 19091}));
  const std::string role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ballast-writer";
  const Json rules = plane()->must("GET", role).at("rules");
  plane()->must("PATCH", role, {{"rules", Json::array()}}, kube::kMergePatch);
  EXPECT_TRUE(eventually([&] {
    // Something that has to be written, though it changes no traffic; again while the rights still hold.
    plane()->status_of("PATCH", "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast",
                       {{"spec", {{"exportTo", {"*"}}}}}, kube::kMergePatch);
    return kube::text_at(status(*agent_), {"trouble"}).find("403 (permission missing") != std::string::npos;
  })) << kube::text_at(status(*agent_), {"trouble"});
  EXPECT_THAT(agent_->log(), HasSubstr("403 (permission missing"));
  const auto page = lab::http_get({"127.0.0.1", 19091}, "/metrics", 2000);
  EXPECT_THAT(page ? *page : "", HasSubstr("ballast_trouble{of=\"sink\"} 1"));
  EXPECT_TRUE(weighted());
  plane()->must("PATCH", role, {{"rules", rules}}, kube::kMergePatch);
  EXPECT_TRUE(eventually([&] { return kube::text_at(status(*agent_), {"trouble"}).empty(); }))
      << agent_->log();
  EXPECT_EQ(load_->stop(), 0U) << "requests failed";
}

TEST_F(WholeTest, AWrongCertificateIsNamed) {
  const fs::path other = plane()->folder() / "other.crt";
  const Ended made =
      plane()->run({"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "1", "-subj", "/CN=other", "-keyout",
                    (plane()->folder() / "other.key").string(), "-out", other.string()},
                   seconds(20));
  ASSERT_EQ(made.code, 0) << made.output;
  agent_ = start_agent({.ca = other});
  ASSERT_NE(agent_, nullptr);
  EXPECT_TRUE(eventually([&] { return !kube::text_at(status(*agent_), {"trouble"}).empty(); }));
  EXPECT_THAT(kube::text_at(status(*agent_), {"trouble"}), HasSubstr("certificate"));
  EXPECT_THAT(agent_->log(), HasSubstr("certificate"));
}

}  // namespace
}  // namespace ballast::mesh
