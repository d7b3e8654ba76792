// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/kube/client.h"
#include "agent/kube/watch.h"
#include "core/base/shared.h"

namespace ballast::kube {

/// The label by which a Service opts in: active, shadow or off.
inline constexpr const char* kModeLabel = "ballast.dev/mode";

/// The annotation that says how weights are written: endpoint (as without it), route or subset.
inline constexpr const char* kByAnnotation = "ballast.dev/by";

/// The label by which a Service, or its namespace for all that say nothing, names a waypoint of Istio's
/// ambient mesh.
inline constexpr const char* kWaypointLabel = "istio.io/use-waypoint";

struct ServicePort {
  std::string name;  ///< may be empty where the Service has one port
  int number = 0;
  std::string protocol;                       ///< TCP, UDP, SCTP
  std::optional<std::string> app_protocol{};  ///< as the Service says
  std::string target{};                       ///< targetPort: a number, or the name of a container's port
  bool operator==(const ServicePort&) const = default;
};

/// An address and the ports that it answers on: two pods of the host's network differ in the ports alone.
struct Endpoint {
  std::string address;
  std::string pod;           ///< empty when the target is no pod
  std::string uid;           ///< of the pod
  Shared<std::string> node;  ///< empty when the slice does not say
  bool ready = false;        ///< takes new traffic; a terminating pod does not
  Shared<std::map<std::string, int>>
      ports;  ///< by the Service's port name; a port that is not here is not served
  bool operator==(const Endpoint&) const = default;
};

/// A Service that opted in, with all its endpoints, ready or not.
struct Service {
  std::string ns;
  std::string name;
  std::string uid;
  std::string created;          ///< creationTimestamp, as the API writes it
  std::string mode;             ///< as the label says
  std::string by;               ///< as the annotation says; empty: endpoint
  std::string type;             ///< ClusterIP, NodePort, LoadBalancer, ExternalName
  std::string family = "IPv4";  ///< the first of its families: endpoints of others are left out
  std::string waypoint;         ///< as its own label says; none: not its namespace's either
  bool headless = false;
  bool publishes_not_ready = false;    ///< pods that are not ready, or are ending, take traffic too
  bool node_local = false;             ///< clients reach endpoints on their own node only, or prefer them
  bool zone_local = false;             ///< clients prefer endpoints of their own zone
  std::vector<std::string> export_to;  ///< Istio's: namespaces that see it; empty: as the mesh says
  std::vector<ServicePort> ports;
  std::map<std::string, std::string> selector;
  std::vector<Endpoint> endpoints;  ///< by address and ports, each once
  std::vector<std::string> odd;     ///< what of its slices does not fit together, and how it was taken
  std::string key() const { return ns + "/" + name; }
};

/// Labels, and the like: what is no text is left out.
std::map<std::string, std::string> text_map(const Json& object);

/// A Service as the API has it, without its endpoints.
Service parse_service(const Json& object);

/// Of which Services the catalog reads the EndpointSlices.
enum class Slices {
  kAll,
  kWithoutSelector,  ///< whose endpoints nothing else tells: each by a watch of its own
  kNone,
};

struct CatalogOptions {
  /// Of both watches (agent/kube/watch.h). Who writes membership for others takes short ones: a stream that
  /// went silent must be noticed within seconds.
  std::chrono::seconds watch_length{120};
  std::chrono::seconds silence{150};
  Slices slices = Slices::kAll;  ///< Services of others are without endpoints
};

/// What the API server says of the Services that opted in and of their EndpointSlices. Slices of others are
/// looked at and not kept. Thread-safe.
class Catalog {
 public:
  /// Starts the watches: Services, and once they are known their slices. `client` must outlive this, and has
  /// to be stopped before this goes.
  explicit Catalog(Client& client, CatalogOptions options = {});
  ~Catalog();
  Catalog(const Catalog&) = delete;
  Catalog& operator=(const Catalog&) = delete;

  /// true once all that is read has been listed.
  bool synced() const;
  std::string trouble() const;
  /// When both collections were last heard of; 0 before.
  MonotonicNs heard() const;
  /// All Services with the label, in order of namespace and name.
  std::vector<Service> services() const;
  /// The same without their endpoints, which all together are kept here already: fill() gives each its own.
  std::vector<Service> bare_services() const;
  /// Gives one of them its endpoints as they are now; false: it is not there any more.
  bool fill(Service& service) const;
  /// One of them, by NAMESPACE/NAME, without its endpoints.
  std::optional<Service> service(const std::string& key) const;
  /// Is this pod (its uid) an endpoint of one of them, ready or not?
  bool has(const std::string& uid) const;
  /// Grows with every change.
  std::uint64_t version() const;
  /// `call` is told of changes from a watch's thread; it must not call back into the catalog.
  void on_change(std::function<void()> call);

 private:
  struct Slice {
    std::string family;
    std::vector<Endpoint> endpoints;
  };
  void take_service(const Json& object);
  void take_slice(const Json& object);
  void keep_slice(const Json& object);             ///< REQUIRES: mutex_ is held
  std::size_t drop_slice(const std::string& key);  ///< REQUIRES: mutex_ is held
  void services_settled();
  bool read_slices(const std::string& service);
  void follow_without_selector();  ///< REQUIRES: mutex_ is held
  const Watch* slices() const;
  void changed();

  Client& client_;
  const CatalogOptions options_;
  mutable std::mutex mutex_;
  std::map<std::string, Service> services_;
  std::map<std::string, std::map<std::string, Slice>> slices_;  ///< by Service, and by their own names
  std::set<std::string> unread_;   ///< Services that came after the slices were listed, until theirs are read
  std::set<std::string> touched_;  ///< slices that the watch told of while a Service's were read
  std::uint64_t version_ = 0;
  std::uint64_t told_ = 0;  ///< the version that listeners were told of
  std::vector<std::function<void()>> listeners_;
  std::unique_ptr<Watch> service_watch_;
  std::unique_ptr<Watch> slice_watch_;                        ///< set once, under the lock
  std::map<std::string, std::unique_ptr<Watch>> own_slices_;  ///< by Service, with kWithoutSelector
  std::vector<std::unique_ptr<Watch>> ending_;  ///< of own_slices_, that are not wanted any more
};

}  // namespace ballast::kube
