// SPDX-License-Identifier: Apache-2.0
#include "core/metrics/otlp_metrics.h"

#include <map>
#include <nlohmann/json.hpp>
#include <utility>

namespace ballast::metrics {

namespace {

using Json = nlohmann::ordered_json;

// opentelemetry/proto/metrics/v1/metrics.proto: AggregationTemporality.
constexpr int kCumulative = 2;
constexpr std::chrono::milliseconds kTimeout{2000};

Json attribute(const std::string& key, const std::string& value) {
  return {{"key", key}, {"value", {{"stringValue", value}}}};
}

/// Labels that are OpenTelemetry's attributes, whose dots Prometheus cannot have; a code is a number there.
Json point_attribute(const std::string& label, const std::string& value) {
  if (label == "http_response_status_code") {
    return {{"key", "http.response.status_code"}, {"value", {{"intValue", value}}}};
  }
  return attribute(label == "http_request_method" ? "http.request.method"
                   : label == "http_route"        ? "http.route"
                   : label == "error_type"        ? "error.type"
                                                  : label,
                   value);
}

/// What a label says of who it is about, in the names of OpenTelemetry's semantic conventions; empty: it says
/// something of the point.
const char* resource_key(const std::string& label) {
  return label == "service"     ? "service.name"
         : label == "namespace" ? "k8s.namespace.name"
         : label == "pod"       ? "k8s.pod.name"
         : label == "container" ? "k8s.container.name"
                                : "";
}

Json resource_of(const Series& series, const std::string& own, const std::string& node) {
  Json attributes = Json::array();
  for (const auto& [name, value] : series.labels) {
    if (const char* key = resource_key(name); *key != 0) {
      attributes.push_back(attribute(key, value));
      if (name == "namespace") {
        attributes.push_back(attribute("service.namespace", value));
      }
    }
  }
  if (attributes.empty()) {
    attributes.push_back(attribute("service.name", own));
  }
  if (!node.empty()) {
    attributes.push_back(attribute("k8s.node.name", node));
  }
  return attributes;
}

Json exemplar_of(const Exemplar& one) {
  return {{"timeUnixNano", std::to_string(one.unix_ns)},
          {"asDouble", one.value_s},
          {"spanId", one.span_id},
          {"traceId", one.trace_id}};
}

Json point_of(const Series& series, Metric::Type type, const std::string& start, const std::string& now) {
  Json attributes = Json::array();
  for (const auto& [name, value] : series.labels) {
    if (*resource_key(name) == 0) {
      attributes.push_back(point_attribute(name, value));
    }
  }
  Json point = {{"attributes", std::move(attributes)}};
  if (type != Metric::Type::kGauge) {
    point["startTimeUnixNano"] = start;
  }
  point["timeUnixNano"] = now;
  if (type != Metric::Type::kHistogram) {
    point["asDouble"] = series.value;
    return point;
  }
  point["sum"] = series.sum;
  point["explicitBounds"] = series.bounds;
  point["bucketCounts"] = Json::array();
  std::uint64_t count = 0;
  for (const std::uint64_t in_bucket : series.counts) {
    point["bucketCounts"].push_back(std::to_string(in_bucket));
    count += in_bucket;
  }
  point["count"] = std::to_string(count);
  for (const auto& exemplar : series.exemplars) {
    if (exemplar) {
      point["exemplars"].push_back(exemplar_of(*exemplar));
    }
  }
  return point;
}

Json metric_of(const Metric& definition, Json points) {
  Json data = {{"dataPoints", std::move(points)}};
  const bool counter = definition.type == Metric::Type::kCounter;
  if (definition.type != Metric::Type::kGauge) {
    data["aggregationTemporality"] = kCumulative;
  }
  if (counter || definition.type == Metric::Type::kUpDown) {
    data["isMonotonic"] = counter;
  }
  const char* kind = definition.type == Metric::Type::kGauge       ? "gauge"
                     : definition.type == Metric::Type::kHistogram ? "histogram"
                                                                   : "sum";
  return {{"name", otel_name(definition)},
          {"description", definition.help},
          {"unit", unit_of(definition.name)},
          {kind, std::move(data)}};
}

}  // namespace

std::string otlp_metrics_json(const std::vector<Family>& families, const std::string& own,
                              const std::string& node, std::uint64_t start_unix_ns,
                              std::uint64_t now_unix_ns) {
  const std::string start = std::to_string(start_unix_ns);
  const std::string now = std::to_string(now_unix_ns);
  std::map<Json, std::map<const Metric*, Json>> resources;
  for (const Family& family : families) {
    for (const Series& series : family.series) {
      resources[resource_of(series, own, node)][family.metric].push_back(
          point_of(series, family.metric->type, start, now));
    }
  }
  Json out = Json::array();
  for (auto& [attributes, metrics] : resources) {
    Json list = Json::array();
    for (auto& [definition, points] : metrics) {
      list.push_back(metric_of(*definition, std::move(points)));
    }
    Json scopes = Json::array();
    scopes.push_back({{"scope", {{"name", "ballast"}}}, {"metrics", std::move(list)}});
    out.push_back({{"resource", {{"attributes", attributes}}}, {"scopeMetrics", std::move(scopes)}});
  }
  // Names come from files and the API server; a byte that is no UTF-8 must not end the agent.
  return Json{{"resourceMetrics", std::move(out)}}.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Result<std::unique_ptr<OtlpSender>> push_metrics(const std::string& endpoint, std::chrono::milliseconds every,
                                                 std::string own, std::string node,
                                                 std::function<std::vector<Family>()> collect) {
  auto url = otlp_url(endpoint, "/v1/metrics");
  if (!url) {
    return url.error();
  }
  const auto wall = [] {
    return static_cast<std::uint64_t>(
        std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count());
  };
  return std::make_unique<OtlpSender>([url = std::move(*url), every, own = std::move(own),
                                       node = std::move(node), collect = std::move(collect), wall,
                                       start = wall(), begun = false,
                                       complaint = std::string()](bool) mutable {
    if (std::exchange(begun, true)) {
      otlp_post(url, otlp_metrics_json(collect(), own, node, start, wall()), kTimeout, "metrics", complaint);
    }
    return every;
  });
}

}  // namespace ballast::metrics
