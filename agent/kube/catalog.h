// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "agent/kube/client.h"
#include "agent/kube/watch.h"

namespace ballast::kube {

/// The label by which a Service opts in: active, shadow or off.
inline constexpr const char* kModeLabel = "ballast.dev/mode";

/// The annotation that says what the weights are of: endpoint (as without it) or subset.
inline constexpr const char* kByAnnotation = "ballast.dev/by";

struct ServicePort {
  std::string name;
  int number = 0;
  std::string protocol;      ///< TCP, UDP, SCTP
  std::string app_protocol;  ///< as the Service says, empty when it does not
  bool operator==(const ServicePort&) const = default;
};

struct Endpoint {
  std::string address;
  std::string pod;   ///< empty when the target is no pod
  std::string uid;   ///< of the pod
  std::string node;  ///< empty when the slice does not say
  std::string zone;
  bool ready = false;                ///< takes new traffic; a terminating pod does not
  std::map<std::string, int> ports;  ///< by the Service's port name
  bool operator==(const Endpoint&) const = default;
};

/// A Service that opted in, with all its endpoints, ready or not.
struct Service {
  std::string ns;
  std::string name;
  std::string uid;
  std::string mode;             ///< as the label says
  std::string by;               ///< as the annotation says; empty: endpoint
  std::string type;             ///< ClusterIP, NodePort, LoadBalancer, ExternalName
  std::string family = "IPv4";  ///< the first of its families: endpoints of others are left out
  bool headless = false;
  bool node_local = false;             ///< clients reach endpoints on their own node only, or prefer them
  bool zone_local = false;             ///< clients prefer endpoints of their own zone
  std::vector<std::string> export_to;  ///< Istio's: namespaces that see it; empty: as the mesh says
  std::vector<ServicePort> ports;
  std::map<std::string, std::string> selector;
  std::vector<Endpoint> endpoints;  ///< by address, each once
  std::string key() const { return ns + "/" + name; }
};

/// What the API server says of the Services that opted in and of their EndpointSlices. Thread-safe.
class Catalog {
 public:
  /// Starts two watches. `client` must outlive this, and has to be stopped before this goes.
  explicit Catalog(Client& client);

  /// true once both collections have been listed.
  bool synced() const;
  std::string trouble() const;
  /// All Services with the label, in order of namespace and name.
  std::vector<Service> services() const;
  /// One of them, by NAMESPACE/NAME, without its endpoints.
  std::optional<Service> service(const std::string& key) const;
  /// Grows with every change.
  std::uint64_t version() const;
  /// `call` is told of changes from a watch's thread; it must not call back into the catalog.
  void on_change(std::function<void()> call);

 private:
  struct Slice {
    std::string service;  ///< NAMESPACE/NAME
    std::string family;
    std::vector<Endpoint> endpoints;
  };
  void take_service(const Json& object);
  void take_slice(const Json& object);
  void changed();

  mutable std::mutex mutex_;
  std::map<std::string, Service> services_;
  std::map<std::string, Slice> slices_;
  std::uint64_t version_ = 0;
  std::vector<std::function<void()>> listeners_;
  std::unique_ptr<Watch> service_watch_;
  std::unique_ptr<Watch> slice_watch_;
};

}  // namespace ballast::kube
