// SPDX-License-Identifier: Apache-2.0
#include "node.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <set>
#include <thread>
#include <utility>

#include "agent/kube/watch.h"
#include "tools/lab/http.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// 64 hex digits, as a container runtime draws them.
std::string draw_id() {
  static std::mt19937_64 draw{std::random_device{}()};
  return fmt::format("{:016x}{:016x}{:016x}{:016x}", draw(), draw(), draw(), draw());
}

const std::string kPods = "/api/v1/namespaces/shop/pods";
const std::string kSlices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";

std::string pod_path(const std::string& pod) {
  return kPods + "/" + pod;
}

std::string slice_path(const std::string& service) {
  return kSlices + "/" + service + "-slice";
}

void ask_to_end(ControlPlane& plane, const std::string& pod) {
  plane.must("DELETE", pod_path(pod), {{"gracePeriodSeconds", 30}});
}

}  // namespace

Node::Node(ControlPlane& plane, const std::string& name) : plane_(plane), name_(name) {
  auto layout = lab::detect_cgroup_layout();
  if (!layout) {
    ADD_FAILURE() << layout.error().message;
    return;
  }
  layout_ = std::move(*layout);
  root_ = fmt::format("ballast-mesh-{}-{}", ::getpid(), name);
  plane_.must(
      "POST", "/api/v1/nodes",
      {{"metadata",
        {{"name", name},
         {"labels", {{"topology.kubernetes.io/region", "r1"}, {"topology.kubernetes.io/zone", "z1"}}}}}});
}

Node::~Node() {
  std::vector<std::string> services;
  for (const auto& [service, written] : slices_) {
    plane_.status_of("DELETE", "/api/v1/namespaces/shop/services/" + service);
    plane_.status_of("DELETE", kSlices + "?labelSelector=kubernetes.io/service-name=" + service);
  }
  for (auto& [name, pod] : pods_) {
    plane_.status_of("DELETE", pod_path(name), {{"gracePeriodSeconds", 0}});
    pod.process.stop(milliseconds(100));
  }
  plane_.status_of("DELETE", "/api/v1/nodes/" + name_);
  lab::remove_cgroups(layout_, root_);
}

Status Node::leave_slices_to_the_controller() {
  auto controller = plane_.start_controller("endpointslice-controller");
  if (!controller) {
    return controller.error();
  }
  controller_ = std::move(*controller);
  return ok();
}

Json Node::add_service(const std::string& service, const std::string& mode) {
  Json metadata = {{"name", service}, {"labels", {{"app", service}}}};
  if (!mode.empty()) {
    metadata["labels"]["ballast.dev/mode"] = mode;
  }
  slices_[service] = false;
  return plane_.must("POST", "/api/v1/namespaces/shop/services",
                     {{"metadata", metadata},
                      {"spec",
                       {{"selector", {{"app", service}}},
                        {"ports", Json::array({{{"name", "http"}, {"port", 80}, {"targetPort", 8080}}})}}}});
}

std::string Node::add_pod(const std::string& service, const PodOptions& options) {
  static int addresses = 0;
  std::string name = fmt::format("{}-{}", service, pod_count_++);
  Pod pod;
  pod.service = service;
  pod.options = options;
  pod.ready = options.ready;
  ++addresses;
  pod.address = fmt::format("10.77.{}.{}", 1 + addresses / 200, 1 + addresses % 200);
  Json labels = {{"app", service}, {"version", "v1"}};
  labels.update(Json(options.labels));
  const Json made = plane_.must(
      "POST", kPods,
      {{"metadata", {{"name", name}, {"labels", labels}}},
       {"spec",
        {{"nodeName", options.node.empty() ? name_ : options.node},
         {"serviceAccountName", service},
         {"terminationGracePeriodSeconds", 0},
         {"containers",
          Json::array(
              {{{"name", "app"}, {"image", "app"}, {"ports", Json::array({{{"containerPort", 8080}}})}},
               {{"name", "istio-proxy"}, {"image", "proxy"}}})}}}});
  pod.uid = kube::text_at(made, {"metadata", "uid"});
  auto& kept = pods_[name] = std::move(pod);
  start_container(name, kept);
  write_slice(service);
  return name;
}

void Node::start_container(const std::string& name, Pod& pod) {
  pod.container_id = draw_id();
  auto cgroup = lab::PodCgroup::create(
      layout_, fmt::format("{}/kubepods/burstable/pod{}/{}", root_, pod.uid, pod.container_id));
  ASSERT_TRUE(cgroup.ok()) << cgroup.error().message;
  pod.cgroups.push_back(std::move(*cgroup));
  if (pod.options.cpus > 0) {
    const Status limited = pod.cgroups.back().set_quota(pod.options.cpus, 20);
    ASSERT_TRUE(limited.ok()) << limited.error().message;
  }
  if (pod.options.serve) {
    ProcessOptions options;
    options.argv = {(binary_dir().parent_path() / "ballast-lab").string(), "pod", "--listen",
                    pod.address + ":8080"};
    options.cgroups = pod.cgroups.back().folders();
    options.output = plane_.folder() / "pods.log";
    auto process = ChildProcess::spawn(options);
    ASSERT_TRUE(process.ok()) << process.error().message;
    pod.process = std::move(*process);
    ASSERT_TRUE(eventually(
        [&] {
          return lab::http_get({pod.address, 8080}, "/work?us=1", 500).ok();
        },
        seconds(20)));
  }
  write_status(name, pod);
}

void Node::write_status(const std::string& name, const Pod& pod) {
  const char* ready = pod.ready ? "True" : "False";
  const auto container = [&](const char* named, const std::string& id) {
    return Json{{"name", named},
                {"image", named},
                {"imageID", named},
                {"ready", pod.ready},
                {"restartCount", static_cast<int>(pod.cgroups.size()) - 1},
                {"containerID", "containerd://" + id},
                {"state", {{"running", {{"startedAt", "2026-11-21T00:00:00Z"}}}}}};
  };
  plane_.must("PATCH", pod_path(name) + "/status",
              {{"status",
                {{"phase", "Running"},
                 {"podIP", pod.address},
                 {"podIPs", Json::array({{{"ip", pod.address}}})},
                 {"conditions", Json::array({{{"type", "Ready"}, {"status", ready}}})},
                 {"containerStatuses", Json::array({container("app", pod.container_id),
                                                    container("istio-proxy", std::string(64, 'f'))})}}}},
              kube::kMergePatch);
}

void Node::write_slice(const std::string& service) {
  if (controller_) {
    return;
  }
  Json endpoints = Json::array();
  for (const auto& [name, pod] : pods_) {
    if (pod.service == service) {
      endpoints.push_back(
          {{"addresses", Json::array({pod.address})},
           {"nodeName", pod.options.node.empty() ? name_ : pod.options.node},
           {"zone", pod.options.node.empty() ? "z1" : "z2"},
           {"conditions", {{"ready", pod.ready}, {"serving", pod.ready}, {"terminating", false}}},
           {"targetRef", {{"kind", "Pod"}, {"namespace", "shop"}, {"name", name}, {"uid", pod.uid}}}});
    }
  }
  const Json slice = {
      {"metadata", {{"name", service + "-slice"}, {"labels", {{"kubernetes.io/service-name", service}}}}},
      {"addressType", "IPv4"},
      {"ports", Json::array({{{"name", "http"}, {"port", 8080}, {"protocol", "TCP"}}})},
      {"endpoints", endpoints}};
  if (std::exchange(slices_[service], true)) {
    plane_.must("PATCH", slice_path(service), {{"endpoints", endpoints}}, kube::kMergePatch);
  } else {
    plane_.must("POST", kSlices, slice);
  }
}

void Node::set_ready(const std::string& name, bool ready) {
  Pod& pod = pods_.at(name);
  pod.ready = ready;
  write_status(name, pod);
  write_slice(pod.service);
}

void Node::remove_pods(const std::vector<std::string>& names) {
  // The order of Kubernetes: pods are asked to end, which the controller of slices and the kubelet see at
  // once; so out of the slice, then, after a preStop sleep of a second, the process.
  const std::string service = pods_.at(names.at(0)).service;
  std::vector<Pod> leaving;
  for (const std::string& name : names) {
    leaving.push_back(std::move(pods_.extract(name).mapped()));
    ask_to_end(plane_, name);
  }
  write_slice(service);
  for (const std::string& name : names) {
    plane_.must("DELETE", pod_path(name), {{"gracePeriodSeconds", 0}});
  }
  std::this_thread::sleep_for(seconds(1));
  for (Pod& pod : leaving) {
    pod.process.stop(milliseconds(100));
  }
}

void Node::end_pods(const std::vector<std::string>& names) {
  std::vector<Pod> leaving;
  std::vector<std::thread> asking;
  // All together, as the controller of ReplicaSets deletes.
  for (const std::string& name : names) {
    leaving.push_back(std::move(pods_.extract(name).mapped()));
    asking.emplace_back([this, name] { ask_to_end(plane_, name); });
  }
  for (std::thread& one : asking) {
    one.join();
  }
  for (Pod& pod : leaving) {
    pod.process.signal(SIGTERM);
  }
  std::this_thread::sleep_for(seconds(1));
  for (const std::string& name : names) {
    plane_.must("DELETE", pod_path(name), {{"gracePeriodSeconds", 0}});
  }
  for (Pod& pod : leaving) {
    pod.process.stop(milliseconds(100));
  }
}

void Node::restart_in_place(const std::string& name) {
  end_process(name);
  start_container(name, pods_.at(name));
}

void Node::end_process(const std::string& name) {
  Pod& pod = pods_.at(name);
  pod.process.signal(SIGKILL);
  pod.process.wait(seconds(5));
}

void Node::set_quota(const std::string& name, double cpus) {
  const Status done = pods_.at(name).cgroups.back().set_quota(cpus, 20);
  EXPECT_TRUE(done.ok()) << done.error().message;
}

double Node::cpu_seconds(const std::string& name) const {
  const auto used = pods_.at(name).cgroups.back().cpu_seconds();
  return used ? *used : 0;
}

std::vector<std::string> Node::pods() const {
  std::vector<std::string> names;
  for (const auto& [name, pod] : pods_) {
    names.push_back(name);
  }
  return names;
}

}  // namespace ballast::mesh
