// SPDX-License-Identifier: Apache-2.0
#include <map>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/export/otlp.h"
#include "bpf/wire/wire.h"

namespace ballast::telemetry {

namespace {

using Json = nlohmann::ordered_json;

// opentelemetry/proto/trace/v1/trace.proto: Span.SpanKind and Status.StatusCode.
constexpr int kKindServer = 2;
constexpr int kKindClient = 3;
constexpr int kStatusError = 2;

/// Bytes of the wire may be anything; JSON is UTF-8.
std::string clean(const std::string& text) {
  std::string out;
  for (const char c : text) {
    out += c >= ' ' && c < 0x7f ? c : '?';
  }
  return out;
}

void text(Json& attributes, const char* key, const std::string& value) {
  if (!value.empty()) {
    attributes.push_back({{"key", key}, {"value", {{"stringValue", clean(value)}}}});
  }
}

void number(Json& attributes, const char* key, std::uint64_t value) {
  attributes.push_back({{"key", key}, {"value", {{"intValue", std::to_string(value)}}}});
}

/// "1.2.3.4:80" or "[::1]:80" in two.
std::pair<std::string, std::uint64_t> split_address(const std::string& address) {
  const std::size_t colon = address.rfind(':');
  if (colon == std::string::npos) {
    return {address, 0};
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 1 && host.front() == '[') {
    host = host.substr(1, host.size() - 2);
  }
  return {host, std::strtoull(address.c_str() + colon + 1, nullptr, 10)};
}

Json resource_of(const identity::Pod& pod) {
  Json attributes = Json::array();
  text(attributes, "service.name",
       !pod.service.empty() ? pod.service
       : !pod.pod.empty()   ? pod.pod
                            : "unknown_service:" + pod.cgroup);
  text(attributes, "service.namespace", pod.ns);
  text(attributes, "k8s.namespace.name", pod.ns);
  text(attributes, "k8s.pod.name", pod.pod);
  text(attributes, "k8s.container.name", pod.container);
  text(attributes, "ballast.cgroup", pod.cgroup);
  return {{"attributes", std::move(attributes)}};
}

Json span_of(const ExportSpan& one) {
  const sample::Span& span = one.span;
  const bool client = span.role == BALLAST_ROLE_CLIENT;
  const std::string route = sample::path_template(span.head.target);
  Json attributes = Json::array();
  text(attributes, "http.request.method", span.head.method.empty() ? "_OTHER" : span.head.method);
  text(attributes, client ? "url.template" : "http.route", route);
  if (span.status != 0) {
    number(attributes, "http.response.status_code", span.status);
  }
  const auto [server, port] = split_address(client ? span.peer : span.local);
  text(attributes, "server.address", server);
  number(attributes, "server.port", port);
  const auto [peer, peer_port] = split_address(span.peer);
  text(attributes, "network.peer.address", peer);
  number(attributes, "network.peer.port", peer_port);
  text(attributes, "peer.service", one.peer_service);
  text(attributes, "ballast.peer.pod", one.peer_pod);
  text(attributes, "network.protocol.name", "http");
  text(attributes, "network.protocol.version", span.protocol == BALLAST_PROTOCOL_HTTP1 ? "1.1" : "2");
  if (span.protocol == BALLAST_PROTOCOL_GRPC) {
    text(attributes, "rpc.system", "grpc");
  }
  if (span.grpc_status) {
    number(attributes, "rpc.grpc.status_code", *span.grpc_status);
  }
  text(attributes, "enduser.pseudo.id", span.head.user);
  const auto first_byte = span.first_byte > span.start ? span.first_byte - span.start : 0;
  number(attributes, "ballast.first_byte_ns", first_byte);
  Json json = {{"traceId", sample::hex(span.trace)}, {"spanId", sample::hex(span.id)}};
  if (span.parent) {
    json["parentSpanId"] = sample::hex(*span.parent);
  }
  json["name"] = clean(span.head.method.empty() ? "HTTP" : span.head.method + " " + route);
  json["kind"] = client ? kKindClient : kKindServer;
  json["startTimeUnixNano"] = std::to_string(one.unix_start_ns);
  json["endTimeUnixNano"] = std::to_string(one.unix_start_ns + (span.end - std::min(span.start, span.end)));
  json["attributes"] = std::move(attributes);
  // A client's error begins at 400, a server's at 500 (semantic conventions for HTTP spans).
  if (span.status >= (client ? 400 : 500)) {
    json["status"] = {{"code", kStatusError}};
  }
  return json;
}

}  // namespace

std::string otlp_json(const std::vector<ExportSpan>& spans) {
  std::map<std::string, std::vector<const ExportSpan*>> by_container;
  for (const ExportSpan& span : spans) {
    by_container[span.pod.cgroup + "\n" + span.pod.pod].push_back(&span);
  }
  Json resources = Json::array();
  for (const auto& [key, members] : by_container) {
    Json list = Json::array();
    for (const ExportSpan* span : members) {
      list.push_back(span_of(*span));
    }
    Json scopes = Json::array();
    scopes.push_back({{"scope", {{"name", "ballast"}}}, {"spans", std::move(list)}});
    resources.push_back({{"resource", resource_of(members.front()->pod)}, {"scopeSpans", std::move(scopes)}});
  }
  return Json{{"resourceSpans", std::move(resources)}}.dump();
}

}  // namespace ballast::telemetry
