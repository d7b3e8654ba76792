// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace ballast::identity {

enum class Runtime { kUnknown, kContainerd, kCrio, kDocker };
enum class QosClass { kGuaranteed, kBurstable, kBestEffort };
/// The kubelet's --cgroup-driver: it decides how the path is spelt.
enum class CgroupDriver { kCgroupfs, kSystemd };

/// What the path of a Kubernetes container's cgroup tells.
struct ContainerRef {
  std::string pod_uid;       ///< as the API server spells it (dashes); static pods have 32 hex digits
  std::string container_id;  ///< 64 hex digits
  Runtime runtime = Runtime::kUnknown;  ///< with the cgroupfs driver only CRI-O says its name
  QosClass qos = QosClass::kGuaranteed;
  CgroupDriver driver = CgroupDriver::kCgroupfs;
  /// true: a cgroup below the container's own (crun's "container", a systemd inside the pod).
  bool nested = false;

  bool operator==(const ContainerRef&) const = default;
};

/// Reads a cgroup path of containerd, CRI-O or Docker under a kubelet, either cgroup driver, v1 or
/// v2, at any depth (kind puts the kubelet's tree into a node container's). A whole line of
/// /proc/PID/cgroup is accepted too. nullopt: not a container of a pod. Monitors (crio-conmon-*)
/// and the pod's own cgroup are not containers.
std::optional<ContainerRef> parse_cgroup_path(std::string_view path);

const char* runtime_name(Runtime runtime);     ///< "containerd", "cri-o", "docker", "unknown"
const char* qos_name(QosClass qos);            ///< "Guaranteed", "Burstable", "BestEffort"
const char* driver_name(CgroupDriver driver);  ///< "cgroupfs", "systemd"

}  // namespace ballast::identity
