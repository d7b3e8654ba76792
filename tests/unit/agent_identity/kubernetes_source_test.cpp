// SPDX-License-Identifier: Apache-2.0
#include "agent/identity/kubernetes_source.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ballast::identity {
namespace {

using kube::Json;

const std::string kUid = "0a1b2c3d-0000-1111-2222-333344445555";

Json pod_json() {
  return {{"metadata", {{"namespace", "shop"}, {"name", "web-0"}, {"uid", kUid}}},
          {"spec",
           {{"nodeName", "n1"},
            {"hostNetwork", true},
            {"initContainers", {{{"name", "migrate"}}, {{"name", "mesh"}, {"restartPolicy", "Always"}}}},
            {"containers",
             {{{"name", "istio-proxy"}, {"ports", {{{"containerPort", 15090}}}}},
              {{"name", "log"}},
              {{"name", "app"}, {"ports", {{{"containerPort", 8080}}}}}}}}},
          {"status",
           {{"initContainerStatuses", {{{"name", "mesh"}, {"containerID", "cri-o://m"}}}},
            {"containerStatuses",
             {{{"name", "app"}, {"containerID", "containerd://a"}},
              {{"name", "log"}, {"containerID", "containerd://l"}},
              {{"name", "istio-proxy"}, {"containerID", "containerd://p"}}}}}}};
}

kube::Service web(const std::string& mode = "active") {
  kube::Service service;
  service.ns = "shop";
  service.name = "web";
  service.mode = mode;
  service.ports = {{"http", 80, "TCP", ""}};
  service.endpoints = {
      {.address = "10.0.0.1", .pod = "web-0", .uid = kUid, .ready = true, .ports = {{"http", 8080}}},
      {.address = "10.0.0.2", .pod = "web-1", .uid = "far", .ready = true, .ports = {{"http", 8080}}},
      {.address = "10.0.0.3", .pod = "web-2", .uid = "unready", .ready = false, .ports = {{"http", 8080}}}};
  return service;
}

Pod cgroup(std::uint64_t id, const std::string& path, const std::string& container) {
  Pod entry;
  entry.cgroup_id = id;
  entry.cgroup = path;
  entry.pod = kUid;
  entry.container = container;
  return entry;
}

const Pod* find(const std::vector<Pod>& pods, const std::string& container) {
  for (const Pod& pod : pods) {
    if (pod.container == container) {
      return &pod;
    }
  }
  return nullptr;
}

std::vector<Pod> cgroups() {
  return {cgroup(7, "/k/p/a", "a"), cgroup(8, "/k/p/a/below", "a"), cgroup(9, "/k/p/p", "p"),
          cgroup(10, "/k/p/l", "l"), cgroup(11, "/k/p/m", "m")};
}

TEST(ParsePod, TellsSidecarsInitContainersAndHostNetwork) {
  const KubernetesPod pod = parse_pod(pod_json());
  EXPECT_TRUE(pod.host_network);
  ASSERT_EQ(pod.containers.size(), 4U) << "an init container that ends is none";
  EXPECT_TRUE(pod.containers[0].sidecar);
  EXPECT_FALSE(pod.containers[2].sidecar);
  EXPECT_EQ(pod.containers[2].id, "a");
  EXPECT_EQ(pod.containers[3].name, "mesh");
  EXPECT_FALSE(pod.containers[3].sidecar) << "one of Kubernetes' own kind may serve";
  EXPECT_EQ(pod.containers[3].id, "m");
}

TEST(ParsePod, AStaticPodIsNamedByTheHashOfItsManifest) {
  Json object = pod_json();
  object["metadata"]["annotations"]["kubernetes.io/config.hash"] = "0123456789abcdef0123456789abcdef";
  const KubernetesPod pod = parse_pod(object);
  EXPECT_EQ(pod.uid, "0123456789abcdef0123456789abcdef");
  EXPECT_EQ(pod.object_uid, kUid);
}

TEST(ParsePod, SurvivesGarbage) {
  for (const char* text : {"3", "[]", "{}", R"({"metadata":[],"spec":{"containers":3},"status":"x"})",
                           R"({"spec":{"containers":[null,{"ports":[{"containerPort":"x"}]}]}})"}) {
    EXPECT_TRUE(parse_pod(Json::parse(text)).name.empty()) << text;
  }
}

TEST(JoinPods, TheContainerThatAnswersCarriesTheService) {
  const auto pods = join_pods({parse_pod(pod_json())}, {web()}, cgroups());
  const Pod* app = find(pods, "app");
  ASSERT_NE(app, nullptr);
  EXPECT_EQ(app->cgroup_id, 7U) << "its own cgroup, not the one below";
  EXPECT_EQ(app->service, "web");
  EXPECT_EQ(app->address, "10.0.0.1");
  EXPECT_EQ(app->port, 8080);
  EXPECT_TRUE(app->declared);
  for (const char* other : {"log", "mesh"}) {  // ports need not be declared: what is measured decides
    ASSERT_NE(find(pods, other), nullptr) << other;
    EXPECT_EQ(find(pods, other)->service, "web") << other;
    EXPECT_FALSE(find(pods, other)->declared) << other;
  }
  ASSERT_NE(find(pods, "istio-proxy"), nullptr);
  EXPECT_EQ(find(pods, "istio-proxy")->service, "");
}

TEST(JoinPods, ReadyEndpointsElsewhereAreListedAsNotLocal) {
  const auto pods = join_pods({parse_pod(pod_json())}, {web()}, cgroups());
  ASSERT_EQ(pods.size(), 5U) << "four containers, one endpoint elsewhere, none that is not ready";
  EXPECT_FALSE(pods.back().local);
  EXPECT_EQ(pods.back().pod, "web-1");
  EXPECT_EQ(pods.back().address, "10.0.0.2");
}

TEST(JoinPods, ARestartInPlaceIsAnotherCgroup) {
  Json object = pod_json();
  object["status"]["containerStatuses"][0]["containerID"] = "containerd://a2";
  EXPECT_EQ(find(join_pods({parse_pod(object)}, {web()}, cgroups()), "app"), nullptr)
      << "its cgroup is not there yet";
  auto later = cgroups();
  later.push_back(cgroup(70, "/k/p/a2", "a2"));
  const auto pods = join_pods({parse_pod(object)}, {web()}, later);
  ASSERT_NE(find(pods, "app"), nullptr);
  EXPECT_EQ(find(pods, "app")->cgroup_id, 70U);
}

TEST(JoinPods, AServiceThatIsOffIsNotManaged) {
  for (const char* mode : {"off", "on", ""}) {
    const auto pods = join_pods({parse_pod(pod_json())}, {web(mode)}, cgroups());
    ASSERT_EQ(pods.size(), 4U);
    EXPECT_EQ(find(pods, "app")->service, "");
  }
}

}  // namespace
}  // namespace ballast::identity
