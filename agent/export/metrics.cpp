// SPDX-License-Identifier: Apache-2.0
#include "agent/export/metrics.h"

#include <prometheus/metric_family.h>

#include <algorithm>
#include <iterator>
#include <limits>
#include <span>

#include "agent/sample/maps.h"

namespace ballast::telemetry {

namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

constexpr MonotonicNs kKeepGonePods = 300ULL * 1'000'000'000ULL;
constexpr std::array<double, 10> kTickBounds = {0.0005, 0.001, 0.0025, 0.005, 0.01,
                                                0.025,  0.05,  0.1,    0.25,  1};

MetricFamily family(const char* name, const char* help, MetricType type) {
  MetricFamily made;
  made.name = name;
  made.help = help;
  made.type = type;
  return made;
}

void gauge(MetricFamily& to, Labels labels, double value) {
  ClientMetric& metric = to.metric.emplace_back();
  metric.label = std::move(labels);
  metric.gauge.value = value;
}

void counter(MetricFamily& to, Labels labels, double value) {
  ClientMetric& metric = to.metric.emplace_back();
  metric.label = std::move(labels);
  metric.counter.value = value;
}

void histogram(MetricFamily& to, Labels labels, std::span<const double> bounds,
               std::span<const std::uint64_t> counts, double sum) {
  ClientMetric& metric = to.metric.emplace_back();
  metric.label = std::move(labels);
  std::uint64_t cumulative = 0;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    cumulative += counts[i];
    metric.histogram.bucket.push_back(
        {cumulative, i < bounds.size() ? bounds[i] : std::numeric_limits<double>::infinity()});
  }
  metric.histogram.sample_count = cumulative;
  metric.histogram.sample_sum = sum;
}

// What a total grew by; one that went back began anew at zero.
std::uint64_t growth(std::uint64_t now, std::uint64_t before) {
  return now >= before ? now - before : now;
}

double seconds(std::uint64_t ns) {
  return static_cast<double>(ns) * 1e-9;
}

}  // namespace

void Metrics::observe(const sample::Sample& sample, const std::vector<identity::Pod>& pods,
                      const LoopMetrics& loop) {
  const std::lock_guard lock(mutex_);
  std::unordered_map<sample::CgroupId, const sample::CgroupSample*> by_id;
  by_id.reserve(sample.cgroups.size());
  for (const sample::CgroupSample& cgroup : sample.cgroups) {
    by_id[cgroup.id] = &cgroup;
  }
  for (auto& [key, totals] : pods_) {
    totals.in_flight = 0;
    totals.connections = 0;
    totals.connection_drift.reset();
    for (auto& [name, container] : totals.containers) {
      container.memory_bytes = 0;
    }
  }
  for (const identity::Pod& pod : pods) {
    if (pod.cgroup_id == 0) {
      continue;
    }
    PodTotals& totals = pods_[{pod.ns, pod.service, pod.pod}];
    totals.seen = sample.taken;
    ContainerTotals& container = totals.containers[pod.container];
    const auto found = by_id.find(pod.cgroup_id);
    if (found == by_id.end()) {
      continue;
    }
    const sample::CgroupSample& cgroup = *found->second;
    totals.duration.add(cgroup.last_byte);
    totals.in_flight += cgroup.in_flight;
    totals.connections += cgroup.connections;
    if (cgroup.connection_drift) {
      totals.connection_drift = totals.connection_drift.value_or(0) + *cgroup.connection_drift;
    }
    container.on_cpu_ns += cgroup.on_cpu_ns;
    container.wait_ns += cgroup.wait_ns;
    container.memory_bytes += cgroup.memory_bytes;
    container.pressures = cgroup.pressures;
  }
  std::erase_if(pods_, [&](const auto& entry) { return entry.second.seen + kKeepGonePods < sample.taken; });
  add_loss(sample.loss);
  reconcile_failures_ = sample.reconcile_failures;
  const auto place = std::ranges::lower_bound(kTickBounds, loop.tick_duration_s) - kTickBounds.begin();
  ++tick_counts_[static_cast<std::size_t>(place)];
  tick_sum_s_ += loop.tick_duration_s;
  ++samples_;
  maps_ = sample.maps;
  loop_ = loop;
}

void Metrics::add_loss(const std::array<ballast_loss_value, BALLAST_LOSS_REASONS>& totals) {
  for (std::size_t reason = 0; reason < totals.size(); ++reason) {
    loss_total_[reason].events += growth(totals[reason].events, loss_seen_[reason].events);
    loss_total_[reason].bytes += growth(totals[reason].bytes, loss_seen_[reason].bytes);
  }
  loss_seen_ = totals;
}

void Metrics::set_spans(const OtlpCounts& counts, std::uint64_t lost) {
  const std::lock_guard lock(mutex_);
  spans_ = counts;
  spans_lost_ = lost;
}

void Metrics::set_decision(const turn::Decision& decision) {
  const auto& endpoints = decision.weights.endpoints();
  ServiceWeights service{decision.weights.neutral(), decision.answer.outcome, {}};
  service.endpoints.reserve(endpoints.size());
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    service.endpoints.push_back({endpoints[i].id.pod, endpoints[i].weight,
                                 i < decision.in_force.size() ? decision.in_force[i] : 0});
  }
  const std::lock_guard lock(mutex_);
  weights_[decision.weights.service()] = std::move(service);
}

void Metrics::withdraw(const spec::ServiceId& service) {
  const std::lock_guard lock(mutex_);
  weights_.erase(service);
}

std::vector<MetricFamily> Metrics::Collect() const {
  const std::lock_guard lock(mutex_);
  std::vector<MetricFamily> families;
  collect_pods(families);
  collect_weights(families);
  collect_agent(families);
  // A family without series would be a name without a meaning in the text.
  std::erase_if(families, [](const MetricFamily& one) { return one.metric.empty(); });
  return families;
}

void Metrics::collect_pods(std::vector<MetricFamily>& families) const {
  auto duration = family("http_server_request_duration_seconds",
                         "Duration of HTTP and gRPC server requests to the last byte of the response.",
                         MetricType::Histogram);
  auto active =
      family("http_server_active_requests", "Requests without a finished response.", MetricType::Gauge);
  auto open = family("ballast_open_connections", "Open connections of the pod's sockets.", MetricType::Gauge);
  auto drift = family("ballast_connections_drift",
                      "Open connections by the kernel's socket table less those that the programs counted.",
                      MetricType::Gauge);
  auto cpu = family("container_cpu_time_seconds_total", "CPU time used.", MetricType::Counter);
  auto wait =
      family("ballast_run_queue_wait_seconds_total",
             "Time that tasks were runnable but not running, throttled time included.", MetricType::Counter);
  auto memory =
      family("container_memory_usage_bytes", "Memory used, by the cgroup's own figure.", MetricType::Gauge);
  std::array<MetricFamily, sample::kResources.size()> waiting;
  std::array<MetricFamily, sample::kResources.size()> stalled;
  for (std::size_t i = 0; i < waiting.size(); ++i) {
    const std::string resource = sample::resource_name(sample::kResources[i]);
    const std::string name = "container_pressure_" + resource;
    waiting[i] =
        family((name + "_waiting_seconds_total").c_str(),
               ("Time in which some task waited for " + resource + ".").c_str(), MetricType::Counter);
    stalled[i] =
        family((name + "_stalled_seconds_total").c_str(),
               ("Time in which all tasks waited for " + resource + ".").c_str(), MetricType::Counter);
  }
  for (const auto& [key, totals] : pods_) {
    const Labels labels = {{"namespace", key.ns}, {"service", key.service}, {"pod", key.pod}};
    histogram(duration, labels, kDurationBounds, totals.duration.counts, totals.duration.sum_s);
    gauge(active, labels, static_cast<double>(totals.in_flight));
    gauge(open, labels, static_cast<double>(totals.connections));
    if (totals.connection_drift) {
      gauge(drift, labels, static_cast<double>(*totals.connection_drift));
    }
    for (const auto& [name, container] : totals.containers) {
      Labels with_container = labels;
      with_container.push_back({"container", name});
      counter(cpu, with_container, seconds(container.on_cpu_ns));
      counter(wait, with_container, seconds(container.wait_ns));
      for (std::size_t i = 0; i < waiting.size(); ++i) {
        if (const auto& pressure = container.pressures[i]) {
          counter(waiting[i], with_container, static_cast<double>(pressure->some.total_us) * 1e-6);
          counter(stalled[i], with_container, static_cast<double>(pressure->full.total_us) * 1e-6);
        }
      }
      gauge(memory, std::move(with_container), static_cast<double>(container.memory_bytes));
    }
  }
  for (MetricFamily* one : {&duration, &active, &open, &drift, &cpu, &wait, &memory}) {
    families.push_back(std::move(*one));
  }
  for (auto* many : {&waiting, &stalled}) {
    std::ranges::move(*many, std::back_inserter(families));
  }
}

void Metrics::collect_weights(std::vector<MetricFamily>& families) const {
  auto weight = family("ballast_weight", "Weight in force; a fair share is 1000.", MetricType::Gauge);
  auto neutral =
      family("ballast_service_neutral", "1 while all endpoints have equal weights.", MetricType::Gauge);
  auto decided = family("ballast_decided_weight", "Weight as decided, in force or not.", MetricType::Gauge);
  auto outcome = family("ballast_decision_outcome", "What became of the decided weights.", MetricType::Gauge);
  for (const auto& [service, weights] : weights_) {
    const Labels of_service = {{"namespace", service.ns}, {"service", service.name}};
    gauge(neutral, of_service, weights.neutral ? 1 : 0);
    Labels labels = of_service;
    labels.push_back({"outcome", guard::to_string(weights.outcome)});
    gauge(outcome, labels, 1);
    for (const EndpointWeight& endpoint : weights.endpoints) {
      labels = of_service;
      labels.push_back({"pod", endpoint.pod});
      gauge(decided, labels, endpoint.decided);
      if (endpoint.in_force != 0) {
        gauge(weight, labels, endpoint.in_force);
      }
    }
  }
  for (auto* each : {&weight, &neutral, &decided, &outcome}) {
    families.push_back(std::move(*each));
  }
}

void Metrics::collect_agent(std::vector<MetricFamily>& families) const {
  const auto one_gauge = [&](const char* name, const char* help, double value) {
    gauge(families.emplace_back(family(name, help, MetricType::Gauge)), {}, value);
  };
  counter(families.emplace_back(family("ballast_samples_total", "Ticks measured.", MetricType::Counter)), {},
          static_cast<double>(samples_));
  counter(families.emplace_back(family("ballast_reconcile_failures_total",
                                       "Times that netlink refused its socket table.", MetricType::Counter)),
          {}, static_cast<double>(reconcile_failures_));
  histogram(families.emplace_back(
                family("ballast_tick_duration_seconds", "Work of one tick.", MetricType::Histogram)),
            {}, kTickBounds, tick_counts_, tick_sum_s_);
  one_gauge("ballast_policy_epoch", "Epoch of the parameters in force.",
            static_cast<double>(loop_.policy_epoch));
  one_gauge("ballast_policy_version", "Version of the parameters in force.",
            static_cast<double>(loop_.policy_version));
  one_gauge("ballast_xds_subscribers", "Proxies that take weights from us.",
            static_cast<double>(loop_.subscribers));
  one_gauge("ballast_acknowledgement_delay_seconds",
            "From a publication to a proxy's acknowledgement, median of late.",
            loop_.acknowledgement_delay_s);
  auto troubles = family("ballast_trouble", "1: it cannot do its work now.", MetricType::Gauge);
  for (const auto& [of, fails] : loop_.troubles) {
    gauge(troubles, {{"of", of}}, fails ? 1 : 0);
  }
  families.push_back(std::move(troubles));

  if (spans_) {
    const auto one_counter = [&](const char* name, const char* help, std::uint64_t value) {
      counter(families.emplace_back(family(name, help, MetricType::Counter)), {}, static_cast<double>(value));
    };
    one_counter("ballast_spans_exported_total", "Spans that a collector took.", spans_->exported);
    one_counter("ballast_spans_dropped_total", "Spans that found no room or were refused.", spans_->dropped);
    one_counter("ballast_spans_lost_total", "Spans overwritten in the kernel.", spans_lost_);
    one_counter("ballast_spans_failures_total", "Export requests that failed.", spans_->failures);
  }
  auto events =
      family("ballast_loss_events_total", "Messages or events not measured, by reason.", MetricType::Counter);
  auto bytes = family("ballast_loss_bytes_total", "Bytes not parsed, by reason.", MetricType::Counter);
  for (std::size_t reason = 0; reason < loss_total_.size(); ++reason) {
    const char* const name = sample::loss_reason_name(static_cast<ballast_loss_reason>(reason));
    counter(events, {{"reason", name}}, static_cast<double>(loss_total_[reason].events));
    counter(bytes, {{"reason", name}}, static_cast<double>(loss_total_[reason].bytes));
  }
  families.push_back(std::move(events));
  families.push_back(std::move(bytes));

  auto entries = family("ballast_map_entries", "Entries of a BPF map.", MetricType::Gauge);
  auto most = family("ballast_map_max_entries", "Entries that a BPF map can hold.", MetricType::Gauge);
  for (const sample::MapFill& map : maps_) {
    gauge(entries, {{"map", map.name}}, static_cast<double>(map.entries));
    gauge(most, {{"map", map.name}}, static_cast<double>(map.max_entries));
  }
  families.push_back(std::move(entries));
  families.push_back(std::move(most));
}

}  // namespace ballast::telemetry
