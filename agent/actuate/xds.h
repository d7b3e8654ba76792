// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "agent/actuate/sink.h"

namespace ballast::actuate {

struct XdsOptions {
  std::string address;        ///< IP:PORT (port 0: chosen by the kernel), or unix:PATH
  bool allow_remote = false;  ///< lets it be reached from other machines; there is no authentication
  /// A proxy that has not answered a response for so long is sent what is new all the same.
  std::chrono::milliseconds patience{2000};
  /// endpoint_stale_after of NAMESPACE/SERVICE+lapsing, which renew() holds up.
  std::chrono::milliseconds stale_after{15'000};
};

/// Serves endpoints with their weights to any Envoy: state-of-the-world EDS over gRPC, on a stream
/// of its own (StreamEndpoints) or inside ADS. The resource of a service is named
/// NAMESPACE/SERVICE; every endpoint is HEALTHY, in one locality, its load_balancing_weight ours.
///
/// A stream is sent only what it named: at subscription what is in force, later each service as it
/// changes. One response is under way at a time, and what comes meanwhile replaces what waits, so a
/// slow proxy costs nobody else anything and ends at the latest state. A NACK is logged; the proxy
/// keeps the endpoints that it had. When this process goes, proxies keep their endpoints and
/// reconnect.
///
/// So that weights end when this process dies and does not come back, each service is served under two more
/// names. NAMESPACE/SERVICE+lapsing: the same, but weights that are not equal lapse `stale_after` after the
/// last renew(), and the proxy is then without these endpoints. NAMESPACE/SERVICE+equal: the same endpoints,
/// always of equal weight, for ever. An aggregate cluster over both, in this order, has our weights while we
/// live and Envoy's own balancing when we do not (examples/envoy/envoy.yaml). Thread-safe. A unix socket is
/// open to its owner alone, as the umask has it.
///
/// Bootstrap of an Envoy (1.40) that takes its endpoints from 127.0.0.1:15010, with a reconnect
/// within a quarter of a second:
///
///   node: {id: envoy-0, cluster: lab}
///   static_resources:
///     clusters:
///     - name: web
///       type: EDS
///       lb_policy: LEAST_REQUEST
///       connect_timeout: 0.25s
///       common_lb_config: {update_merge_window: 0s}  # default 1 s: weights would wait for it
///       eds_cluster_config:
///         service_name: shop/web
///         eds_config:
///           resource_api_version: V3
///           initial_fetch_timeout: 2s                # listeners open after it without endpoints
///           api_config_source:
///             api_type: GRPC
///             transport_api_version: V3
///             set_node_on_first_message_only: true
///             grpc_services:
///             - envoy_grpc:
///                 cluster_name: ballast
///                 retry_policy: {retry_back_off: {base_interval: 0.05s, max_interval: 0.25s}}
///     - name: ballast
///       type: STATIC
///       connect_timeout: 0.25s
///       typed_extension_protocol_options:
///         envoy.extensions.upstreams.http.v3.HttpProtocolOptions:
///           "@type": type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions
///           explicit_http_config:
///             http2_protocol_options: {connection_keepalive: {interval: 5s, timeout: 2s}}
///       load_assignment:
///         cluster_name: ballast
///         endpoints:
///         - lb_endpoints:
///           - endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: 15010}}}
class XdsSink final : public WeightSink {
 public:
  /// Errors: kUsage for an address that is none or beyond loopback; kFailed, naming the address and
  /// the reason, when it cannot be listened on.
  static Result<std::unique_ptr<XdsSink>> listen(const XdsOptions& options);
  ~XdsSink() override;

  std::string name() const override { return "xds:" + address(); }
  /// As bound, with the port that the kernel chose.
  const std::string& address() const;

  Status publish(const guard::GuardedWeights& weights) override;
  /// Equal weights for the endpoints last published, so that the proxies' own balancing is as if
  /// we were not there; then the service is forgotten. Proxies keep the endpoints.
  Status withdraw(const spec::ServiceId& service) override;
  void renew(const spec::ServiceId& service) override;
  /// Waits until every proxy has answered the latest, a second at most; then stops listening and
  /// closes the streams. publish() fails from then on.
  void flush() override;
  /// Acknowledged when every stream that named the service has.
  guard::Answer answer(const spec::ServiceId& service) const override;
  std::size_t subscribers() const override;
  double acknowledgement_delay_s() const override;

 private:
  struct State;
  explicit XdsSink(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ballast::actuate
