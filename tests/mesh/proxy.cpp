// SPDX-License-Identifier: Apache-2.0
#include "proxy.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <cstdlib>
#include <fstream>

#include "tools/lab/http.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

const lab::Endpoint kAdmin{"127.0.0.1", 15000};

Json bootstrap() {
  const Json node = {{"id", "sidecar~10.77.0.1~client.shop~shop.svc.cluster.local"},
                     {"cluster", "client.shop"},
                     {"metadata",
                      {{"NAMESPACE", "shop"},
                       {"CLUSTER_ID", "Kubernetes"},
                       {"ISTIO_VERSION", "1.32.0"},
                       {"LABELS", {{"app", "client"}}},
                       {"INSTANCE_IPS", "10.77.0.1"},
                       {"INTERCEPTION_MODE", "NONE"}}}};
  const Json ads = {{"ads", Json::object()}, {"resource_api_version", "V3"}, {"initial_fetch_timeout", "0s"}};
  const Json http2 = {{"@type", "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"},
                      {"explicit_http_config", {{"http2_protocol_options", Json::object()}}}};
  const Json address = {{"socket_address", {{"address", kHost}, {"port_value", kIstiodPort}}}};
  return {
      {"node", node},
      {"admin",
       {{"address", {{"socket_address", {{"address", kAdmin.address}, {"port_value", kAdmin.port}}}}}}},
      {"dynamic_resources",
       {{"lds_config", ads},
        {"cds_config", ads},
        {"ads_config",
         {{"api_type", "GRPC"},
          {"transport_api_version", "V3"},
          {"set_node_on_first_message_only", true},
          {"grpc_services", Json::array({{{"envoy_grpc", {{"cluster_name", "xds-grpc"}}}}})}}}}},
      {"static_resources",
       {{"clusters",
         Json::array({{{"name", "xds-grpc"},
                       {"type", "STATIC"},
                       {"connect_timeout", "1s"},
                       {"typed_extension_protocol_options",
                        {{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions", http2}}},
                       {"load_assignment",
                        {{"cluster_name", "xds-grpc"},
                         {"endpoints",
                          Json::array({{{"lb_endpoints",
                                         Json::array({{{"endpoint", {{"address", address}}}}})}}})}}}}})}}}};
}

std::string cluster_name(const std::string& host, int port) {
  return fmt::format("outbound|{}||{}", port, host);
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
      out[kube::text_at(host, {"address", "socket_address", "address"})] = read(host);
    }
  }
  return out;
}

}  // namespace

Result<std::unique_ptr<Proxy>> Proxy::start(ControlPlane& plane) {
  const fs::path file = plane.folder() / "envoy.json";
  std::ofstream(file) << bootstrap().dump(1);
  ProcessOptions options;
  const fs::path build = binary_dir().parent_path().parent_path().parent_path();
  options.argv = {(build / "venv/bin/envoy-binary").string(),
                  "-c",
                  file.string(),
                  "--concurrency",
                  "1",
                  "--use-dynamic-base-id",
                  "--log-level",
                  "warning"};
  options.output = plane.folder() / "envoy.log";
  auto process = ChildProcess::spawn(options);
  if (!process) {
    return process.error();
  }
  std::unique_ptr<Proxy> proxy(new Proxy(std::move(*process)));
  const bool ready = eventually([] { return lab::http_get(kAdmin, "/ready", 1000).ok(); }, seconds(60));
  if (!ready) {
    const auto log = read_file(options.output);
    return Error::failed("Envoy did not become ready: " + (log ? *log : ""));
  }
  return proxy;
}

Json Proxy::clusters() const {
  const auto page = lab::http_get(kAdmin, "/clusters?format=json", 3000);
  return page ? Json::parse(*page, nullptr, false) : Json();
}

std::map<std::string, std::uint32_t> Proxy::weights(const std::string& host, int port) const {
  return by_address<std::uint32_t>(clusters(), cluster_name(host, port), [](const Json& one) {
    const Json& weight = kube::at(one, {"weight"});
    return weight.is_number_unsigned() ? weight.get<std::uint32_t>() : 0U;
  });
}

std::map<std::string, std::uint64_t> Proxy::requests(const std::string& host, int port) const {
  return by_address<std::uint64_t>(clusters(), cluster_name(host, port), [](const Json& one) {
    for (const Json& stat : kube::at(one, {"stats"})) {
      if (kube::text_at(stat, {"name"}) == "rq_total") {
        const std::string value = kube::text_at(stat, {"value"});
        return std::strtoull(value.c_str(), nullptr, 10);
      }
    }
    return 0ULL;
  });
}

std::string Proxy::routed_to(const std::string& host, int port) const {
  const auto page = lab::http_get(kAdmin, "/config_dump?resource=dynamic_route_configs", 3000);
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

int Proxy::get(const std::string& host) const {
  auto socket = lab::connect_nonblocking({"127.0.0.1", 80});
  if (!socket) {
    return 0;
  }
  const std::string request = "GET /work?us=10 HTTP/1.1\r\nHost: " + host + "\r\nConnection: close\r\n\r\n";
  pollfd waiting{socket->get(), POLLOUT, 0};
  if (::poll(&waiting, 1, 3000) != 1 ||
      ::send(socket->get(), request.data(), request.size(), MSG_NOSIGNAL) < 0) {
    return 0;
  }
  lab::ResponseParser parser;
  waiting.events = POLLIN;
  while (::poll(&waiting, 1, 5000) == 1) {
    char bytes[4096];
    const ssize_t got = ::recv(socket->get(), bytes, sizeof bytes, 0);
    const auto state = got > 0 ? parser.feed({bytes, static_cast<std::size_t>(got)}) : parser.close();
    if (state == lab::ResponseParser::State::kDone) {
      return parser.status();
    }
    if (got <= 0 || state == lab::ResponseParser::State::kBad) {
      return 0;
    }
  }
  return 0;
}

double Proxy::stat(const std::string& name) const {
  const auto page = lab::http_get(kAdmin, "/stats?filter=^" + name + "$", 3000);
  const std::size_t colon = page ? page->find(": ") : std::string::npos;
  return colon == std::string::npos ? -1 : std::atof(page->c_str() + colon + 2);
}

}  // namespace ballast::mesh
