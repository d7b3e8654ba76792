// SPDX-License-Identifier: Apache-2.0
//
// What happens in a cluster every day, under load: pods that come, go and restart, and a control plane that
// is away, forgets or refuses.
#include <signal.h>

#include <atomic>
#include <cmath>
#include <thread>
#include <tuple>
#include <utility>

#include "tools/lab/http.h"
#include "whole_test.h"

namespace ballast::mesh {
namespace {

using std::chrono::seconds;
using std::chrono::steady_clock;
using testing::HasSubstr;

/// Every one of `pods` pods is replaced, five at a time; requests that failed meanwhile.
std::uint64_t roll(Node& node, Load& load, std::size_t pods) {
  constexpr std::size_t kSurge = 5;
  const std::uint64_t before = load.failed_so_far();
  std::vector<std::string> old = node.pods();
  for (std::size_t i = 0; i < pods; i += kSurge) {
    for (std::size_t j = 0; j < kSurge; ++j) {
      node.add_pod("web", {.cpus = 0});
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    const auto first = old.begin() + static_cast<long>(i);
    node.remove_pods({first, first + kSurge});
  }
  std::this_thread::sleep_for(seconds(1));
  return load.failed_so_far() - before;
}

/// Half of the pods are evicted at once and come again elsewhere; requests that failed meanwhile.
std::uint64_t drain(Node& node, Load& load) {
  const std::uint64_t before = load.failed_so_far();
  std::vector<std::string> evicted = node.pods();
  evicted.resize(evicted.size() / 2);
  node.remove_pods(evicted);
  for (std::size_t i = 0; i < evicted.size(); ++i) {
    node.add_pod("web", {.cpus = 0});
  }
  std::this_thread::sleep_for(seconds(2));
  return load.failed_so_far() - before;
}

/// Four of six pods go, and their programs end at once: what is under way and what comes before proxies are
/// told fails, with plain Istio too. Requests that failed meanwhile.
std::uint64_t scale_down(Node& node, Load& load) {
  const std::uint64_t before = load.failed_so_far();
  std::vector<std::string> leaving = node.pods();
  leaving.resize(4);
  node.end_pods(leaving);
  std::this_thread::sleep_for(seconds(2));
  const std::uint64_t failed = load.failed_so_far() - before;
  for (int i = 0; i < 4; ++i) {
    node.add_pod("web", {.cpus = 0});
  }
  std::this_thread::sleep_for(seconds(2));
  return failed;
}

class ChurnTest : public WholeTest {
 protected:
  /// Pods end a second after they have left: where the writer has no core for so long, requests fail for
  /// that.
  void SetUp() override {
    WholeTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    if (const auto why = too_busy()) {
      GTEST_SKIP() << "*** SKIPPED, " << *why;
    }
  }
  static constexpr double kPerSecond = 100;
  /// `churn`, which gives how many requests failed, with plain Istio and with Ballast, in two pairs whatever
  /// the first gives; the second of a pair is the first of the next.
  /// `luck`: some fail in both arms for what no proxy can know, so a difference counts that chance makes once
  /// in a hundred times.
  template <typename Churn>
  void beside_plain_istio(const char* what, int pods, Churn churn, int pairs = 2, bool luck = false) {
    start_web(pods);
    ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
    load_ = Load::start(kPerSecond, 3600, 0.3);
    std::uint64_t without = 0;
    std::uint64_t ours = 0;
    for (int arm = 0; arm < 2 * pairs; ++arm) {
      // Plain, ours, ours, plain, ...
      const bool ballast = arm % 4 == 1 || arm % 4 == 2;
      if (!ballast) {
        agent_.reset();
        ASSERT_TRUE(eventually([&] { return plain(); }));
        std::this_thread::sleep_for(seconds(1));
      } else {
        ASSERT_NO_FATAL_FAILURE(start_ours());
        ASSERT_TRUE(eventually([&] { return weighted(); }, kPatience)) << agent_->log();
      }
      const std::uint64_t before = load_->snapshot().done;
      (ballast ? ours : without) += churn();
      std::printf("%s of %d pods, arm %d: plain Istio %lu failed, Ballast %lu failed; %lu requests\n", what,
                  pods, arm + 1, without, ours, load_->snapshot().done - before);
    }
    const double spare = luck ? 2.33 * std::sqrt(static_cast<double>(without + ours)) : 0;
    figure("failed", static_cast<double>(ours));
    figure("failed_plain_istio", static_cast<double>(without));
    figure("failed_spare", spare);
    EXPECT_LE(static_cast<double>(ours), static_cast<double>(without) + spare)
        << (agent_ != nullptr ? agent_->log() : "");
  }
  void start_ours() {
    if (agent_ == nullptr) {
      agent_ = start_agent();
      ASSERT_NE(agent_, nullptr);
    }
  }
  void expect_weighted(std::size_t pods) {
    ASSERT_NO_FATAL_FAILURE(start_ours());
    EXPECT_TRUE(eventually([&] { return weighted(); })) << agent_->log();
    EXPECT_TRUE(eventually([&] { return proxy_->weights(kWeb).size() == pods; }));
    load_->stop();
  }
};

TEST_F(ChurnTest, ARollingUpdateOf20PodsLosesNoMoreThanPlainIstio) {
  beside_plain_istio("rolling update", 20, [this] { return roll(*node_, *load_, 20); });
  expect_weighted(20);
}

TEST_F(ChurnTest, ADrainedNodeLosesNoMoreThanPlainIstio) {
  beside_plain_istio("drain of half", 8, [this] { return drain(*node_, *load_); });
  expect_weighted(8);
}

/// What fails is a matter of milliseconds here, in both arms; tools/bench/mesh.sh compares nine pairs.
TEST_F(ChurnTest, AScaleDownOfPodsThatExitAtOnceLosesWhatPlainIstioLoses) {
  if (const Status own = node_->leave_slices_to_the_controller(); !own) {
    GTEST_SKIP() << "*** SKIPPED: " << own.error().message;
  }
  beside_plain_istio(
      "scale-down of 4", 6, [this] { return scale_down(*node_, *load_); }, asked("BALLAST_MESH_PAIRS", 1),
      true);
  expect_weighted(6);
}

/// From the middle of a rolling update on the API server takes no entry of ours any more.
TEST_F(ChurnTest, ARollingUpdateWhoseWritesAreRefusedHalfWayLosesNoMoreThanPlainIstio) {
  static constexpr const char* kWriter = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ballast-writer";
  const Json rules = plane()->must("GET", kWriter).at("rules");
  Json fewer = rules;
  for (Json& rule : fewer) {
    if (kube::at(rule, {"resources"}).dump().find("serviceentries") != std::string::npos) {
      rule["verbs"] = {"get", "list", "watch", "delete"};
    }
  }
  beside_plain_istio(
      "rolling update, refused half way", 20,
      [&] {
        const std::uint64_t before = load_->failed_so_far();
        roll(*node_, *load_, 10);
        plane()->must("PATCH", kWriter, {{"rules", fewer}}, kube::kMergePatch);
        roll(*node_, *load_, 10);
        // Handed back, for want of the right: nothing of ours is in the way, and the right is named.
        EXPECT_TRUE(eventually([&] { return plain() && proxy_->weights(kWeb).size() == 20; }));
        if (agent_ != nullptr) {
          const std::string trouble = kube::text_at(status(*agent_), {"trouble"});
          EXPECT_THAT(trouble, HasSubstr("shop/web was handed back to the plain Service: PUT"));
          EXPECT_THAT(trouble, HasSubstr("403 (permission missing"));
        }
        const std::uint64_t failed = load_->failed_so_far() - before;
        plane()->must("PATCH", kWriter, {{"rules", rules}}, kube::kMergePatch);
        return failed;
      },
      asked("BALLAST_MESH_PAIRS", 1));
}

/// istiod asks an API server that was away again after longer and longer: the last of its watches is back a
/// minute or more later.
constexpr seconds kIstiodIsBack{240};

/// While nobody can be told, what ends is sent to, by plain Istio too: its proxies know what istiod knew.
/// What is under way at a pod in the moment in which it ends is luck, in both arms. Takes minutes, so
/// tools/bench/mesh.sh names for how long it is away.
TEST_F(ChurnTest, PodsThatEndWhileTheApiServerIsAwayLoseNoMoreThanPlainIstio) {
  const int away_s = asked("BALLAST_MESH_PODS_END_S", 0);
  if (away_s == 0) {
    GTEST_SKIP() << "*** SKIPPED: tools/bench/mesh.sh --only pods_end runs it (BALLAST_MESH_PODS_END_S)";
  }
  // Over the same pods, and not managed: istiod's watches are back when they are, for both.
  static const std::string kPlainHost = "unmanaged.shop.svc.cluster.local";
  static const std::string kSlices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
  static const std::string kEntries = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries";
  node_->add_service("unmanaged", "");
  bool copied = false;
  const auto copy_slice = [&] {
    const Json endpoints = plane()->must("GET", kSlices + "/web-slice").at("endpoints");
    if (std::exchange(copied, true)) {
      plane()->must("PATCH", kSlices + "/unmanaged-slice", {{"endpoints", endpoints}}, kube::kMergePatch);
    } else {
      plane()->must(
          "POST", kSlices,
          {{"metadata",
            {{"name", "unmanaged-slice"}, {"labels", {{"kubernetes.io/service-name", "unmanaged"}}}}},
           {"addressType", "IPv4"},
           {"ports", Json::array({{{"name", "http"}, {"port", 8080}, {"protocol", "TCP"}}})},
           {"endpoints", endpoints}});
    }
  };
  beside_plain_istio(
      "API server away while two end", 6,
      [&] {
        copy_slice();
        EXPECT_TRUE(eventually([&] { return proxy_->weights(kPlainHost).size() == 6; }));
        const std::uint64_t before = load_->failed_so_far();
        plane()->api_server().signal(SIGKILL);
        plane()->api_server().wait(seconds(5));
        std::vector<std::string> ended = node_->pods();
        ended.resize(2);
        for (const std::string& pod : ended) {
          std::this_thread::sleep_for(seconds(away_s) / 3);
          node_->end_process(pod);
        }
        std::this_thread::sleep_for(seconds(away_s) / 3);
        EXPECT_TRUE(plane()->start_api_server().ok());
        const auto back = steady_clock::now();
        std::vector<std::string> dead;
        for (const std::string& pod : ended) {
          dead.push_back(node_->address(pod));
          node_->remove_pod(pod);
          node_->add_pod("web", {.cpus = 0});
        }
        copy_slice();
        const auto gone_from = [&](const std::string& host) {
          const auto weights = proxy_->weights(host);
          return !weights.empty() && std::none_of(dead.begin(), dead.end(), [&](const std::string& address) {
            return weights.contains(address);
          });
        };
        double ours_s = -1;
        double plain_s = -1;
        EXPECT_TRUE(eventually(
            [&] {
              ours_s = ours_s < 0 && gone_from(kWeb) ? seconds_since(back) : ours_s;
              plain_s = plain_s < 0 && gone_from(kPlainHost) ? seconds_since(back) : plain_s;
              return ours_s >= 0 && plain_s >= 0;
            },
            kIstiodIsBack));
        std::printf(
            "API server back -> who ended is gone from Envoy: %.1f s, from a Service that is not managed "
            "%.1f "
            "s (%s)\n",
            ours_s, plain_s, agent_ != nullptr ? "Ballast" : "plain Istio");
        // istiod's watch of ServiceEntries may be back long after that of slices: which comes first is its
        // luck.
        figure(agent_ != nullptr ? "gone_late_s" : "gone_late_plain_istio_s", ours_s - plain_s);
        EXPECT_TRUE(eventually(
            [&] {
              const auto weights = proxy_->weights(kWeb);
              const auto pods = node_->pods();
              return weights.size() == pods.size() &&
                     std::all_of(pods.begin(), pods.end(), [&](const std::string& pod) {
                       return weights.contains(node_->address(pod));
                     });
            },
            kIstiodIsBack));
        const std::uint64_t failed = load_->failed_so_far() - before;
        // Its watches come back one by one, and an agent that begins before that of ServiceEntries has would
        // take it for one that does not take them.
        plane()->must("POST", kEntries,
                      {{"apiVersion", "networking.istio.io/v1"},
                       {"kind", "ServiceEntry"},
                       {"metadata", {{"name", "heard"}}},
                       {"spec",
                        {{"hosts", {"heard.example.com"}},
                         {"resolution", "STATIC"},
                         {"ports", Json::array({{{"number", 80}, {"name", "http"}, {"protocol", "HTTP"}}})},
                         {"endpoints", Json::array({{{"address", "10.77.9.9"}}})}}}});
        EXPECT_TRUE(eventually([&] { return !proxy_->weights("heard.example.com").empty(); }, kIstiodIsBack));
        plane()->must("DELETE", kEntries + "/heard");
        return failed;
      },
      2, true);
}

TEST_F(WholeTest, AContainerRestartedInPlaceIsMeasuredAnew) {
  start_web(2);
  agent_ = start_agent();
  ASSERT_NE(agent_, nullptr);
  load_ = start_light_load(400);
  ASSERT_TRUE(eventually([&] { return weighted(); })) << agent_->log();
  const std::string pod = node_->pods()[0];
  const std::string before = node_->cgroup(pod);
  node_->set_ready(pod, false);
  std::this_thread::sleep_for(seconds(1));
  node_->restart_in_place(pod);
  node_->set_ready(pod, true);
  ASSERT_NE(node_->cgroup(pod), before);
  const bool measured = eventually([&] {
    const Json rows = Json::parse(agent_->ctl({"requests", "-o", "json"}).output, nullptr, false);
    return std::any_of(rows.begin(), rows.end(), [&](const Json& row) {
      return kube::text_at(row, {"cgroup"}) == node_->cgroup(pod) && kube::text_at(row, {"pod"}) == pod &&
             kube::text_at(row, {"service"}) == "web" && kube::at(row, {"requests"}) > 20;
    });
  });
  EXPECT_TRUE(measured) << agent_->ctl({"requests"}).output << agent_->log();
  EXPECT_EQ(proxy_->weights(kWeb).size(), 2U);
  EXPECT_EQ(load_->stop(), 0U) << "requests failed";
}

TEST_F(WholeTest, IstiodRestartedAndTrafficGoesOn) {
  ASSERT_NO_FATAL_FAILURE(start_weighted(400));
  plane()->istiod().signal(SIGKILL);
  plane()->istiod().wait(seconds(5));
  std::this_thread::sleep_for(seconds(3));
  ASSERT_TRUE(plane()->start_istiod().ok());
  // A pod that comes now is told to Envoy through the new istiod.
  node_->add_pod("web", {.cpus = 0.05});
  EXPECT_TRUE(eventually([&] { return proxy_->weights(kWeb).size() == 5; })) << agent_->log();
  EXPECT_TRUE(eventually([&] { return weighted(); })) << agent_->log();
  EXPECT_EQ(load_->stop(), 0U) << "requests failed";
}

/// Makes etcd forget all versions before now, so that every watch that resumes is too old.
void compact() {
  const auto client =
      kube::Client::create({.server = "http://127.0.0.1:2379", .ca_file = "", .token_file = ""});
  ASSERT_TRUE(client.ok());
  const auto post = [&](const char* path, const Json& body) {
    const auto reply = (*client)->call({.method = "POST", .path = path, .body = body.dump()});
    EXPECT_TRUE(reply.ok() && reply->ok()) << path << (reply.ok() ? reply->body : reply.error().message);
    return reply.ok() ? reply->json() : Json();
  };
  const Json range = post("/v3/kv/range", {{"key", "AA=="}});
  post("/v3/kv/compaction", {{"revision", kube::text_at(range, {"header", "revision"})}, {"physical", true}});
}

TEST_F(WholeTest, TheApiServerAwayEtcdRestartedAndEveryWatchExpired) {
  ASSERT_NO_FATAL_FAILURE(start_weighted(400));
  const auto begun = steady_clock::now();
  plane()->api_server().signal(SIGKILL);
  plane()->api_server().wait(seconds(5));
  EXPECT_TRUE(eventually([&] { return !kube::text_at(status(*agent_), {"trouble"}).empty(); }))
      << "an API server that is away is told";
  plane()->etcd().stop(seconds(5));
  ASSERT_TRUE(plane()->start_etcd().ok());
  std::this_thread::sleep_for(seconds(1));
  compact();
  while (seconds_since(begun) < asked("BALLAST_MESH_AWAY_S", 12)) {
    std::this_thread::sleep_for(seconds(1));
  }
  EXPECT_TRUE(weighted()) << "what is in force stays in force";
  ASSERT_TRUE(plane()->start_api_server().ok());
  const double away_s = seconds_since(begun);
  const auto back = steady_clock::now();
  // Membership and weights follow again.
  node_->add_pod("web", {.cpus = 0.05});
  double plain_s = 0;
  const bool followed = eventually(
      [&] {
        plain_s = plain_s == 0 && proxy_->weights(kWeb).size() == 5 ? seconds_since(back) : plain_s;
        return plain_s > 0 && weighted() && proxy_->weights(kWeb).size() == 5;
      },
      seconds(60));
  EXPECT_TRUE(followed) << agent_->log();
  const double followed_s = seconds_since(back);
  EXPECT_TRUE(eventually([&] { return kube::text_at(status(*agent_), {"trouble"}).empty(); }))
      << agent_->log();
  const std::uint64_t failed = load_->stop();
  std::printf(
      "API server away for %.0f s, etcd restarted and compacted: a new pod in Envoy %.1f s after (plain "
      "Service: %.1f s), %lu requests failed\n",
      away_s, followed_s, plain_s, failed);
  EXPECT_EQ(failed, 0U);
}

TEST_F(WholeTest, AStormOf429LeavesTrafficAsItIs) {
  ASSERT_NO_FATAL_FAILURE(start_weighted(400));
  // The API server itself refuses everything that our service account asks for.
  const std::string flow = "/apis/flowcontrol.apiserver.k8s.io/v1";
  plane()->must("POST", flow + "/prioritylevelconfigurations",
                {{"metadata", {{"name", "nothing"}}},
                 {"spec",
                  {{"type", "Limited"},
                   {"limited",
                    {{"nominalConcurrencyShares", 0},
                     {"lendablePercent", 0},
                     {"borrowingLimitPercent", 0},
                     {"limitResponse", {{"type", "Reject"}}}}}}}});
  plane()->must("POST", flow + "/flowschemas",
                {{"metadata", {{"name", "storm"}}},
                 {"spec",
                  {{"matchingPrecedence", 2},
                   {"priorityLevelConfiguration", {{"name", "nothing"}}},
                   {"rules", Json::array({{{"subjects", Json::array({{{"kind", "ServiceAccount"},
                                                                      {"serviceAccount",
                                                                       {{"name", "ballast-global"},
                                                                        {"namespace", "ballast-system"}}}}})},
                                           {"resourceRules", Json::array({{{"verbs", {"*"}},
                                                                           {"apiGroups", {"*"}},
                                                                           {"resources", {"*"}},
                                                                           {"clusterScope", true},
                                                                           {"namespaces", {"*"}}}})}}})}}}});
  // One request at a time would still be let through: somebody else of the same account is always there.
  std::atomic<bool> over{false};
  std::vector<std::thread> crowd;
  const fs::path token = plane()->account_token("ballast-global");
  for (int i = 0; i < 4; ++i) {
    crowd.emplace_back([&] {
      kube::ClientOptions options = plane()->options(token);
      options.retry_budget = std::chrono::milliseconds(0);
      const auto client = kube::Client::create(options);
      while (!over) {
        std::ignore = (*client)->call({.path = "/api/v1/pods"});
      }
    });
  }
  const bool told = eventually(
      [&] { return kube::text_at(status(*agent_), {"trouble"}).find("429") != std::string::npos; });
  std::this_thread::sleep_for(seconds(3));
  const bool kept = weighted();
  over = true;
  for (auto& thread : crowd) {
    thread.join();
  }
  plane()->status_of("DELETE", flow + "/flowschemas/storm");
  plane()->status_of("DELETE", flow + "/prioritylevelconfigurations/nothing");
  EXPECT_TRUE(told) << kube::text_at(status(*agent_), {"trouble"}) << "\n" << agent_->log();
  EXPECT_TRUE(kept) << "what is in force stays in force";
  EXPECT_TRUE(eventually([&] { return kube::text_at(status(*agent_), {"trouble"}).empty(); }))
      << agent_->log();
  node_->add_pod("web", {.cpus = 0.05});
  EXPECT_TRUE(eventually([&] { return proxy_->weights(kWeb).size() == 5; })) << agent_->log();
  EXPECT_EQ(load_->stop(), 0U) << "requests failed";
}

}  // namespace
}  // namespace ballast::mesh
