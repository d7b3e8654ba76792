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

/// The endpoints of one slice; EndpointSlice v1 says that unknown conditions count as ready.
std::vector<Endpoint> parse_endpoints(const Json& object) {
  std::map<std::string, int> ports;
  if (const Json& list = at(object, {"ports"}); list.is_array()) {
    for (const Json& port : list) {
      // Without a number it means all ports, which a Service's slice does not say.
      if (const int number = number_at(port, "port"); number > 0 && number <= 65535) {
        ports[text_at(port, {"name"})] = number;
      }
    }
  }
  std::vector<Endpoint> endpoints;
  const Json& list = at(object, {"endpoints"});
  if (!list.is_array()) {
    return endpoints;
  }
  for (const Json& item : list) {
    const Json& addresses = at(item, {"addresses"});
    const bool placed = addresses.is_array() && !addresses.empty() && addresses[0].is_string();
    const Json& conditions = at(item, {"conditions"});
    const bool is_pod = text_at(item, {"targetRef", "kind"}) == "Pod";
    endpoints.push_back({.address = placed ? addresses[0].get<std::string>() : "",
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

Service parse_service(const Json& object) {
  Service service;
  service.ns = text_at(object, {"metadata", "namespace"});
  service.name = text_at(object, {"metadata", "name"});
  service.uid = text_at(object, {"metadata", "uid"});
  service.created = text_at(object, {"metadata", "creationTimestamp"});
  service.waypoint = text_at(object, {"metadata", "labels", kWaypointLabel});
  service.mode = text_at(object, {"metadata", "labels", kModeLabel});
  service.by = text_at(object, {"metadata", "annotations", kByAnnotation});
  service.type = text_at(object, {"spec", "type"});
  service.cluster_ip = text_at(object, {"spec", "clusterIP"});
  service.headless = service.cluster_ip == "None";
  service.publishes_not_ready = says(at(object, {"spec"}), "publishNotReadyAddresses", false);
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
      const Json& application = at(port, {"appProtocol"});
      service.ports.push_back(
          {text_at(port, {"name"}), number_at(port, "port"), protocol.empty() ? "TCP" : protocol,
           application.is_string() ? std::optional(application.get<std::string>()) : std::nullopt});
    }
  }
  return service;
}

Catalog::Catalog(Client& client, CatalogOptions options) : client_(client), options_(options) {
  service_watch_ = std::make_unique<Watch>(
      client,
      WatchOptions{.path = "/api/v1/services",
                   .query = "labelSelector=" + encode(kModeLabel),
                   .length = options_.watch_length,
                   .silence = options_.silence},
      WatchHandler{[this](const Json& object) { take_service(object); },
                   [this](const std::string& key) {
                     const std::lock_guard lock(mutex_);
                     services_.erase(key);
                     unread_.erase(key);
                     std::erase_if(slices_, [&](const auto& slice) { return slice.second.service == key; });
                     ++version_;
                   },
                   [this] { services_settled(); }});
}

Catalog::~Catalog() {
  // Its thread makes the other.
  service_watch_.reset();
  slice_watch_.reset();
}

void Catalog::take_service(const Json& object) {
  Service service = parse_service(object);
  const std::lock_guard lock(mutex_);
  const std::string key = service.key();
  if (slice_watch_ != nullptr && !services_.contains(key)) {
    unread_.insert(key);
  }
  services_[key] = std::move(service);
  ++version_;
}

/// The slices of the Services that are known now; of one that comes later they are read when it comes.
void Catalog::services_settled() {
  std::set<std::string> unread;
  {
    const std::lock_guard lock(mutex_);
    unread = unread_;
    if (slice_watch_ == nullptr && options_.slices) {
      slice_watch_ = std::make_unique<Watch>(
          client_,
          WatchOptions{.path = "/apis/discovery.k8s.io/v1/endpointslices",
                       .query = "labelSelector=" + encode("kubernetes.io/service-name"),
                       .length = options_.watch_length,
                       .silence = options_.silence},
          WatchHandler{[this](const Json& slice) { take_slice(slice); },
                       [this](const std::string& key) {
                         const std::lock_guard held(mutex_);
                         if (!unread_.empty()) {
                           touched_.insert(key);
                         }
                         version_ += slices_.erase(key);
                       },
                       [this] { changed(); }});
    }
  }
  for (const std::string& service : unread) {
    if (!read_slices(service)) {
      break;  // tried again with the next line of the watch
    }
  }
  changed();
}

/// The service's slices with what the watch told meanwhile, which is newer.
bool Catalog::read_slices(const std::string& service) {
  {
    const std::lock_guard lock(mutex_);
    touched_.clear();
  }
  const std::size_t slash = service.find('/');
  std::vector<Json> found;
  std::string more;
  do {
    const Result<Json> page = client_.get("/apis/discovery.k8s.io/v1/namespaces/" + service.substr(0, slash) +
                                          "/endpointslices?limit=100&labelSelector=" +
                                          encode("kubernetes.io/service-name=" + service.substr(slash + 1)) +
                                          (more.empty() ? "" : "&continue=" + encode(more)));
    if (!page) {
      return false;
    }
    if (const Json& items = at(*page, {"items"}); items.is_array()) {
      found.insert(found.end(), items.begin(), items.end());
    }
    more = text_at(*page, {"metadata", "continue"});
  } while (!more.empty());
  const std::lock_guard lock(mutex_);
  for (const Json& slice : found) {
    if (!touched_.contains(key_of(slice))) {
      keep_slice(slice);
    }
  }
  unread_.erase(service);
  ++version_;
  return true;
}

void Catalog::take_slice(const Json& object) {
  const std::lock_guard lock(mutex_);
  if (!unread_.empty()) {
    touched_.insert(key_of(object));
  }
  keep_slice(object);
}

void Catalog::keep_slice(const Json& object) {
  const std::string key = key_of(object);
  std::string service = text_at(object, {"metadata", "namespace"}) + "/" +
                        text_at(object, {"metadata", "labels", "kubernetes.io/service-name"});
  if (!services_.contains(service)) {
    slices_.erase(key);
    return;
  }
  slices_[key] = {std::move(service), text_at(object, {"addressType"}), parse_endpoints(object)};
  ++version_;
}

const Watch* Catalog::slices() const {
  const std::lock_guard lock(mutex_);
  return slice_watch_.get();
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
  const Watch* of_slices = slices();
  return service_watch_->synced() && (!options_.slices || (of_slices != nullptr && of_slices->synced()));
}

std::string Catalog::trouble() const {
  const std::string of_services = service_watch_->trouble();
  const Watch* of_slices = slices();
  return of_services.empty() && of_slices != nullptr ? of_slices->trouble() : of_services;
}

MonotonicNs Catalog::heard() const {
  const Watch* of_slices = slices();
  return of_slices == nullptr ? 0 : std::min(service_watch_->heard(), of_slices->heard());
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

bool Catalog::has(const std::string& uid) const {
  const std::lock_guard lock(mutex_);
  return std::any_of(slices_.begin(), slices_.end(), [&](const auto& slice) {
    const auto& endpoints = slice.second.endpoints;
    return std::any_of(endpoints.begin(), endpoints.end(),
                       [&](const Endpoint& endpoint) { return endpoint.uid == uid; });
  });
}

std::vector<Service> Catalog::services() const {
  const std::lock_guard lock(mutex_);
  using Place = std::pair<std::string, std::map<std::string, int>>;
  std::map<std::string, std::map<Place, Endpoint>> found;
  std::map<std::string, std::vector<std::string>> odd;
  std::vector<Endpoint*> disputed;
  for (const auto& [name, slice] : slices_) {
    const auto service = services_.find(slice.service);
    if (service == services_.end() || service->second.family != slice.family) {
      continue;
    }
    auto& endpoints = found[slice.service];
    for (const Endpoint& endpoint : slice.endpoints) {
      if (endpoint.address.empty()) {
        odd[slice.service].push_back("endpoint " + endpoint.pod + " has no address: left out, as Istio does");
        continue;
      }
      // While an endpoint moves between slices it is in both. Where they do not agree istiod goes by
      // whichever it comes upon first, which is another each time: it is left to it alone.
      Endpoint& known = endpoints[{endpoint.address, endpoint.ports}];
      if (!known.address.empty() && known.ready != endpoint.ready) {
        odd[slice.service].push_back(endpoint.address +
                                     " is ready in one slice and not in another: not weighed");
        disputed.push_back(&known);
      }
      if (known.address.empty()) {
        known = endpoint;
      }
    }
  }
  for (Endpoint* endpoint : disputed) {
    endpoint->ready = false;
  }
  std::vector<Service> out;
  out.reserve(services_.size());
  for (const auto& [key, service] : services_) {
    if (unread_.contains(key)) {
      continue;
    }
    out.push_back(service);
    out.back().odd = std::move(odd[key]);
    for (auto& [place, endpoint] : found[key]) {
      out.back().endpoints.push_back(std::move(endpoint));
    }
  }
  return out;
}

}  // namespace ballast::kube
