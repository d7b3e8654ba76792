// SPDX-License-Identifier: Apache-2.0
// Whose the pods of a node are, without EndpointSlices: the same as with them, written here as Kubernetes'
// own controller writes them (pkg/controller/util/endpoint, staging/src/k8s.io/endpointslice).
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <mutex>

#include "agent/identity/kubernetes_source.h"
#include "core/base/file.h"
#include "scripted_server.h"

namespace ballast::identity {
namespace {

namespace fs = std::filesystem;
using kube::Json;
using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kAllSlices = "/apis/discovery.k8s.io/v1/endpointslices";
constexpr const char* kManual = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

std::string uid_of(int number) {
  return "00000000-0000-0000-0000-" + std::to_string(100000000000 + number);
}
std::string container_of(int number) {
  const std::string digits = std::to_string(number);
  return std::string(64 - digits.size(), 'a') + digits;
}

class OwnPods : public ::testing::Test {
 protected:
  OwnPods()
      : root_(std::move(*TempDir::create(fs::temp_directory_path(), "ballast-own-"))),
        server_([this](const auto& asked) { return said(asked); }) {}
  ~OwnPods() override { over_ = true; }

  /// A pod of this node with one container, in the API and as a cgroup; ready.
  Json& pod(const std::string& app, const Json& ports = Json::array()) {
    const int number = static_cast<int>(pods_.size());
    const std::string name = "pod-" + std::to_string(number);
    fs::create_directories(root_.path() / "kubepods" / ("pod" + uid_of(number)) / container_of(number));
    const std::string address = "10.1.0." + std::to_string(1 + number);
    return pods_.emplace_back(
        Json{{"metadata",
              {{"namespace", "shop"},
               {"name", name},
               {"uid", uid_of(number)},
               {"labels", {{"app", app}, {"v", "1"}}}}},
             {"spec", {{"containers", {{{"name", "app"}, {"ports", ports}}}}}},
             {"status",
              {{"phase", "Running"},
               {"podIP", address},
               {"podIPs", {{{"ip", address}}}},
               {"conditions", {{{"type", "Ready"}, {"status", "True"}}}},
               {"containerStatuses",
                {{{"name", "app"}, {"containerID", "containerd://" + container_of(number)}}}}}}});
  }
  static Json tcp(const std::string& name, int number) {
    return {{"name", name}, {"containerPort", number}, {"protocol", "TCP"}};
  }
  Json& service(const std::string& name, const Json& selector, const Json& ports,
                const std::string& mode = "active") {
    Json& made = services_.emplace_back(Json{
        {"metadata", {{"namespace", "shop"}, {"name", name}, {"labels", {{"ballast.dev/mode", mode}}}}},
        {"spec",
         {{"type", "ClusterIP"}, {"clusterIP", "10.0.0.1"}, {"ipFamilies", {"IPv4"}}, {"ports", ports}}}});
    if (!selector.is_null()) {
      made["spec"]["selector"] = selector;
    }
    return made;
  }
  static Json port(const Json& target, const std::string& name = "http", int number = 80) {
    return {{"name", name}, {"port", number}, {"protocol", "TCP"}, {"targetPort", target}};
  }
  struct In {
    int pod = 0;
    bool ready = true;
    std::string address{};  ///< empty: as the pod has it
  };
  /// A slice of the Service: pods with one list of ports. One that is at `far` is on another node.
  void slice(const std::string& service, const Json& ports, const std::vector<In>& pods, bool far = false,
             const std::string& family = "IPv4") {
    Json endpoints = Json::array();
    for (const In& in : pods) {
      const std::string own = "10.1.0." + std::to_string(1 + in.pod);
      endpoints.push_back(
          {{"addresses", {in.address.empty() ? own : in.address}},
           {"conditions", {{"ready", in.ready}}},
           {"targetRef",
            {{"kind", "Pod"}, {"name", "pod-" + std::to_string(in.pod)}, {"uid", uid_of(in.pod)}}}});
    }
    if (far) {
      endpoints.push_back({{"addresses", {"10.2.0.9"}},
                           {"conditions", {{"ready", true}}},
                           {"targetRef", {{"kind", "Pod"}, {"name", "elsewhere"}, {"uid", "far"}}}});
    }
    slices_.push_back({{"metadata",
                        {{"namespace", "shop"},
                         {"name", service + "-" + std::to_string(slices_.size())},
                         {"labels", {{"kubernetes.io/service-name", service}}}}},
                       {"addressType", family},
                       {"ports", ports},
                       {"endpoints", endpoints}});
  }
  static Json at_port(int number, const std::string& name = "http") {
    return {{"name", name}, {"port", number}, {"protocol", "TCP"}};
  }

  std::unique_ptr<KubernetesSource> source(bool own_alone) {
    auto made = KubernetesSource::create(
        {.api = {.server = server_.url()}, .node = "n1", .cgroup_root = root_.path(), .own_alone = own_alone},
        clock_);
    EXPECT_TRUE(made.ok());
    return std::move(*made);
  }
  static bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 1000 && !condition(); ++i) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    return condition();
  }
  /// What such a source makes of the pods of this node: "NAME SERVICE ADDRESS:PORT".
  std::vector<std::string> own(bool own_alone) {
    over_ = false;
    const auto from = source(own_alone);
    EXPECT_TRUE(eventually([&] { return from->synced(); })) << from->trouble();
    std::vector<std::string> out;
    for (const Pod& one : from->pods()) {
      if (one.local) {
        out.push_back(one.pod + " " + one.service + " " + one.address + ":" + std::to_string(one.port) +
                      (one.declared ? "" : " undeclared"));
      }
    }
    over_ = true;
    return out;
  }
  std::vector<std::string> slices_asked() const {
    std::vector<std::string> out;
    for (const kube::Asked& asked : server_.asked()) {
      if (asked.target.find("endpointslices") != std::string::npos) {
        out.push_back(asked.target);
      }
    }
    return out;
  }

  static std::string list(const Json& items) {
    return kube::answer(200, Json{{"metadata", {{"resourceVersion", "5"}}}, {"items", items}}.dump());
  }
  std::string said(const kube::Asked& asked) {
    const auto of = [&](const char* path) { return asked.target.rfind(path, 0) == 0; };
    if ((of(kAllSlices) && !may_slices_) || (of(kManual) && !may_manual_)) {
      return kube::answer(403, R"({"message":"cannot list resource \"endpointslices\""})");
    }
    if (asked.target.find("watch=1") != std::string::npos) {
      while (!over_) {
        std::this_thread::sleep_for(milliseconds(5));
      }
      return "";
    }
    if (of(kManual)) {
      Json found = Json::array();
      for (const Json& one : slices_) {
        const std::string service = one["metadata"]["labels"]["kubernetes.io/service-name"];
        if (asked.target.find("service-name%3D" + service) != std::string::npos) {
          found.push_back(one);
        }
      }
      return list(found);
    }
    return list(of("/api/v1/services") ? services_ : of("/api/v1/pods") ? pods_ : slices_);
  }

  ManualClock clock_;
  TempDir root_;
  Json services_ = Json::array();
  Json pods_ = Json::array();
  Json slices_ = Json::array();
  std::atomic<bool> over_{false};
  std::atomic<bool> may_slices_{true};
  std::atomic<bool> may_manual_{true};
  kube::ScriptedServer server_;
};

/// What the controller makes of each, and one way to each answer: 0 to 13 are pods.
TEST_F(OwnPods, AreTheSameByLabelsAndSelectorsAsByEndpointSlices) {
  const Json http = Json::array({port(8080)});
  const Json declared = Json::array({tcp("http", 8080)});

  // Ready, not ready, asked to end, ended, without an address yet.
  service("web", {{"app", "web"}, {"v", "1"}}, http);
  pod("web", declared);
  pod("web", declared)["status"]["conditions"][0]["status"] = "False";
  pod("web", declared)["metadata"]["deletionTimestamp"] = "2026-11-30T00:00:00Z";
  pod("web", declared)["status"]["phase"] = "Succeeded";
  pod("web", declared)["status"].erase("podIPs");
  pods_[4]["status"].erase("podIP");
  pod("web", declared)["metadata"]["labels"]["v"] = "2";
  slice("web", Json::array({at_port(8080)}), {{0}, {1, false}, {2, false}}, true);

  // Of the same pods, those that are not ready or are ending too.
  service("early", {{"app", "web"}}, http)["spec"]["publishNotReadyAddresses"] = true;
  slice("early", Json::array({at_port(8080)}), {{0}, {1}, {2}, {5}});

  // A port by name, which each pod has elsewhere, or not at all, or not of that protocol; two slices. The
  // second port of the Service is the first that the pod has.
  service("named", {{"app", "named"}}, Json::array({port("http"), port("admin", "admin", 81)}));
  pod("named", Json::array({tcp("http", 8081)}));
  pod("named", Json::array({{{"name", "http"}, {"containerPort", 9000}, {"protocol", "UDP"}},
                            {{"name", "http"}, {"containerPort", 9001}, {"protocol", "TCP"}}}));
  pod("named", Json::array({tcp("other", 8082)}));
  pod("named", Json::array({tcp("admin", 8083)}));
  slice("named", Json::array({at_port(8081)}), {{6}});
  slice("named", Json::array({at_port(9001)}), {{7}});
  slice("named", Json::array(), {{8}});
  slice("named", Json::array({at_port(8083, "admin")}), {{9}});

  // Headless: the target is the port. Without ports nobody knows where.
  service("db", {{"app", "db"}}, Json::array({port(5432, "", 5432)}))["spec"]["clusterIP"] = "None";
  service("all-ports", {{"app", "db"}}, Json::array())["spec"]["clusterIP"] = "None";
  pod("db");
  slice("all-ports", Json::array(), {{10}});
  slice("db", Json::array({at_port(5432, "")}), {{10}});

  // Of both families the Service's first; the host's network; a sidecar of Kubernetes' own kind that serves.
  service("six", {{"app", "six"}}, Json::array({port("grpc")}))["spec"]["ipFamilies"] = {"IPv6", "IPv4"};
  Json& six = pod("six");
  six["status"]["podIPs"] = Json::array({{{"ip", "10.1.0.12"}}, {{"ip", "fd00::12"}}});
  six["spec"]["hostNetwork"] = true;
  six["spec"]["initContainers"] = Json::array(
      {{{"name", "migrate"}, {"ports", Json::array({tcp("grpc", 1)})}},
       {{"name", "mesh"}, {"restartPolicy", "Always"}, {"ports", Json::array({tcp("grpc", 9090)})}}});
  slice("six", Json::array({at_port(9090)}), {{11, true, "10.1.0.12"}});
  slice("six", Json::array({at_port(9090)}), {{11, true, "fd00::12"}}, false, "IPv6");

  // Without a selector what was made by hand says it; a name outside the cluster and one that is off say
  // nothing.
  service("manual", nullptr, http);
  pod("nobody", declared);
  slice("manual", Json::array({at_port(8443)}), {{12}});
  service("outside", {{"app", "off"}}, http)["spec"]["type"] = "ExternalName";
  service("off", {{"app", "off"}}, http, "off");
  service("shown", {{"app", "off"}}, http, "shadow");
  pod("off", declared);
  slice("off", Json::array({at_port(8080)}), {{13}});
  slice("shown", Json::array({at_port(8080)}), {{13}});

  const auto by_slices = own(false);
  EXPECT_EQ(slices_asked().empty(), false);
  const std::size_t asked = slices_asked().size();
  may_slices_ = false;
  const auto by_labels = own(true);
  EXPECT_EQ(by_labels, by_slices);
  EXPECT_THAT(by_slices, ElementsAre("pod-0 early 10.1.0.1:8080", "pod-1 early 10.1.0.2:8080",
                                     "pod-10 db 10.1.0.11:5432", "pod-11 six fd00::12:9090 undeclared",
                                     "pod-12 manual 10.1.0.13:8443", "pod-13 shown 10.1.0.14:8080",
                                     "pod-2 early 10.1.0.3:8080", "pod-3  :0", "pod-4  :0",
                                     "pod-5 early 10.1.0.6:8080", "pod-6 named 10.1.0.7:8081",
                                     "pod-7 named 10.1.0.8:9001", "pod-8  :0", "pod-9 named 10.1.0.10:8083"));
  for (std::size_t i = asked; i < slices_asked().size(); ++i) {
    EXPECT_THAT(slices_asked()[i], HasSubstr("service-name%3Dmanual")) << "of no other Service";
  }

  // And without the one that takes what is not ready.
  services_.erase(1);
  may_slices_ = true;
  const auto again = own(false);
  EXPECT_EQ(own(true), again);
  EXPECT_THAT(std::vector(again.begin(), again.begin() + 2),
              ElementsAre("pod-0 web 10.1.0.1:8080", "pod-1  :0"));
}

TEST_F(OwnPods, NeedNoRightToEndpointSlicesWhereEveryServiceHasASelector) {
  may_slices_ = may_manual_ = false;
  service("web", {{"app", "web"}}, Json::array({port(8080)}));
  // Without one and never weighed.
  service("outside", nullptr, Json::array({port(8080)}))["spec"]["type"] = "ExternalName";
  service("headless", nullptr, Json::array({port(8080)}))["spec"]["clusterIP"] = "None";
  pod("web");
  EXPECT_THAT(own(true), ElementsAre("pod-0 web 10.1.0.1:8080"));
  EXPECT_THAT(slices_asked(), ElementsAre());
}

TEST_F(OwnPods, OfAServiceWithoutASelectorAreKnownOnceTheRightIsThere) {
  may_manual_ = false;
  service("web", {{"app", "web"}}, Json::array({port(8080)}));
  service("manual", nullptr, Json::array({port(8080)}));
  service("nothing", nullptr, Json::array({port(8080)}), "off");
  pod("web");
  pod("nobody");
  slice("manual", Json::array({at_port(8080)}), {{1}});
  const auto from = source(true);
  const auto of = [&](std::size_t i) { return from->pods().size() > i ? from->pods()[i].service : "none"; };
  ASSERT_TRUE(eventually([&] { return !from->trouble().empty() && of(0) == "web"; })) << from->trouble();
  EXPECT_THAT(from->trouble(), HasSubstr("403"));
  EXPECT_THAT(from->trouble(), HasSubstr("namespaces/shop/endpointslices"));
  EXPECT_EQ(of(1), "");
  EXPECT_FALSE(from->synced());
  may_manual_ = true;
  EXPECT_TRUE(eventually([&] { return of(1) == "manual"; }));
  EXPECT_TRUE(eventually([&] { return from->trouble().empty() && from->synced(); })) << from->trouble();
  over_ = true;
}

}  // namespace
}  // namespace ballast::identity
