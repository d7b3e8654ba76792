// SPDX-License-Identifier: Apache-2.0
#include "agent/identity/kubernetes_source.h"

#include <algorithm>
#include <charconv>
#include <set>
#include <utility>

namespace ballast::identity {
namespace {

using kube::at;
using kube::Json;
using kube::text_at;

constexpr MonotonicNs kCgroupsRefresh = 1'000'000'000ULL;
constexpr const char* kProxy = "istio-proxy";

/// "containerd://<id>" without its scheme.
std::string bare_id(const std::string& id) {
  const std::size_t slashes = id.find("://");
  return slashes == std::string::npos ? id : id.substr(slashes + 3);
}

std::map<std::string, std::string> ids_by_name(const Json& statuses) {
  std::map<std::string, std::string> ids;
  if (statuses.is_array()) {
    for (const Json& status : statuses) {
      ids[text_at(status, {"name"})] = bare_id(text_at(status, {"containerID"}));
    }
  }
  return ids;
}

std::string protocol_of(const Json& port) {
  const std::string said = text_at(port, {"protocol"});
  return said.empty() ? "TCP" : said;
}

void read_containers(const Json& specs, const Json& statuses, bool init, KubernetesPod& pod) {
  auto ids = ids_by_name(statuses);
  if (!specs.is_array()) {
    return;
  }
  for (const Json& spec : specs) {
    KubernetesContainer container;
    container.name = text_at(spec, {"name"});
    container.id = ids[container.name];
    const bool goes_on = text_at(spec, {"restartPolicy"}) == "Always";
    if (init && !goes_on) {
      continue;
    }
    container.sidecar = container.name == kProxy;
    if (const Json& ports = at(spec, {"ports"}); ports.is_array()) {
      for (const Json& port : ports) {
        if (const Json& number = at(port, {"containerPort"}); number.is_number_integer()) {
          container.ports.push_back({text_at(port, {"name"}), protocol_of(port), number.get<int>()});
        }
      }
    }
    pod.containers.push_back(std::move(container));
  }
}

/// An endpoint of a Service that opted in.
struct Place {
  const kube::Service* service = nullptr;
  const kube::Endpoint* endpoint = nullptr;
  int port = 0;
};

int port_of(const kube::Service& service, const kube::Endpoint& endpoint) {
  for (const kube::ServicePort& port : service.ports) {
    if (const auto found = endpoint.ports->find(port.name); found != endpoint.ports->end()) {
      return found->second;
    }
  }
  return 0;
}

std::map<std::string, Place> places_by_uid(const std::vector<kube::Service>& services) {
  std::map<std::string, Place> places;
  for (const kube::Service& service : services) {
    if (service.mode != "active" && service.mode != "shadow") {
      continue;
    }
    for (const kube::Endpoint& endpoint : service.endpoints) {
      const int port = port_of(service, endpoint);
      if (endpoint.ready && !endpoint.uid.empty() && port > 0 && port <= 65535) {
        places.try_emplace(endpoint.uid, Place{&service, &endpoint, port});
      }
    }
  }
  return places;
}

void put_place(Pod& entry, const Place& place) {
  entry.service = place.service->name;
  entry.address = place.endpoint->address;
  entry.port = static_cast<std::uint16_t>(place.port);
}

/// Which container answers at the port as far as the specification tells: ports need not be declared. Its
/// index, or the count when there is none.
std::size_t serving(const KubernetesPod& pod, int port) {
  std::size_t first = pod.containers.size();
  for (std::size_t i = 0; i < pod.containers.size(); ++i) {
    const KubernetesContainer& container = pod.containers[i];
    if (container.sidecar) {
      continue;
    }
    if (std::any_of(container.ports.begin(), container.ports.end(),
                    [&](const ContainerPort& declared) { return declared.number == port; })) {
      return i;
    }
    first = std::min(first, i);
  }
  return first;
}

/// The container's own cgroup: of several with its ids the others are below it.
std::map<std::pair<std::string, std::string>, const Pod*> by_container(const std::vector<Pod>& cgroups) {
  std::map<std::pair<std::string, std::string>, const Pod*> found;
  for (const Pod& cgroup : cgroups) {
    if (cgroup.container.empty()) {
      continue;
    }
    const Pod*& known = found[{cgroup.pod, cgroup.container}];
    if (known == nullptr || cgroup.cgroup.size() < known->cgroup.size()) {
      known = &cgroup;
    }
  }
  return found;
}

void read_addresses(const Json& status, KubernetesPod& pod) {
  if (const Json& all = at(status, {"podIPs"}); all.is_array()) {
    for (const Json& one : all) {
      pod.addresses.push_back(text_at(one, {"ip"}));
    }
  } else {
    pod.addresses.push_back(text_at(status, {"podIP"}));
  }
  std::erase(pod.addresses, "");
}

bool is_ready(const Json& status) {
  const Json& conditions = at(status, {"conditions"});
  return conditions.is_array() && std::any_of(conditions.begin(), conditions.end(), [](const Json& one) {
           return text_at(one, {"type"}) == "Ready" && text_at(one, {"status"}) == "True";
         });
}

bool selects(const kube::Service& service, const KubernetesPod& pod) {
  return service.ns == pod.ns && !service.selector.empty() && service.type != "ExternalName" &&
         std::all_of(service.selector.begin(), service.selector.end(), [&](const auto& wanted) {
           const auto label = pod.labels.find(wanted.first);
           return label != pod.labels.end() && label->second == wanted.second;
         });
}

/// Where the pod answers at a Service's port; 0 where none of its containers has a port of that name.
int target_of(const kube::ServicePort& port, const KubernetesPod& pod) {
  if (port.target.empty()) {
    return port.number;
  }
  int number = 0;
  const char* const end = port.target.data() + port.target.size();
  if (const auto read = std::from_chars(port.target.data(), end, number);
      read.ec == std::errc() && read.ptr == end) {
    return number;
  }
  for (const KubernetesContainer& container : pod.containers) {
    for (const ContainerPort& declared : container.ports) {
      if (declared.name == port.target && declared.protocol == port.protocol) {
        return declared.number;
      }
    }
  }
  return 0;
}

}  // namespace

KubernetesPod parse_pod(const Json& object) {
  KubernetesPod pod;
  pod.ns = text_at(object, {"metadata", "namespace"});
  pod.name = text_at(object, {"metadata", "name"});
  pod.object_uid = text_at(object, {"metadata", "uid"});
  const std::string hash = text_at(object, {"metadata", "annotations", "kubernetes.io/config.hash"});
  pod.uid = hash.empty() ? pod.object_uid : hash;
  const Json& host = at(object, {"spec", "hostNetwork"});
  pod.host_network = host.is_boolean() && host.get<bool>();
  pod.labels = kube::text_map(at(object, {"metadata", "labels"}));
  const std::string phase = text_at(object, {"status", "phase"});
  pod.ended = phase == "Succeeded" || phase == "Failed";
  pod.ending = !text_at(object, {"metadata", "deletionTimestamp"}).empty();
  pod.ready = is_ready(at(object, {"status"}));
  read_addresses(at(object, {"status"}), pod);
  read_containers(at(object, {"spec", "containers"}), at(object, {"status", "containerStatuses"}), false,
                  pod);
  read_containers(at(object, {"spec", "initContainers"}), at(object, {"status", "initContainerStatuses"}),
                  true, pod);
  return pod;
}

std::vector<kube::Endpoint> endpoints_of(const kube::Service& service,
                                         const std::vector<KubernetesPod>& pods) {
  std::vector<kube::Endpoint> endpoints;
  for (const KubernetesPod& pod : pods) {
    const auto address =
        std::find_if(pod.addresses.begin(), pod.addresses.end(), [&](const std::string& one) {
          return (one.find(':') != std::string::npos) == (service.family == "IPv6");
        });
    if (pod.ended || address == pod.addresses.end() || !selects(service, pod)) {
      continue;
    }
    std::map<std::string, int> ports;
    for (const kube::ServicePort& port : service.ports) {
      if (const int number = target_of(port, pod); number > 0 && number <= 65535) {
        ports[port.name] = number;
      }
    }
    endpoints.push_back({.address = *address,
                         .pod = pod.name,
                         .uid = pod.object_uid,
                         .node = {},
                         .ready = service.publishes_not_ready || (pod.ready && !pod.ending),
                         .ports = std::move(ports)});
  }
  return endpoints;
}

std::vector<Pod> join_pods(const std::vector<KubernetesPod>& pods, const std::vector<kube::Service>& services,
                           const std::vector<Pod>& cgroups) {
  const auto places = places_by_uid(services);
  const auto folders = by_container(cgroups);
  std::vector<Pod> out;
  std::set<std::string> local;
  for (const KubernetesPod& pod : pods) {
    local.insert(pod.object_uid);
    const auto place = places.find(pod.object_uid);
    const std::size_t server =
        place == places.end() ? pod.containers.size() : serving(pod, place->second.port);
    for (std::size_t i = 0; i < pod.containers.size(); ++i) {
      const auto folder = folders.find({pod.uid, pod.containers[i].id});
      if (folder == folders.end()) {
        continue;
      }
      Pod entry{.cgroup_id = folder->second->cgroup_id,
                .cgroup = folder->second->cgroup,
                .pod = pod.name,
                .ns = pod.ns,
                .container = pod.containers[i].name};
      if (place != places.end() && !pod.containers[i].sidecar) {
        put_place(entry, place->second);
        entry.declared = i == server;
      }
      out.push_back(std::move(entry));
    }
  }
  for (const auto& [uid, place] : places) {
    if (!local.contains(uid)) {
      Pod entry{.pod = place.endpoint->pod, .ns = place.service->ns, .local = false};
      put_place(entry, place);
      out.push_back(std::move(entry));
    }
  }
  return out;
}

Result<std::unique_ptr<KubernetesSource>> KubernetesSource::create(KubernetesOptions options,
                                                                   const Clock& clock) {
  auto client = kube::Client::create(options.api);
  if (!client) {
    return client.error();
  }
  return std::unique_ptr<KubernetesSource>(
      new KubernetesSource(std::move(options), std::move(*client), clock));
}

KubernetesSource::KubernetesSource(KubernetesOptions options, std::unique_ptr<kube::Client> client,
                                   const Clock& clock)
    : options_(std::move(options)),
      clock_(clock),
      client_(std::move(client)),
      cgroups_({.cgroup_root = options_.cgroup_root, .refresh_ns = kCgroupsRefresh}, clock) {
  catalog_ = std::make_unique<kube::Catalog>(
      *client_, kube::CatalogOptions{.slices = options_.own_alone ? kube::Slices::kWithoutSelector
                                                                  : kube::Slices::kAll});
  if (options_.node.empty()) {
    return;
  }
  kube::WatchHandler handler{[this](const Json& object) {
                               const std::lock_guard lock(mutex_);
                               known_[kube::key_of(object)] = parse_pod(object);
                               ++version_;
                             },
                             [this](const std::string& key) {
                               const std::lock_guard lock(mutex_);
                               known_.erase(key);
                               ++version_;
                             },
                             [] {}};
  watch_ = std::make_unique<kube::Watch>(
      *client_,
      kube::WatchOptions{.path = "/api/v1/pods",
                         .query = "fieldSelector=" + kube::encode("spec.nodeName=" + options_.node)},
      std::move(handler));
}

KubernetesSource::~KubernetesSource() {
  client_->stop();
}

std::string KubernetesSource::trouble() const {
  const std::string of_pods = watch_ == nullptr ? "" : watch_->trouble();
  return of_pods.empty() ? catalog_->trouble() : of_pods;
}

const std::vector<Pod>& KubernetesSource::pods() {
  const MonotonicNs now = clock_.now();
  const std::uint64_t catalog = catalog_->version();
  std::vector<KubernetesPod> known;
  {
    const std::lock_guard lock(mutex_);
    const bool news = version_ != joined_version_ || catalog != joined_catalog_;
    if (!news && joined_ != 0 && now - joined_ < kCgroupsRefresh) {
      return pods_;
    }
    joined_version_ = version_;
    known.reserve(known_.size());
    for (const auto& [key, pod] : known_) {
      known.push_back(pod);
    }
  }
  joined_catalog_ = catalog;
  joined_ = now;
  std::vector<kube::Service> services = catalog_->services();
  for (kube::Service& service : services) {
    if (options_.own_alone && !service.selector.empty()) {
      service.endpoints = endpoints_of(service, known);
    }
  }
  pods_ = join_pods(known, services, watch_ == nullptr ? std::vector<Pod>() : cgroups_.pods());
  return pods_;
}

}  // namespace ballast::identity
