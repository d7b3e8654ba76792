// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "control_plane.h"
#include "tools/lab/http.h"

namespace ballast::mesh {

/// A real Envoy as the sidecar of a client in namespace shop, configured by istiod alone: listeners on
/// the Services' ports, routed by Host.
class Proxy {
 public:
  /// With `sds`, the socket of a pilot-agent, it has a certificate of istiod's for mTLS. `addresses`: its
  /// own, with commas between them.
  static Result<std::unique_ptr<Proxy>> start(ControlPlane& plane, const fs::path& sds = {},
                                              const std::string& addresses = kHost);
  /// A pod's own sidecar instead: its node id and labels are the pod's. Its listeners may not bind here,
  /// where the pod has their ports; what istiod told it is what counts. `number`: of those that run at once.
  static Result<std::unique_ptr<Proxy>> start_sidecar(ControlPlane& plane, const std::string& pod,
                                                      const std::string& addresses, const fs::path& sds = {},
                                                      int number = 0);

  /// An ingress gateway of the label istio=ingressgateway, in istio-system.
  static Result<std::unique_ptr<Proxy>> start_gateway(ControlPlane& plane);

  /// A waypoint of namespace shop, for the Gateway of this name: an Envoy with the clusters that istiod gives
  /// it. What ztunnel would bring it by HBONE comes to its own port instead, and goes to the cluster of this
  /// host's port 80.
  static Result<std::unique_ptr<Proxy>> start_waypoint(ControlPlane& plane, const std::string& gateway,
                                                       const std::string& address, const std::string& host,
                                                       const fs::path& sds);
  static constexpr int kWaypointPort = 15280;
  /// The cluster of a waypoint that leads to the pods of a host.
  static std::string waypoint_cluster(const std::string& host);
  /// Of one cluster by its whole name; pods behind a tunnel (HBONE) by the address that it leads to.
  std::map<std::string, std::uint32_t> weights_in(const std::string& cluster) const;
  std::map<std::string, std::uint64_t> requests_in(const std::string& cluster) const;

  /// Weights by address of those that take traffic in the cluster of a host and port; empty when there is no
  /// such cluster.
  std::map<std::string, std::uint32_t> weights(const std::string& host, int port = 80) const;
  /// Requests by address that the cluster sent so far.
  std::map<std::string, std::uint64_t> requests(const std::string& host, int port = 80,
                                                const std::string& subset = "") const;
  /// Addresses that take traffic in the cluster of a host's port 80, each with its priority.
  std::map<std::string, int> priorities(const std::string& host) const;
  /// The cluster to which the host's route on this port leads; empty when there is none.
  std::string routed_to(const std::string& host, int port = 80) const;
  /// Its status alone.
  int get(const std::string& host, int port = 80, const std::string& header = "") const;
  /// One GET through the proxy; status 0 when nothing came.
  struct Reply {
    int status = 0;
    std::string head{};  ///< status line and headers, as they came
  };
  Reply ask(const std::string& host, int port = 80, const std::string& header = "") const;
  /// Every cluster, listener and route that istiod configured, by kind and name: its "config", and the
  /// "version" of the push that it came with. Envoy keeps that version while later pushes say the same, so
  /// that who has it still was never anything else in between.
  std::map<std::string, Json> everything() const;
  /// The listeners of istiod's that this Envoy does not know how to be, by name.
  std::map<std::string, Json> refused_listeners() const;
  /// What istiod configured for traffic into the pod: clusters with the Services that they name, and
  /// listeners, by name and without their versions.
  std::map<std::string, Json> inbound() const;
  /// The cluster of a host and port as istiod configured it; null when there is none.
  Json cluster(const std::string& host, int port = 80) const;
  /// By address of the endpoints that istiod told of a host: do they say that they are asked by mTLS, as the
  /// identity of a pod with a sidecar is (tlsMode)?
  std::map<std::string, bool> identities(const std::string& host, int port = 80) const;
  /// Handshakes that the cluster of a host completed as a TLS client.
  double handshakes(const std::string& host, int port = 80) const;
  /// Certificates in use, as Envoy's admin interface shows them.
  std::string certificates() const;
  /// The sum of the statistics whose whole names match (RE2); -1 where none does.
  double stat(const std::string& name) const;
  /// The sum of all whose whole names match this regular expression.
  double sum_of_stats(const std::string& names) const;
  /// What it was sent so far by each kind of push: cds, lds, rds, eds. Of istiod's own count the writer's
  /// questions are a part. Routes have a subscription each.
  std::map<std::string, double> taken() const;

 private:
  Proxy(ChildProcess process, int admin)
      : process_(std::move(process)), admin_{"127.0.0.1", static_cast<std::uint16_t>(admin)} {}
  Json clusters() const;
  static Result<std::unique_ptr<Proxy>> launch(ControlPlane& plane, const Json& node, int admin,
                                               const fs::path& sds, const Json& own = Json::object());
  ChildProcess process_;
  lab::Endpoint admin_;
};

}  // namespace ballast::mesh
