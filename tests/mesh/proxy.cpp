// SPDX-License-Identifier: Apache-2.0
#include "proxy.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "tools/lab/envoy.h"
#include "tools/lab/http.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr int kClientAdmin = 15000;
constexpr int kSidecarAdmin = 15100;  // 15001 and 15006 are Istio's own
constexpr int kGatewayAdmin = 15200;
constexpr int kWaypointAdmin = 15270;

/// Who the Envoy is, as pilot-agent would say it. `addresses`: with commas between them.
Json node_of(const std::string& pod, const std::string& addresses, const Json& labels, const char* mode) {
  return {{"id", "sidecar~" + addresses.substr(0, addresses.find(',')) + "~" + pod +
                     ".shop~shop.svc.cluster.local"},
          {"cluster", pod + ".shop"},
          {"locality", {{"region", "r1"}, {"zone", "z1"}}},
          {"metadata",
           {{"NAMESPACE", "shop"},
            {"CLUSTER_ID", "Kubernetes"},
            {"ISTIO_VERSION", "1.32.0"},
            {"LABELS", labels},
            {"INSTANCE_IPS", addresses},
            {"INTERCEPTION_MODE", mode}}}};
}

/// A cluster of the bootstrap that speaks gRPC to one address.
Json grpc_cluster(const char* name, const Json& address) {
  const Json http2 = {{"@type", "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"},
                      {"explicit_http_config", {{"http2_protocol_options", Json::object()}}}};
  return {{"name", name},
          {"type", "STATIC"},
          {"connect_timeout", "1s"},
          {"typed_extension_protocol_options",
           {{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions", http2}}},
          {"load_assignment",
           {{"cluster_name", name},
            {"endpoints",
             Json::array({{{"lb_endpoints", Json::array({{{"endpoint", {{"address", address}}}}})}}})}}}};
}

Json bootstrap(const Json& node, int admin, const fs::path& sds) {
  const Json ads = {{"ads", Json::object()}, {"resource_api_version", "V3"}, {"initial_fetch_timeout", "0s"}};
  const Json address = {{"socket_address", {{"address", kHost}, {"port_value", kIstiodPort}}}};
  Json clusters = Json::array({grpc_cluster("xds-grpc", address)});
  if (!sds.empty()) {
    clusters.push_back(grpc_cluster("sds-grpc", {{"pipe", {{"path", sds.string()}}}}));
  }
  return {{"node", node},
          {"admin", {{"address", {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", admin}}}}}}},
          {"dynamic_resources",
           {{"lds_config", ads},
            {"cds_config", ads},
            {"ads_config",
             {{"api_type", "GRPC"},
              {"transport_api_version", "V3"},
              {"set_node_on_first_message_only", true},
              {"grpc_services", Json::array({{{"envoy_grpc", {{"cluster_name", "xds-grpc"}}}}})}}}}},
          {"static_resources", {{"clusters", clusters}}}};
}

std::string cluster_name(const std::string& host, int port, const std::string& subset = "") {
  return fmt::format("outbound|{}|{}|{}", port, subset, host);
}

/// `read` of each host of the cluster that takes traffic, by address.
template <typename Value, typename Read>
std::map<std::string, Value> by_address(const Json& clusters, const std::string& name, Read read) {
  std::map<std::string, Value> out;
  for (const Json& cluster : kube::at(clusters, {"cluster_statuses"})) {
    if (kube::text_at(cluster, {"name"}) != name) {
      continue;
    }
    for (const Json& host : kube::at(cluster, {"host_statuses"})) {
      // A Service's endpoint that is not ready stays in the cluster, marked.
      const std::string health = kube::text_at(host, {"health_status", "eds_health_status"});
      if (!health.empty() && health != "HEALTHY" && health != "UNKNOWN") {
        continue;
      }
      std::string address = kube::text_at(host, {"address", "socket_address", "address"});
      if (address.empty()) {
        address = kube::text_at(host, {"address", "envoy_internal_address", "endpoint_id"});
        address = address.substr(0, address.rfind(':'));
      }
      out[address] = read(host);
    }
  }
  return out;
}

std::uint32_t weight_of(const Json& host) {
  const Json& weight = kube::at(host, {"weight"});
  return weight.is_number_unsigned() ? weight.get<std::uint32_t>() : 0U;
}

std::uint64_t requests_of(const Json& host) {
  for (const Json& stat : kube::at(host, {"stats"})) {
    if (kube::text_at(stat, {"name"}) == "rq_total") {
      const std::string value = kube::text_at(stat, {"value"});
      return std::strtoull(value.c_str(), nullptr, 10);
    }
  }
  return 0;
}

/// A listener of the bootstrap whose every request goes to one cluster of istiod's.
Json listener_to(const std::string& cluster, int port) {
  const std::string filters = "type.googleapis.com/envoy.extensions.filters.";
  const Json route = {{"match", {{"prefix", "/"}}}, {"route", {{"cluster", cluster}}}};
  const Json manager = {
      {"@type", filters + "network.http_connection_manager.v3.HttpConnectionManager"},
      {"stat_prefix", "in"},
      {"route_config",
       {{"name", "in"},
        {"validate_clusters", false},
        {"virtual_hosts",
         Json::array({{{"name", "all"}, {"domains", {"*"}}, {"routes", Json::array({route})}}})}}},
      {"http_filters", Json::array({{{"name", "envoy.filters.http.router"},
                                     {"typed_config", {{"@type", filters + "http.router.v3.Router"}}}}})}};
  return {{"name", "in"},
          {"address", {{"socket_address", {{"address", "127.0.0.1"}, {"port_value", port}}}}},
          {"filter_chains",
           Json::array({{{"filters", Json::array({{{"name", "envoy.filters.network.http_connection_manager"},
                                                   {"typed_config", manager}}})}}})}};
}

}  // namespace

Result<std::unique_ptr<Proxy>> Proxy::start(ControlPlane& plane, const fs::path& sds,
                                            const std::string& addresses) {
  return launch(plane, node_of("client", addresses, {{"app", "client"}}, "NONE"), kClientAdmin, sds);
}

Result<std::unique_ptr<Proxy>> Proxy::start_sidecar(ControlPlane& plane, const std::string& pod,
                                                    const std::string& addresses, const fs::path& sds,
                                                    int number) {
  return launch(plane, node_of(pod, addresses, {{"app", "web"}, {"version", "v1"}}, "REDIRECT"),
                kSidecarAdmin + number, sds);
}

Result<std::unique_ptr<Proxy>> Proxy::start_gateway(ControlPlane& plane) {
  const Json node = {{"id", "router~10.77.0.3~gateway.istio-system~istio-system.svc.cluster.local"},
                     {"cluster", "gateway.istio-system"},
                     {"metadata",
                      {{"NAMESPACE", "istio-system"},
                       {"CLUSTER_ID", "Kubernetes"},
                       {"ISTIO_VERSION", "1.32.0"},
                       {"LABELS", {{"istio", "ingressgateway"}}},
                       {"INSTANCE_IPS", "10.77.0.3"}}}};
  return launch(plane, node, kGatewayAdmin, {});
}

std::string Proxy::waypoint_cluster(const std::string& host) {
  return "inbound-vip|80|http|" + host;
}

Result<std::unique_ptr<Proxy>> Proxy::start_waypoint(ControlPlane& plane, const std::string& gateway,
                                                     const std::string& address, const std::string& host,
                                                     const fs::path& sds) {
  const Json node = {{"id", "waypoint~" + address + "~" + gateway + ".shop~shop.svc.cluster.local"},
                     {"cluster", gateway + ".shop"},
                     {"metadata",
                      {{"NAMESPACE", "shop"},
                       {"CLUSTER_ID", "Kubernetes"},
                       {"ISTIO_VERSION", "1.32.0"},
                       {"LABELS", {{"gateway.networking.k8s.io/gateway-name", gateway}}},
                       {"INSTANCE_IPS", address}}}};
  const Json internal = {
      {"name", "envoy.bootstrap.internal_listener"},
      {"typed_config",
       {{"@type", "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener"}}}};
  return launch(plane, node, kWaypointAdmin, sds,
                {{"bootstrap_extensions", Json::array({internal})},
                 {"static_resources",
                  {{"listeners", Json::array({listener_to(waypoint_cluster(host), kWaypointPort)})}}}});
}

Result<std::unique_ptr<Proxy>> Proxy::launch(ControlPlane& plane, const Json& node, int admin,
                                             const fs::path& sds, const Json& own) {
  const fs::path file = plane.folder() / fmt::format("envoy-{}.json", admin);
  Json whole = bootstrap(node, admin, sds);
  whole.merge_patch(own);
  std::ofstream(file) << whole.dump(1);
  ProcessOptions options;
  const auto envoy = lab::find_envoy();
  if (!envoy) {
    return envoy.error();
  }
  options.argv = {envoy->string(),         "-c",          file.string(), "--concurrency", "1",
                  "--use-dynamic-base-id", "--log-level", "warning"};
  options.output = plane.folder() / fmt::format("envoy-{}.log", admin);
  auto process = ChildProcess::spawn(options);
  if (!process) {
    return process.error();
  }
  std::unique_ptr<Proxy> proxy(new Proxy(std::move(*process), admin));
  const bool ready =
      eventually([&] { return lab::http_get(proxy->admin_, "/ready", 1000).ok(); }, seconds(60));
  if (!ready) {
    const auto log = read_file(options.output);
    return Error::failed("Envoy did not become ready: " + (log ? *log : ""));
  }
  return proxy;
}

Json Proxy::clusters() const {
  const auto page = lab::http_get(admin_, "/clusters?format=json", 3000);
  return page ? Json::parse(*page, nullptr, false) : Json();
}

std::map<std::string, std::uint32_t> Proxy::weights_in(const std::string& cluster) const {
  return by_address<std::uint32_t>(clusters(), cluster, weight_of);
}

std::map<std::string, std::uint64_t> Proxy::requests_in(const std::string& cluster) const {
  return by_address<std::uint64_t>(clusters(), cluster, requests_of);
}

std::map<std::string, std::uint32_t> Proxy::weights(const std::string& host, int port) const {
  return weights_in(cluster_name(host, port));
}

std::map<std::string, std::uint64_t> Proxy::requests(const std::string& host, int port,
                                                     const std::string& subset) const {
  return requests_in(cluster_name(host, port, subset));
}

std::map<std::string, int> Proxy::priorities(const std::string& host) const {
  return by_address<int>(clusters(), cluster_name(host, 80), [](const Json& one) {
    const Json& priority = kube::at(one, {"priority"});
    return priority.is_number_integer() ? priority.get<int>() : 0;
  });
}

std::string Proxy::routed_to(const std::string& host, int port) const {
  const auto page = lab::http_get(admin_, "/config_dump?resource=dynamic_route_configs", 3000);
  const Json dump = page ? Json::parse(*page, nullptr, false) : Json();
  for (const Json& entry : kube::at(dump, {"configs"})) {
    if (kube::text_at(entry, {"route_config", "name"}) != std::to_string(port)) {
      continue;
    }
    for (const Json& virtual_host : kube::at(entry, {"route_config", "virtual_hosts"})) {
      for (const Json& domain : kube::at(virtual_host, {"domains"})) {
        if (domain == Json(host)) {
          const Json& routes = kube::at(virtual_host, {"routes"});
          return routes.empty() ? "" : kube::text_at(routes[0], {"route", "cluster"});
        }
      }
    }
  }
  return {};
}

int Proxy::get(const std::string& host, int port, const std::string& header) const {
  return ask(host, port, header).status;
}

Proxy::Reply Proxy::ask(const std::string& host, int port, const std::string& header) const {
  auto socket = lab::connect_nonblocking({"127.0.0.1", static_cast<std::uint16_t>(port)});
  if (!socket) {
    return {};
  }
  const std::string request =
      "GET /work?us=10 HTTP/1.1\r\nHost: " + host + "\r\n" + header + "Connection: close\r\n\r\n";
  pollfd waiting{socket->get(), POLLOUT, 0};
  if (::poll(&waiting, 1, 3000) != 1 ||
      ::send(socket->get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) {
    return {};
  }
  lab::ResponseParser parser;
  std::string text;
  waiting.events = POLLIN;
  while (::poll(&waiting, 1, 5000) == 1) {
    char bytes[4096];
    const ssize_t got = ::recv(socket->get(), bytes, sizeof bytes, 0);
    text.append(bytes, got > 0 ? static_cast<std::size_t>(got) : 0);
    const auto state = got > 0 ? parser.feed({bytes, static_cast<std::size_t>(got)}) : parser.close();
    if (state == lab::ResponseParser::State::kDone) {
      return {parser.status(), text.substr(0, text.find("\r\n\r\n"))};
    }
    if (got <= 0 || state == lab::ResponseParser::State::kBad) {
      return {};
    }
  }
  return {};
}

std::map<std::string, Json> Proxy::inbound() const {
  std::map<std::string, Json> out;
  const auto take = [&](const char* page_name, const char* kind, const char* inner) {
    const auto page = lab::http_get(admin_, page_name, 3000);
    const Json dump = page ? Json::parse(*page, nullptr, false) : Json();
    for (const Json& entry : kube::at(dump, {"configs"})) {
      const Json& config =
          std::string(inner).empty() ? kube::at(entry, {kind}) : kube::at(entry, {inner, kind});
      const std::string name = kube::text_at(config, {"name"});
      const bool in =
          name.starts_with("inbound|") || kube::text_at(config, {"traffic_direction"}) == "INBOUND";
      if (in) {
        out[std::string(kind) + " " + name] = config;
      }
    }
  };
  take("/config_dump?resource=dynamic_active_clusters", "cluster", "");
  take("/config_dump?resource=dynamic_listeners", "listener", "active_state");
  take("/config_dump?resource=dynamic_listeners", "failed_configuration", "error_state");
  return out;
}

std::map<std::string, Json> Proxy::everything() const {
  std::map<std::string, Json> out;
  const auto take = [&](const char* resource, const char* kind, const char* state) {
    const auto page = lab::http_get(admin_, std::string("/config_dump?resource=") + resource, 5000);
    const Json dump = page ? Json::parse(*page, nullptr, false) : Json();
    EXPECT_TRUE(dump.is_object()) << resource << ": " << (page ? *page : page.error().message);
    for (const Json& entry : kube::at(dump, {"configs"})) {
      const Json& held = state == nullptr ? entry : kube::at(entry, {state});
      const Json& config = kube::at(held, {kind});
      out[std::string(kind) + " " + kube::text_at(config, {"name"})] = {
          {"config", config}, {"version", kube::at(held, {"version_info"})}};
    }
  };
  take("dynamic_active_clusters", "cluster", nullptr);
  take("dynamic_listeners", "listener", "active_state");
  take("dynamic_route_configs", "route_config", nullptr);
  return out;
}

std::map<std::string, Json> Proxy::refused_listeners() const {
  std::map<std::string, Json> out;
  const auto page = lab::http_get(admin_, "/config_dump?resource=dynamic_listeners", 5000);
  const Json dump = page ? Json::parse(*page, nullptr, false) : Json();
  for (const Json& entry : kube::at(dump, {"configs"})) {
    const Json& config = kube::at(entry, {"error_state", "failed_configuration"});
    if (config.is_object()) {
      out[kube::text_at(config, {"name"})] = config;
    }
  }
  return out;
}

Json Proxy::cluster(const std::string& host, int port) const {
  const auto page = lab::http_get(admin_, "/config_dump?resource=dynamic_active_clusters", 3000);
  const Json dump = page ? Json::parse(*page, nullptr, false) : Json();
  for (const Json& entry : kube::at(dump, {"configs"})) {
    if (kube::text_at(entry, {"cluster", "name"}) == cluster_name(host, port)) {
      return kube::at(entry, {"cluster"});
    }
  }
  return {};
}

std::map<std::string, bool> Proxy::identities(const std::string& host, int port) const {
  std::map<std::string, bool> out;
  const auto page = lab::http_get(admin_, "/config_dump?include_eds&resource=dynamic_endpoint_configs", 3000);
  const Json dump = page ? Json::parse(*page, nullptr, false) : Json();
  for (const Json& entry : kube::at(dump, {"configs"})) {
    const Json& assignment = kube::at(entry, {"endpoint_config"});
    if (kube::text_at(assignment, {"cluster_name"}) != cluster_name(host, port)) {
      continue;
    }
    for (const Json& locality : kube::at(assignment, {"endpoints"})) {
      for (const Json& one : kube::at(locality, {"lb_endpoints"})) {
        out[kube::text_at(one, {"endpoint", "address", "socket_address", "address"})] =
            kube::text_at(one, {"metadata", "filter_metadata", "envoy.transport_socket_match", "tlsMode"}) ==
            "istio";
      }
    }
  }
  return out;
}

double Proxy::handshakes(const std::string& host, int port) const {
  const auto page = lab::http_get(admin_, "/stats?filter=ssl.handshake", 3000);
  std::istringstream lines(page ? *page : "");
  for (std::string line; std::getline(lines, line);) {
    const std::size_t value = line.rfind(": ");
    if (line.starts_with("cluster." + cluster_name(host, port)) && value != std::string::npos) {
      return std::atof(line.c_str() + value + 2);
    }
  }
  return 0;
}

std::string Proxy::certificates() const {
  const auto page = lab::http_get(admin_, "/certs", 3000);
  return page ? *page : "";
}

double Proxy::stat(const std::string& name) const {
  const auto page = lab::http_get(admin_, "/stats?filter=^" + name + "$", 3000);
  std::istringstream lines(page ? *page : "");
  double sum = -1;
  for (std::string line; std::getline(lines, line);) {
    if (const std::size_t colon = line.rfind(": "); colon != std::string::npos) {
      sum = std::max(sum, 0.0) + std::atof(line.c_str() + colon + 2);
    }
  }
  return sum;
}

double Proxy::sum_of_stats(const std::string& names) const {
  const auto page = lab::http_get(admin_, "/stats?filter=^" + names + "$", 3000);
  std::istringstream lines(page ? *page : "");
  double sum = 0;
  for (std::string line; std::getline(lines, line);) {
    const std::size_t value = line.rfind(": ");
    sum += value == std::string::npos ? 0 : std::atof(line.c_str() + value + 2);
  }
  return sum;
}

std::map<std::string, double> Proxy::taken() const {
  return {{"cds", stat("cluster_manager.cds.update_success")},
          {"lds", stat("listener_manager.lds.update_success")},
          {"rds", sum_of_stats("http\\..*\\.rds\\..*\\.update_success")},
          {"eds", sum_of_stats("cluster\\.outbound.*\\.update_success")}};
}

}  // namespace ballast::mesh
