// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/envoy.h"

#include <chrono>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>
#include <thread>

#include "core/base/file.h"
#include "tools/lab/policies.h"

namespace ballast::lab {

namespace {

namespace fs = std::filesystem;
using json = nlohmann::json;

constexpr int kUnlimited = 1'000'000'000;
constexpr const char* kType = "type.googleapis.com/envoy.";

std::string type(const std::string& name) {
  return kType + name;
}

json socket_address(const Endpoint& endpoint) {
  return {{"socket_address", {{"address", endpoint.address}, {"port_value", endpoint.port}}}};
}

json connection_manager(const EnvoyOptions& options) {
  json route = {{"cluster", "web"}, {"timeout", "0s"}};
  route["hash_policy"] = json::array({{{"header", {{"header_name", "x-session"}}}}});
  json manager = {
      {"@type", type("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager")},
      {"stat_prefix", "web"},
      {"generate_request_id", false},
      {"stream_idle_timeout", "0s"},
      {"route_config",
       {{"virtual_hosts",
         json::array({{{"name", "web"},
                       {"domains", json::array({"*"})},
                       {"routes", json::array({{{"match", {{"prefix", "/"}}}, {"route", route}}})}}})}}},
      {"http_filters", json::array({{{"name", "envoy.filters.http.router"},
                                     {"typed_config",
                                      {{"@type", type("extensions.filters.http.router.v3.Router")},
                                       {"suppress_envoy_headers", true}}}}})}};
  if (!options.access_log.empty()) {
    manager["access_log"] =
        json::array({{{"name", "envoy.access_loggers.file"},
                      {"typed_config",
                       {{"@type", type("extensions.access_loggers.file.v3.FileAccessLog")},
                        {"path", options.access_log.string()},
                        {"log_format",
                         {{"text_format_source",
                           {{"inline_string",
                             "%UPSTREAM_HOST% %RESPONSE_CODE% %COMMON_DURATION(US_TX_BEG:US_RX_BEG:us)% "
                             "%COMMON_DURATION(US_TX_BEG:US_RX_END:us)%\n"}}}}}}}}});
  }
  return manager;
}

json eds_config(const EnvoyOptions& options) {
  json config = {{"resource_api_version", "V3"}, {"initial_fetch_timeout", "1s"}};
  if (!options.eds_file.empty()) {
    config["path_config_source"] = {{"path", options.eds_file.string()}};
    return config;
  }
  json grpc = {{"cluster_name", "ballast_xds"}};
  grpc["retry_policy"] = {{"retry_back_off", {{"base_interval", "0.05s"}, {"max_interval", "0.25s"}}}};
  config["api_config_source"] = {{"api_type", "GRPC"},
                                 {"transport_api_version", "V3"},
                                 {"grpc_services", json::array({{{"envoy_grpc", grpc}}})}};
  return config;
}

void choose_policy(json& cluster, const std::string& lb_policy) {
  if (lb_policy != kCswrr) {
    cluster["lb_policy"] = lb_policy;
    return;
  }
  const std::string name = "client_side_weighted_round_robin";
  const json config = {
      {"@type", type("extensions.load_balancing_policies." + name + ".v3.ClientSideWeightedRoundRobin")}};
  cluster["load_balancing_policy"]["policies"] =
      json::array({{{"typed_extension_config",
                     {{"name", "envoy.load_balancing_policies." + name}, {"typed_config", config}}}}});
}

json web_cluster(const EnvoyOptions& options) {
  json limits = {
      {"max_connections", kUnlimited}, {"max_pending_requests", kUnlimited}, {"max_requests", kUnlimited}};
  json cluster = {
      {"name", "web"},
      {"type", "EDS"},
      {"connect_timeout", "5s"},
      // The default of 1 s would hold new weights back.
      {"common_lb_config", {{"update_merge_window", "0s"}}},
      {"eds_cluster_config", {{"service_name", options.eds_service}, {"eds_config", eds_config(options)}}},
      {"circuit_breakers", {{"thresholds", json::array({limits})}}}};
  choose_policy(cluster, options.lb_policy);
  return cluster;
}

json xds_cluster(const EnvoyOptions& options) {
  json http2 = {
      {"@type", type("extensions.upstreams.http.v3.HttpProtocolOptions")},
      {"explicit_http_config",
       {{"http2_protocol_options", {{"connection_keepalive", {{"interval", "10s"}, {"timeout", "5s"}}}}}}}};
  return {{"name", "ballast_xds"},
          {"type", "STATIC"},
          {"connect_timeout", "0.5s"},
          {"typed_extension_protocol_options",
           {{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions", http2}}},
          {"load_assignment",
           {{"cluster_name", "ballast_xds"},
            {"endpoints",
             json::array(
                 {{{"lb_endpoints",
                    json::array({{{"endpoint", {{"address", socket_address(options.eds_server)}}}}})}}})}}}};
}

std::uint64_t stat(const json& host, const char* name) {
  for (const auto& entry : host.value("stats", json::array())) {
    if (entry.value("name", "") == name) {
      // A 64-bit value is a string in proto3's JSON; zero is left out.
      const auto value = entry.find("value");
      if (value == entry.end()) {
        return 0;
      }
      return value->is_string() ? std::strtoull(value->get<std::string>().c_str(), nullptr, 10)
                                : value->get<std::uint64_t>();
    }
  }
  return 0;
}

bool runnable(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) &&
         (fs::status(path, error).permissions() & fs::perms::owner_exec) != fs::perms::none;
}

}  // namespace

Result<fs::path> find_envoy() {
  if (const char* given = std::getenv("BALLAST_ENVOY"); given != nullptr && *given != '\0') {
    if (!runnable(given)) {
      return Error::usage(std::string("BALLAST_ENVOY: ") + given + " is not a program");
    }
    return fs::path(given);
  }
  // <build>/venv/bin/, of <build>/<preset>/bin/ballast-lab and of tests in a folder below. envoy-binary is
  // the program, envoy a launcher in Python that starts it.
  std::vector<fs::path> places;
  for (const char* const up : {"../..", "../../.."}) {
    const auto venv = (binary_dir() / up / "venv/bin").lexically_normal();
    places.push_back(venv / "envoy-binary");
    places.push_back(venv / "envoy");
  }
  const fs::path venv = places.front().parent_path();
  if (const char* path = std::getenv("PATH")) {
    std::istringstream in(path);
    for (std::string folder; std::getline(in, folder, ':');) {
      places.push_back(fs::path(folder) / "envoy");
    }
  }
  for (const auto& place : places) {
    if (runnable(place)) {
      return place;
    }
  }
  return Error::failed("no Envoy: neither BALLAST_ENVOY, nor " + venv.string() +
                       ", nor PATH has one; run tools/deps.sh");
}

std::string envoy_bootstrap(const EnvoyOptions& options) {
  json clusters = json::array({web_cluster(options)});
  if (options.eds_file.empty()) {
    clusters.push_back(xds_cluster(options));
  }
  const json filter = {{"name", "envoy.filters.network.http_connection_manager"},
                       {"typed_config", connection_manager(options)}};
  const json listener = {{"name", "web"},
                         {"address", socket_address(options.listener)},
                         {"filter_chains", json::array({{{"filters", json::array({filter})}}})}};
  const json bootstrap = {
      {"node", {{"id", "ballast-lab"}, {"cluster", "ballast-lab"}}},
      {"admin", {{"address", socket_address(options.admin)}}},
      {"static_resources", {{"listeners", json::array({listener})}, {"clusters", clusters}}}};
  return bootstrap.dump(1);
}

Status write_eds_file(const fs::path& file, const std::string& service,
                      const std::vector<EdsEndpoint>& endpoints, std::uint64_t version) {
  json list = json::array();
  for (const auto& endpoint : endpoints) {
    list.push_back({{"endpoint", {{"address", socket_address(endpoint.endpoint)}}},
                    {"load_balancing_weight", endpoint.weight}});
  }
  const json assignment = {{"@type", type("config.endpoint.v3.ClusterLoadAssignment")},
                           {"cluster_name", service},
                           {"endpoints", json::array({{{"lb_endpoints", list}}})}};
  const json response = {{"version_info", std::to_string(version)}, {"resources", json::array({assignment})}};
  return write_file_atomic(file, response.dump());
}

Result<std::vector<HostStatus>> parse_clusters(const std::string& text) {
  const json root = json::parse(text, nullptr, false);
  if (root.is_discarded()) {
    return Error::failed("Envoy's /clusters is not JSON");
  }
  std::vector<HostStatus> hosts;
  try {
    for (const auto& cluster : root.value("cluster_statuses", json::array())) {
      if (cluster.value("name", "") != "web") {
        continue;
      }
      for (const auto& host : cluster.value("host_statuses", json::array())) {
        HostStatus status;
        const auto& address = host.at("address").at("socket_address");
        status.endpoint = {address.at("address").get<std::string>(),
                           address.at("port_value").get<std::uint16_t>()};
        status.weight = host.value("weight", 1);
        status.healthy =
            host.value("health_status", json::object()).value("eds_health_status", "") == "HEALTHY";
        status.rq_total = stat(host, "rq_total");
        status.rq_error = stat(host, "rq_error");
        status.rq_active = stat(host, "rq_active");
        status.cx_connect_fail = stat(host, "cx_connect_fail");
        hosts.push_back(status);
      }
    }
  } catch (const json::exception& e) {
    return Error::failed(std::string("Envoy's /clusters has another shape than expected: ") + e.what());
  }
  return hosts;
}

std::map<std::string, std::uint64_t> parse_counters(const std::string& text) {
  static const std::map<std::string, const char*> kNames = {
      {"http.web.downstream_rq_total", "downstream"},
      {"cluster.web.upstream_rq_total", "upstream"},
      {"cluster.web.upstream_cx_none_healthy", "without_pod"},
      {"cluster.web.upstream_rq_pending_failure_eject", "without_pod"},
      {"cluster.web.upstream_rq_cancelled", "without_pod"},
      {"cluster.web.upstream_rq_pending_active", "without_pod"},
      {"cluster.web.upstream_cx_destroy_remote_with_active_rq", "cut_off"}};
  std::map<std::string, std::uint64_t> counters;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(": ");
    if (const auto found = kNames.find(line.substr(0, colon)); found != kNames.end()) {
      counters[found->second] += std::strtoull(line.c_str() + colon + 2, nullptr, 10);
    }
  }
  return counters;
}

Result<Envoy> Envoy::start(const EnvoyOptions& options) {
  const auto bootstrap = options.folder / "envoy.json";
  if (auto written = write_file_atomic(bootstrap, envoy_bootstrap(options)); !written) {
    return written.error();
  }
  ProcessOptions process;
  process.argv = {options.binary.string(), "-c", bootstrap.string(), "--concurrency", "1",
                  "--disable-hot-restart", "-l", "warning"};
  process.output = options.folder / "envoy.log";
  if (!options.cgroup.empty()) {
    process.cgroups = {options.cgroup};
  }
  auto child = ChildProcess::spawn(process);
  if (!child) {
    return child.error();
  }
  return Envoy(options, std::move(*child));
}

Status Envoy::wait_ready(std::size_t endpoints, int timeout_ms) {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
  std::string why = "no answer yet";
  while (std::chrono::steady_clock::now() < deadline && process_.running()) {
    const auto ready = http_get(options_.admin, "/ready", 500);
    const auto found = ready ? hosts() : Result<std::vector<HostStatus>>(ready.error());
    if (found && found->size() == endpoints) {
      return ok();
    }
    why = found
              ? "it has " + std::to_string(found->size()) + " of " + std::to_string(endpoints) + " endpoints"
              : found.error().message;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  const auto log = read_file(options_.folder / "envoy.log");
  const std::string tail = log ? log->substr(log->size() > 2000 ? log->size() - 2000 : 0) : "";
  return Error::failed("Envoy is not ready: " + why + (process_.running() ? "" : " and it has ended") +
                       "; its log ends:\n" + tail);
}

Result<std::vector<HostStatus>> Envoy::hosts() const {
  const auto body = http_get(options_.admin, "/clusters?format=json", 1000);
  return body ? parse_clusters(*body) : Result<std::vector<HostStatus>>(body.error());
}

Result<std::map<std::string, std::uint64_t>> Envoy::counters() const {
  const auto body = http_get(options_.admin, "/stats?filter=web", 1000);
  return body ? parse_counters(*body) : Result<std::map<std::string, std::uint64_t>>(body.error());
}

}  // namespace ballast::lab
