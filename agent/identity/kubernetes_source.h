// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "agent/identity/cgroup_path_source.h"
#include "agent/identity/identity.h"
#include "agent/kube/catalog.h"
#include "agent/kube/client.h"
#include "agent/kube/watch.h"
#include "core/base/clock.h"

namespace ballast::identity {

/// A port that a container declares.
struct ContainerPort {
  std::string name;
  std::string protocol;
  int number = 0;
};

/// A container as the pod's status tells it.
struct KubernetesContainer {
  std::string name;
  std::string id;        ///< 64 hex digits; empty while it does not run
  bool sidecar = false;  ///< istio-proxy: not the application
  std::vector<ContainerPort> ports;
};

struct KubernetesPod {
  std::string ns;
  std::string name;
  std::string uid;         ///< as the cgroup's path has it: a static pod's is the hash of its manifest
  std::string object_uid;  ///< as EndpointSlices name it
  bool host_network = false;
  std::map<std::string, std::string> labels;
  std::vector<std::string> addresses;  ///< of both families; none before it has one
  bool ready = false;                  ///< as its condition says
  bool ending = false;                 ///< it was asked to end
  bool ended = false;                  ///< it did, and does not begin again
  std::vector<KubernetesContainer> containers;
};

/// Reads one Pod object. Total: what is missing is empty.
KubernetesPod parse_pod(const kube::Json& object);

/// What Kubernetes' controller of EndpointSlices puts into the slices of a Service of these pods (which may
/// be anybody's): those that its selector says, with the ports that they answer at. A Service without a
/// selector has none. The nodes' names and zones are left out.
std::vector<kube::Endpoint> endpoints_of(const kube::Service& service,
                                         const std::vector<KubernetesPod>& pods);

/// The entries for the pods of one node and for the endpoints elsewhere, as identity.h wants them.
///
/// `cgroups` are the node's, named by pod uid and container id (CgroupPathSource). Each container
/// whose cgroup is known is one entry. The one that serves, which is the first application container that
/// declares the endpoint's port, or else the first application container, also has service, address
/// and port, if the pod is a ready endpoint of a Service whose mode is active or shadow. A pod behind two of
/// them belongs to the first by name. A ready endpoint whose pod is not among `pods` is not local.
std::vector<Pod> join_pods(const std::vector<KubernetesPod>& pods, const std::vector<kube::Service>& services,
                           const std::vector<Pod>& cgroups);

struct KubernetesOptions {
  kube::ClientOptions api;
  std::string node;  ///< spec.nodeName of this node; empty: of no node, the endpoints alone
  std::filesystem::path cgroup_root = "/sys/fs/cgroup";
  /// Nothing is wanted of pods elsewhere: whose a pod of this node is its labels and the Services' selectors
  /// say, and no EndpointSlice is read but those of Services without a selector.
  bool own_alone = false;
};

/// Pods from the API server: those of this node by a watch with a field selector, and, but for `own_alone`,
/// the endpoints of the Services that opted in (agent/kube/catalog.h). While the server is away, what was
/// known stays; cgroups are looked at all the same, so a container that has gone has cgroup_id 0.
class KubernetesSource final : public IdentitySource {
 public:
  /// `clock` must outlive the source. kUsage for credentials that cannot be read.
  /// An API server that does not answer is no error.
  static Result<std::unique_ptr<KubernetesSource>> create(KubernetesOptions options, const Clock& clock);
  ~KubernetesSource() override;
  const std::vector<Pod>& pods() override;
  std::string trouble() const override;
  /// The Services that opted in, for whoever else goes by them.
  const kube::Catalog& services() const { return *catalog_; }
  /// true once everything has been listed.
  bool synced() const { return (watch_ == nullptr || watch_->synced()) && catalog_->synced(); }

 private:
  KubernetesSource(KubernetesOptions options, std::unique_ptr<kube::Client> client, const Clock& clock);

  const KubernetesOptions options_;
  const Clock& clock_;
  std::unique_ptr<kube::Client> client_;
  CgroupPathSource cgroups_;
  std::mutex mutex_;  ///< guards known_ and version_
  std::map<std::string, KubernetesPod> known_;
  std::uint64_t version_ = 0;
  std::unique_ptr<kube::Catalog> catalog_;
  std::unique_ptr<kube::Watch> watch_;
  MonotonicNs joined_ = 0;
  std::uint64_t joined_version_ = 0;
  std::uint64_t joined_catalog_ = 0;
  std::vector<Pod> pods_;
};

}  // namespace ballast::identity
