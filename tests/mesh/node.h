// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control_plane.h"
#include "tools/lab/cgroups.h"

namespace ballast::mesh {

struct PodOptions {
  double cpus = 0.5;                               ///< quota; 0: none
  bool serve = true;                               ///< start the application
  bool ready = true;                               ///< from the beginning; else by set_ready()
  std::map<std::string, std::string> labels = {};  ///< beside app and version
  std::string node = {};  ///< another Node object, of zone z2, that it says it is on; empty: this
};

/// A small stand-in for the kubelet and the EndpointSlice controller: real processes in cgroups named as
/// a kubelet names them, Pod objects with true uids and container ids, and the Service's slice. Everything is
/// removed with it.
class Node {
 public:
  /// `name` of the Node object, made with a region and a zone.
  Node(ControlPlane& plane, const std::string& name);
  ~Node();
  Node(const Node&) = delete;
  Node& operator=(const Node&) = delete;

  /// From now on Kubernetes' own controller writes the slices (kube-controller-manager), as long as this
  /// lives. REQUIRES: no Service yet.
  Status leave_slices_to_the_controller();
  /// A Service of one HTTP port, 80 to 8080, with this mode label (none when empty). Its whole object.
  Json add_service(const std::string& service, const std::string& mode);
  /// Starts a pod `SERVICE-N` of it and puts it into the slice. Its name.
  std::string add_pod(const std::string& service, const PodOptions& options = {});
  /// As the endpoint controller sees it: not ready for new traffic, or gone.
  void set_ready(const std::string& pod, bool ready);
  void remove_pod(const std::string& pod) { remove_pods({pod}); }
  /// All of one Service: out of the slice at once, then their processes.
  void remove_pods(const std::vector<std::string>& pods);
  /// All are asked to end together, and their programs end on SIGTERM, while everybody is only being told.
  void end_pods(const std::vector<std::string>& pods);
  /// The container's process is killed, and nobody is told.
  void end_process(const std::string& pod);
  /// The container's process is killed and a new container takes its place: new id, new cgroup.
  void restart_in_place(const std::string& pod);
  void set_quota(const std::string& pod, double cpus);
  /// That its running container has used so far.
  double cpu_seconds(const std::string& pod) const;

  const std::string& name() const { return name_; }
  std::string address(const std::string& pod) const { return pods_.at(pod).address; }
  std::string cgroup(const std::string& pod) const { return pods_.at(pod).cgroups.back().identity(); }
  std::vector<std::string> pods() const;

 private:
  struct Pod {
    std::string service;
    std::string uid;
    std::string address;
    std::string container_id;
    bool ready = true;
    std::vector<lab::PodCgroup> cgroups;  ///< the last is the running container's
    ChildProcess process;
    PodOptions options;
  };
  void start_container(const std::string& name, Pod& pod);
  void write_status(const std::string& name, const Pod& pod);
  void write_slice(const std::string& service);

  ControlPlane& plane_;
  std::string name_;
  lab::CgroupLayout layout_;
  std::string root_;  ///< our folder in every hierarchy
  std::map<std::string, Pod> pods_;
  std::map<std::string, bool> slices_;  ///< by service: written before
  int pod_count_ = 0;
  std::optional<ChildProcess> controller_;  ///< it writes the slices
};

}  // namespace ballast::mesh
