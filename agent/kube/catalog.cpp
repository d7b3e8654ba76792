// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/catalog.h"

#include <algorithm>
#include <cctype>
#include <utility>

namespace ballast::kube {
namespace {

int number_at(const Json& object, const char* key) {
  const Json& found = at(object, {key});
  return found.is_number_integer() ? found.get<int>() : 0;
}

std::map<std::string, std::string> text_map(const Json& object) {
  std::map<std::string, std::string> out;
  if (object.is_object()) {
    for (const auto& [key, value] : object.items()) {
      if (value.is_string()) {
        out[key] = value.get<std::string>();
      }
    }
  }
  return out;
}

bool says(const Json& conditions, const char* key, bool otherwise) {
  const Json& found = at(conditions, {key});
  return found.is_boolean() ? found.get<bool>() : otherwise;
}

/// How near to the client traffic has to stay: Kubernetes' own field, or else Istio's annotation.
void read_nearness(const Json& object, Service& service) {
  std::string spread = text_at(object, {"spec", "trafficDistribution"});
  if (spread.empty()) {
    spread = text_at(object, {"metadata", "annotations", "networking.istio.io/traffic-distribution"});
  }
  std::transform(spread.begin(), spread.end(), spread.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  service.zone_local = spread == "preferclose" || spread == "prefersamezone";
  service.node_local =
      spread == "prefersamenode" || text_at(object, {"spec", "internalTrafficPolicy"}) == "Local";
}

std::vector<std::string> comma_list(const std::string& text) {
  std::vector<std::string> parts;
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    std::string part = text.substr(begin, end - begin);
    std::erase(part, ' ');
    if (!part.empty()) {
      parts.push_back(std::move(part));
    }
    begin = end + 1;
  }
  return parts;
}

Service parse_service(const Json& object) {
  Service service;
  service.ns = text_at(object, {"metadata", "namespace"});
  service.name = text_at(object, {"metadata", "name"});
  service.uid = text_at(object, {"metadata", "uid"});
  service.mode = text_at(object, {"metadata", "labels", kModeLabel});
  service.by = text_at(object, {"metadata", "annotations", kByAnnotation});
  service.type = text_at(object, {"spec", "type"});
  service.headless = text_at(object, {"spec", "clusterIP"}) == "None";
  service.selector = text_map(at(object, {"spec", "selector"}));
  service.export_to =
      comma_list(text_at(object, {"metadata", "annotations", "networking.istio.io/exportTo"}));
  read_nearness(object, service);
  if (const Json& families = at(object, {"spec", "ipFamilies"});
      families.is_array() && !families.empty() && families[0].is_string()) {
    service.family = families[0].get<std::string>();
  }
  if (const Json& ports = at(object, {"spec", "ports"}); ports.is_array()) {
    for (const Json& port : ports) {
      const std::string protocol = text_at(port, {"protocol"});
      service.ports.push_back({text_at(port, {"name"}), number_at(port, "port"),
                               protocol.empty() ? "TCP" : protocol, text_at(port, {"appProtocol"})});
    }
  }
  return service;
}

/// The endpoints of one slice; EndpointSlice v1 says that unknown conditions count as ready.
std::vector<Endpoint> parse_endpoints(const Json& object) {
  std::map<std::string, int> ports;
  if (const Json& list = at(object, {"ports"}); list.is_array()) {
    for (const Json& port : list) {
      ports[text_at(port, {"name"})] = number_at(port, "port");
    }
  }
  std::vector<Endpoint> endpoints;
  const Json& list = at(object, {"endpoints"});
  if (!list.is_array()) {
    return endpoints;
  }
  for (const Json& item : list) {
    const Json& addresses = at(item, {"addresses"});
    if (!addresses.is_array() || addresses.empty() || !addresses[0].is_string()) {
      continue;
    }
    const Json& conditions = at(item, {"conditions"});
    const bool is_pod = text_at(item, {"targetRef", "kind"}) == "Pod";
    endpoints.push_back({.address = addresses[0].get<std::string>(),
                         .pod = is_pod ? text_at(item, {"targetRef", "name"}) : "",
                         .uid = is_pod ? text_at(item, {"targetRef", "uid"}) : "",
                         .node = text_at(item, {"nodeName"}),
                         .zone = text_at(item, {"zone"}),
                         .ready = says(conditions, "ready", true),
                         .ports = ports});
  }
  return endpoints;
}

}  // namespace

Catalog::Catalog(Client& client) {
  const auto forget = [this](auto& map) {
    return [this, &map](const std::string& key) {
      const std::lock_guard lock(mutex_);
      map.erase(key);
      ++version_;
    };
  };
  service_watch_ = std::make_unique<Watch>(
      client, WatchOptions{.path = "/api/v1/services", .query = "labelSelector=" + encode(kModeLabel)},
      WatchHandler{[this](const Json& object) { take_service(object); }, forget(services_),
                   [this] { changed(); }});
  slice_watch_ =
      std::make_unique<Watch>(client,
                              WatchOptions{.path = "/apis/discovery.k8s.io/v1/endpointslices",
                                           .query = "labelSelector=" + encode("kubernetes.io/service-name")},
                              WatchHandler{[this](const Json& object) { take_slice(object); },
                                           forget(slices_), [this] { changed(); }});
}

void Catalog::take_service(const Json& object) {
  Service service = parse_service(object);
  const std::lock_guard lock(mutex_);
  services_[service.key()] = std::move(service);
  ++version_;
}

void Catalog::take_slice(const Json& object) {
  Slice slice{text_at(object, {"metadata", "namespace"}) + "/" +
                  text_at(object, {"metadata", "labels", "kubernetes.io/service-name"}),
              text_at(object, {"addressType"}), parse_endpoints(object)};
  const std::lock_guard lock(mutex_);
  slices_[key_of(object)] = std::move(slice);
  ++version_;
}

void Catalog::changed() {
  std::vector<std::function<void()>> listeners;
  {
    const std::lock_guard lock(mutex_);
    listeners = listeners_;
  }
  for (const auto& call : listeners) {
    call();
  }
}

bool Catalog::synced() const {
  return service_watch_ && service_watch_->synced() && slice_watch_ && slice_watch_->synced();
}

std::string Catalog::trouble() const {
  const std::string of_services = service_watch_->trouble();
  return of_services.empty() ? slice_watch_->trouble() : of_services;
}

std::uint64_t Catalog::version() const {
  const std::lock_guard lock(mutex_);
  return version_;
}

void Catalog::on_change(std::function<void()> call) {
  const std::lock_guard lock(mutex_);
  listeners_.push_back(std::move(call));
}

std::optional<Service> Catalog::service(const std::string& key) const {
  const std::lock_guard lock(mutex_);
  const auto found = services_.find(key);
  return found == services_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<Service> Catalog::services() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::map<std::string, Endpoint>> found;
  for (const auto& [name, slice] : slices_) {
    const auto service = services_.find(slice.service);
    if (service == services_.end() || service->second.family != slice.family) {
      continue;
    }
    auto& endpoints = found[slice.service];
    for (const Endpoint& endpoint : slice.endpoints) {
      // While an endpoint moves between slices it is in both; one that is ready wins.
      Endpoint& known = endpoints[endpoint.address];
      if (known.address.empty() || (!known.ready && endpoint.ready)) {
        known = endpoint;
      }
    }
  }
  std::vector<Service> out;
  out.reserve(services_.size());
  for (const auto& [key, service] : services_) {
    out.push_back(service);
    for (auto& [address, endpoint] : found[key]) {
      out.back().endpoints.push_back(std::move(endpoint));
    }
  }
  return out;
}

}  // namespace ballast::kube
