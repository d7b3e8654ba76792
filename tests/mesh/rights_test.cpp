// SPDX-License-Identifier: Apache-2.0
//
// The manifests before a real API server, and their rights: all of them are enough, none is too many.
#include <fmt/format.h>

#include <fstream>

#include "agent/actuate/istio/writer.h"
#include "agent/identity/kubernetes_source.h"
#include "whole_test.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

constexpr const char* kRoles = "/apis/rbac.authorization.k8s.io/v1/clusterroles/ballast";
constexpr const char* kLeaseRoles =
    "/apis/rbac.authorization.k8s.io/v1/namespaces/ballast-system/roles/ballast";

class RightsTest : public WholeTest {
 protected:
  struct Right {
    std::string role;  ///< path of the role
    std::string group;
    std::string resource;
    std::string verb;
    std::string text() const { return verb + " " + resource; }
  };

  /// Every single right that the manifests give.
  std::vector<Right> rights() {
    std::vector<Right> all;
    for (const char* role : {kRoles, kLeaseRoles}) {
      const Json object = plane()->must("GET", role);
      for (const Json& rule : kube::at(object, {"rules"})) {
        for (const Json& resource : rule.at("resources")) {
          for (const Json& verb : rule.at("verbs")) {
            all.push_back({role, rule.at("apiGroups").at(0), resource, verb});
          }
        }
      }
    }
    return all;
  }
  /// The role's rules without one right.
  static Json without(const Json& rules, const Right& right) {
    Json left = Json::array();
    for (const Json& rule : rules) {
      for (const Json& resource : rule.at("resources")) {
        Json verbs = Json::array();
        for (const Json& verb : rule.at("verbs")) {
          if (resource != right.resource || verb != right.verb) {
            verbs.push_back(verb);
          }
        }
        if (!verbs.empty()) {
          left.push_back({{"apiGroups", rule.at("apiGroups")},
                          {"resources", Json::array({resource})},
                          {"verbs", verbs}});
        }
      }
    }
    return left;
  }
  bool allowed(const Right& right) {
    const bool lease = right.role == kLeaseRoles;
    const Json answer = plane()->must("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews",
                                      {{"spec",
                                        {{"user", "system:serviceaccount:ballast-system:ballast"},
                                         {"resourceAttributes",
                                          {{"group", right.group},
                                           {"resource", right.resource},
                                           {"verb", right.verb},
                                           {"namespace", lease ? "ballast-system" : "shop"}}}}}});
    return kube::at(answer, {"status", "allowed"}) == true;
  }

  /// One life of what talks to the API server: who is on the node, adoption, a change of weight, a release by
  /// hand, handing back. What was refused on the way, or "" when nothing was.
  std::string life(bool released_by_hand = true) {
    plane()->status_of("DELETE", kLease);
    std::string refused;
    const auto noted = [&](const std::string& trouble) {
      refused = refused.empty() && trouble.find(": 403") != std::string::npos ? trouble : refused;
      return !refused.empty();
    };
    identity::KubernetesOptions who{.api = api(), .node = node_->name()};
    auto pods = identity::KubernetesSource::create(who, clock_);
    actuate::IstioOptions options{.api = api()};
    options.lease.holder = "rights";
    options.lease.duration_s = 3;  // renewed three times in two seconds
    options.active = true;
    options.quiet = milliseconds(20);
    options.apart = milliseconds(20);
    options.settle = milliseconds(50);
    auto sink = actuate::IstioSink::create(std::move(options));
    EXPECT_TRUE(pods.ok() && sink.ok());
    const auto stands = [&](auto done) {
      eventually([&] { return noted((*pods)->trouble()) || noted((*sink)->trouble()) || done(); },
                 seconds(5));
      return refused.empty();
    };
    EXPECT_TRUE((*sink)->publish(weights({1, 1})).ok());
    bool whole = stands([&] { return (*pods)->synced() && route_status() == 200; });
    if (whole) {
      const auto changed = weights({2, 1});
      EXPECT_TRUE((*sink)->publish(changed).ok());
      whole = stands([&] { return written() == expected(changed); });
    }
    // A watch that is refused says so after its list, an Event after its write, a renewal in its time.
    whole = whole && (eventually([&] { return noted((*pods)->trouble()) || noted((*sink)->trouble()); },
                                 milliseconds(900)),
                      refused.empty());
    if (whole && released_by_hand) {
      auto client = kube::Client::create(api());
      const auto released =
          actuate::istio::release_by_hand(**client, "ballast-system", "ballast-leader", "shop/web");
      noted(released ? "" : released.error().message);
    }
    if (refused.empty()) {
      (*sink)->flush();
      noted((*sink)->trouble());
    }
    return refused;
  }
  std::map<std::string, std::uint32_t> written() {
    std::map<std::string, std::uint32_t> out;
    for (const Json& endpoint : entry_endpoints("web")) {
      out[kube::text_at(endpoint, {"address"})] = kube::at(endpoint, {"weight"}).get<std::uint32_t>();
    }
    return out;
  }
  kube::ClientOptions api() {
    kube::ClientOptions options = plane()->options(token_);
    options.retry_budget = milliseconds(1000);
    return options;
  }

  fs::path token_;
  SystemClock clock_;
};

TEST_F(RightsTest, TheApiServerTakesEveryOverlay) {
  std::size_t overlays = 0;
  for (const auto& entry : fs::directory_iterator(repository() / "deploy/daemonset/overlays")) {
    const Ended dry = plane()->kubectl({"apply", "--dry-run=server", "-k", entry.path().string()});
    EXPECT_EQ(dry.code, 0) << entry.path() << "\n" << dry.output;
    EXPECT_THAT(dry.output, HasSubstr("daemonset.apps/ballastd"));
    ++overlays;
  }
  const Ended job = plane()->kubectl(
      {"apply", "--dry-run=server", "-k", (repository() / "deploy/daemonset/uninstall").string()});
  EXPECT_EQ(job.code, 0) << job.output;
  std::printf("overlays taken by the API server: %zu, and the uninstall job\n", overlays);
}

TEST_F(RightsTest, EveryRightIsNeededAndAllAreEnough) {
  start_web(2);
  token_ = plane()->account_token("ballast");
  EXPECT_EQ(life(), "") << "with all rights";
  EXPECT_EQ(route_status(), 404);
  EXPECT_EQ(entry_status(), 404);
  std::size_t needed = 0;
  for (const Right& right : rights()) {
    const Json role = plane()->must("GET", right.role);
    plane()->must("PATCH", right.role, {{"rules", without(role.at("rules"), right)}}, kube::kMergePatch);
    EXPECT_TRUE(eventually([&] { return !allowed(right); }));
    // Two seconds each: only where it is the one that needs the right.
    const std::string refused = life(right.verb == "delete" || right.verb == "patch");
    EXPECT_THAT(refused, HasSubstr("403 (permission missing")) << "nobody needs: " << right.text();
    // Its own words: 'cannot VERB resource "RESOURCE"'.
    EXPECT_THAT(refused, HasSubstr(fmt::format("cannot {} resource \"{}\"", right.verb, right.resource)));
    needed += refused.empty() ? 0 : 1;
    plane()->must("PATCH", right.role, {{"rules", role.at("rules")}}, kube::kMergePatch);
    EXPECT_TRUE(eventually([&] { return allowed(right); }));
    for (const char* kind : {"virtualservices", "serviceentries"}) {
      plane()->status_of("DELETE", std::string("/apis/networking.istio.io/v1/namespaces/shop/") + kind);
    }
  }
  std::printf("rights in the manifests: %zu, of which a life without is refused and named: %zu\n",
              rights().size(), needed);
}

}  // namespace
}  // namespace ballast::mesh
