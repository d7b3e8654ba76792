// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/catalog.h"

#include <algorithm>
#include <cctype>
#include <tuple>
#include <utility>

namespace ballast::kube {
namespace {

constexpr int kSlicesPage = 20;  ///< a slice has a hundred endpoints, and parsed that is some 150 KB

int number_at(const Json& object, const char* key) {
  const Json& found = at(object, {key});
  return found.is_number_integer() ? found.get<int>() : 0;
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
  const Shared<std::map<std::string, int>> shared(std::move(ports));
  endpoints.reserve(list.size());
  for (const Json& item : list) {
    const Json& addresses = at(item, {"addresses"});
    const bool placed = addresses.is_array() && !addresses.empty() && addresses[0].is_string();
    const Json& conditions = at(item, {"conditions"});
    const bool is_pod = text_at(item, {"targetRef", "kind"}) == "Pod";
    endpoints.push_back({.address = placed ? addresses[0].get<std::string>() : "",
                         .pod = is_pod ? text_at(item, {"targetRef", "name"}) : "",
                         .uid = is_pod ? text_at(item, {"targetRef", "uid"}) : "",
                         .node = text_at(item, {"nodeName"}),
                         .ready = says(conditions, "ready", true),
                         .ports = shared});
  }
  return endpoints;
}

/// In order. While an endpoint moves between slices it is in both. Where they do not agree istiod goes by
/// whichever it comes upon first, which is another each time: it is left to it alone.
void take_doubles_out(std::vector<Endpoint>& endpoints, std::vector<std::string>& odd) {
  std::stable_sort(endpoints.begin(), endpoints.end(), [](const Endpoint& a, const Endpoint& b) {
    return std::tie(a.address, *a.ports) < std::tie(b.address, *b.ports);
  });
  auto last = endpoints.begin();
  for (auto next = last; next != endpoints.end(); ++next) {
    if (next == last) {
      continue;
    }
    if (next->address != last->address || next->ports != last->ports) {
      if (++last != next) {
        *last = std::move(*next);
      }
    } else if (next->ready != last->ready) {
      odd.push_back(next->address + " is ready in one slice and not in another: not weighed");
      last->ready = false;
    }
  }
  if (!endpoints.empty()) {
    endpoints.erase(last + 1, endpoints.end());
  }
}

}  // namespace

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
  service.headless = text_at(object, {"spec", "clusterIP"}) == "None";
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
      const int target = number_at(port, "targetPort");
      service.ports.push_back(
          {text_at(port, {"name"}), number_at(port, "port"), protocol.empty() ? "TCP" : protocol,
           application.is_string() ? std::optional(application.get<std::string>()) : std::nullopt,
           target > 0 ? std::to_string(target) : text_at(port, {"targetPort"})});
    }
  }
  return service;
}

Catalog::Catalog(Client& client, CatalogOptions options) : client_(client), options_(options) {
  service_watch_ = std::make_unique<Watch>(client,
                                           WatchOptions{.path = "/api/v1/services",
                                                        .query = "labelSelector=" + encode(kModeLabel),
                                                        .length = options_.watch_length,
                                                        .silence = options_.silence},
                                           WatchHandler{[this](const Json& object) { take_service(object); },
                                                        [this](const std::string& key) {
                                                          const std::lock_guard lock(mutex_);
                                                          services_.erase(key);
                                                          unread_.erase(key);
                                                          slices_.erase(key);
                                                          ++version_;
                                                        },
                                                        [this] { services_settled(); }});
}

Catalog::~Catalog() {
  // Its thread makes the other.
  service_watch_.reset();
  slice_watch_.reset();
  own_slices_.clear();
  ending_.clear();
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
    if (options_.slices == Slices::kWithoutSelector) {
      follow_without_selector();
    }
    if (slice_watch_ == nullptr && options_.slices == Slices::kAll) {
      slice_watch_ = std::make_unique<Watch>(
          client_,
          WatchOptions{.path = "/apis/discovery.k8s.io/v1/endpointslices",
                       .query = "labelSelector=" + encode("kubernetes.io/service-name"),
                       .page = kSlicesPage,
                       .length = options_.watch_length,
                       .silence = options_.silence},
          WatchHandler{[this](const Json& slice) { take_slice(slice); },
                       [this](const std::string& key) {
                         const std::lock_guard held(mutex_);
                         if (!unread_.empty()) {
                           touched_.insert(key);
                         }
                         version_ += drop_slice(key);
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

/// A selector says of each pod whether it is the Service's; where there is none the slices alone do.
void Catalog::follow_without_selector() {
  const auto wanted = [&](const std::string& key) {
    const auto service = services_.find(key);
    return service != services_.end() && service->second.selector.empty() &&
           service->second.type != "ExternalName" && !service->second.headless &&
           (service->second.mode == "active" || service->second.mode == "shadow");
  };
  for (auto one = own_slices_.begin(); one != own_slices_.end();) {
    const auto now = one++;
    if (!wanted(now->first)) {
      slices_.erase(now->first);
      now->second->end();
      ending_.push_back(std::move(now->second));
      own_slices_.erase(now);
    }
  }
  std::erase_if(ending_, [](const auto& watch) { return watch->ended(); });
  for (const auto& [key, service] : services_) {
    if (wanted(key) && !own_slices_.contains(key)) {
      own_slices_[key] = std::make_unique<Watch>(
          client_,
          WatchOptions{.path = "/apis/discovery.k8s.io/v1/namespaces/" + service.ns + "/endpointslices",
                       .query = "labelSelector=" + encode("kubernetes.io/service-name=" + service.name),
                       .length = options_.watch_length,
                       .silence = options_.silence},
          WatchHandler{[this](const Json& slice) { take_slice(slice); },
                       [this](const std::string& slice) {
                         const std::lock_guard held(mutex_);
                         version_ += drop_slice(slice);
                       },
                       [this] { changed(); }});
    }
  }
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
  const std::string service = text_at(object, {"metadata", "namespace"}) + "/" +
                              text_at(object, {"metadata", "labels", "kubernetes.io/service-name"});
  version_ += drop_slice(key);  // it may have been another Service's
  if (services_.contains(service)) {
    slices_[service][key] = {text_at(object, {"addressType"}), parse_endpoints(object)};
    ++version_;
  }
}

std::size_t Catalog::drop_slice(const std::string& key) {
  std::size_t dropped = 0;
  for (auto& [service, slices] : slices_) {
    dropped += slices.erase(key);
  }
  return dropped;
}

const Watch* Catalog::slices() const {
  const std::lock_guard lock(mutex_);
  return slice_watch_.get();
}

void Catalog::changed() {
  std::vector<std::function<void()>> listeners;
  {
    const std::lock_guard lock(mutex_);
    // A watch tells every few seconds that there is nothing new, which is no news.
    if (std::exchange(told_, version_) == version_) {
      return;
    }
    listeners = listeners_;
  }
  for (const auto& call : listeners) {
    call();
  }
}

bool Catalog::synced() const {
  if (options_.slices == Slices::kAll) {
    const Watch* of_slices = slices();
    return service_watch_->synced() && of_slices != nullptr && of_slices->synced();
  }
  const std::lock_guard lock(mutex_);
  return service_watch_->synced() && std::all_of(own_slices_.begin(), own_slices_.end(),
                                                 [](const auto& one) { return one.second->synced(); });
}

std::string Catalog::trouble() const {
  const std::lock_guard lock(mutex_);
  std::string said = service_watch_->trouble();
  if (said.empty() && slice_watch_ != nullptr) {
    said = slice_watch_->trouble();
  }
  for (auto one = own_slices_.begin(); said.empty() && one != own_slices_.end(); ++one) {
    said = one->second->trouble();
  }
  return said;
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
  for (const auto& [service, slices] : slices_) {
    for (const auto& [name, slice] : slices) {
      if (std::any_of(slice.endpoints.begin(), slice.endpoints.end(),
                      [&](const Endpoint& endpoint) { return endpoint.uid == uid; })) {
        return true;
      }
    }
  }
  return false;
}

bool Catalog::fill(Service& service) const {
  const std::lock_guard lock(mutex_);
  if (!services_.contains(service.key()) || unread_.contains(service.key())) {
    return false;
  }
  const auto slices = slices_.find(service.key());
  if (slices == slices_.end()) {
    return true;
  }
  for (const auto& [name, slice] : slices->second) {
    if (slice.family != service.family) {
      continue;
    }
    for (const Endpoint& endpoint : slice.endpoints) {
      if (endpoint.address.empty()) {
        service.odd.push_back("endpoint " + endpoint.pod + " has no address: left out, as Istio does");
      } else {
        service.endpoints.push_back(endpoint);
      }
    }
  }
  take_doubles_out(service.endpoints, service.odd);
  return true;
}

std::vector<Service> Catalog::bare_services() const {
  const std::lock_guard lock(mutex_);
  std::vector<Service> out;
  for (const auto& [key, service] : services_) {
    if (!unread_.contains(key)) {
      out.push_back(service);
    }
  }
  return out;
}

std::vector<Service> Catalog::services() const {
  std::vector<Service> out = bare_services();
  std::erase_if(out, [this](Service& service) { return !fill(service); });
  return out;
}

}  // namespace ballast::kube
