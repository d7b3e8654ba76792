// SPDX-License-Identifier: Apache-2.0
#include "agent/export/otlp_metrics.h"

#include <condition_variable>
#include <map>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "agent/export/otlp_post.h"

namespace ballast::telemetry {

namespace {

using Json = nlohmann::ordered_json;
using prometheus::ClientMetric;

// opentelemetry/proto/metrics/v1/metrics.proto: AggregationTemporality.
constexpr int kCumulative = 2;
constexpr std::chrono::milliseconds kTimeout{2000};

Json attribute(const std::string& key, const std::string& value) {
  return {{"key", key}, {"value", {{"stringValue", value}}}};
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

Json resource_of(const ClientMetric& metric, const std::string& node) {
  Json attributes = Json::array();
  for (const auto& [name, value] : metric.label) {
    if (const char* key = resource_key(name); *key != 0 && !value.empty()) {
      attributes.push_back(attribute(key, value));
      if (name == "namespace") {
        attributes.push_back(attribute("service.namespace", value));
      }
    }
  }
  if (attributes.empty()) {
    attributes.push_back(attribute("service.name", "ballastd"));
  }
  if (!node.empty()) {
    attributes.push_back(attribute("k8s.node.name", node));
  }
  return attributes;
}

Json point_of(const ClientMetric& metric, Metric::Type type, const std::string& start,
              const std::string& now) {
  Json attributes = Json::array();
  for (const auto& [name, value] : metric.label) {
    if (*resource_key(name) == 0) {
      attributes.push_back(attribute(name, value));
    }
  }
  Json point = {{"attributes", std::move(attributes)}};
  if (type != Metric::Type::kGauge) {
    point["startTimeUnixNano"] = start;
  }
  point["timeUnixNano"] = now;
  if (type != Metric::Type::kHistogram) {
    point["asDouble"] = type == Metric::Type::kCounter ? metric.counter.value : metric.gauge.value;
    return point;
  }
  const auto& histogram = metric.histogram;
  point["count"] = std::to_string(histogram.sample_count);
  point["sum"] = histogram.sample_sum;
  point["bucketCounts"] = point["explicitBounds"] = Json::array();
  std::uint64_t below = 0;
  for (const auto& bucket : histogram.bucket) {
    point["bucketCounts"].push_back(std::to_string(bucket.cumulative_count - below));
    below = bucket.cumulative_count;
    if (&bucket != &histogram.bucket.back()) {  // the last has no bound
      point["explicitBounds"].push_back(bucket.upper_bound);
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

std::string otlp_metrics_json(const std::vector<prometheus::MetricFamily>& families,
                              std::span<const Metric> definitions, const std::string& node,
                              std::uint64_t start_unix_ns, std::uint64_t now_unix_ns) {
  std::map<std::string_view, const Metric*> by_name;
  for (const Metric& one : definitions) {
    by_name[one.name] = &one;
  }
  const std::string start = std::to_string(start_unix_ns);
  const std::string now = std::to_string(now_unix_ns);
  std::map<Json, std::map<const Metric*, Json>> resources;
  for (const auto& family : families) {
    const Metric* const definition = by_name.at(family.name);
    for (const ClientMetric& metric : family.metric) {
      resources[resource_of(metric, node)][definition].push_back(
          point_of(metric, definition->type, start, now));
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

struct OtlpMetricsPush::State {
  void run() {
    std::string complaint;
    std::unique_lock lock(mutex);
    while (!stop) {
      changed.wait_for(lock, every, [this] { return stop; });
      lock.unlock();
      otlp_post(url, body(), kTimeout, "metrics", complaint);
      lock.lock();
    }
  }

  std::string url;
  std::chrono::milliseconds every{};
  std::function<std::string()> body;
  std::mutex mutex;
  std::condition_variable changed;
  bool stop = false;
  std::thread thread;
};

Result<std::unique_ptr<OtlpMetricsPush>> OtlpMetricsPush::start(const std::string& endpoint,
                                                                std::chrono::milliseconds every,
                                                                std::function<std::string()> body) {
  auto url = otlp_url(endpoint, "/v1/metrics");
  if (!url) {
    return url.error();
  }
  auto state = std::make_unique<State>();
  state->url = std::move(*url);
  state->every = every;
  state->body = std::move(body);
  return std::unique_ptr<OtlpMetricsPush>(new OtlpMetricsPush(std::move(state)));
}

OtlpMetricsPush::OtlpMetricsPush(std::unique_ptr<State> state) : state_(std::move(state)) {
  state_->thread = std::thread([this] { state_->run(); });
}

OtlpMetricsPush::~OtlpMetricsPush() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->changed.notify_all();
  state_->thread.join();
}

}  // namespace ballast::telemetry
