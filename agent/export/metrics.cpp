// SPDX-License-Identifier: Apache-2.0
#include "agent/export/metrics.h"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <initializer_list>
#include <optional>
#include <string_view>
#include <utility>

#include "agent/sample/maps.h"
#include "core/spec/unnamed.h"

namespace ballast::telemetry {

namespace {

using metrics::Exemplar;
using metrics::Family;
using metrics::Metric;
using metrics::Series;

/// Bounds the series of a node whose pods come and go without an end.
constexpr std::size_t kMostPods = 4096;
constexpr MonotonicNs kKeepGonePods = 300ULL * 1'000'000'000ULL;
constexpr std::array<double, 10> kTickBounds = {0.0005, 0.001, 0.0025, 0.005, 0.01,
                                                0.025,  0.05,  0.1,    0.25,  1};

constexpr const char* kPod = "namespace,service,pod";
constexpr const char* kContainer = "namespace,service,pod,container";

/// All that is exported. Counters never go back while the agent runs.
constexpr auto kMetrics = std::to_array<Metric>({
    {"http_server_request_duration_seconds", Metric::Type::kHistogram,
     "namespace,service,pod,http_request_method,http_response_status_code,error_type,http_route",
     "Duration of HTTP and gRPC server requests to the last byte of the response. All of them, and how many "
     "have an error_type (5xx), are counted; method, code and route are shared out as sampled spans had "
     "them, "
     "at most 32 sets of them a pod, and missing where no span has told.",
     "http.server.request.duration"},
    {"rpc_server_call_duration_seconds", Metric::Type::kHistogram, kPod,
     "The same of gRPC calls alone, on pods that answered one.", "rpc.server.call.duration"},
    {"http_server_active_requests", Metric::Type::kUpDown, kPod, "Requests without a finished response.",
     "http.server.active_requests"},
    {"ballast_requests_failed_total", Metric::Type::kCounter, kPod,
     "Requests that ended with 5xx, with a gRPC status that is the server's failure, or without an answer."},
    {"ballast_open_connections", Metric::Type::kUpDown, kPod, "Open connections of the pod's sockets."},
    {"ballast_connections_drift", Metric::Type::kGauge, kPod,
     "Open connections by the kernel's socket table less those that the programs counted."},
    {"container_cpu_time_seconds_total", Metric::Type::kCounter, kContainer, "CPU time used.",
     "container.cpu.time"},
    {"ballast_run_queue_wait_seconds_total", Metric::Type::kCounter, kContainer,
     "Time that tasks were runnable but not running, throttled time included."},
    {"container_memory_usage_bytes", Metric::Type::kGauge, kContainer,
     "Memory used, by the cgroup's own figure.", "container.memory.usage"},
    {"container_pressure_cpu_waiting_seconds_total", Metric::Type::kCounter, kContainer,
     "Time in which some task waited for cpu."},
    {"container_pressure_cpu_stalled_seconds_total", Metric::Type::kCounter, kContainer,
     "Time in which all tasks waited for cpu."},
    {"container_pressure_memory_waiting_seconds_total", Metric::Type::kCounter, kContainer,
     "Time in which some task waited for memory."},
    {"container_pressure_memory_stalled_seconds_total", Metric::Type::kCounter, kContainer,
     "Time in which all tasks waited for memory."},
    {"container_pressure_io_waiting_seconds_total", Metric::Type::kCounter, kContainer,
     "Time in which some task waited for io."},
    {"container_pressure_io_stalled_seconds_total", Metric::Type::kCounter, kContainer,
     "Time in which all tasks waited for io."},
    {"ballast_weight", Metric::Type::kGauge, kPod,
     "Weight in force by us, missing where nothing is; a fair share is 1000."},
    {"ballast_decided_weight", Metric::Type::kGauge, kPod, "Weight as decided, in force or not."},
    {"ballast_shadow_share", Metric::Type::kGauge, kPod,
     "Share of the Service's traffic (0 to 1) that mode active goes towards, before its step and a trip: in "
     "mode "
     "shadow what it would do. Of the process that writes; a node's knows its own pods alone."},
    {"ballast_service_neutral", Metric::Type::kGauge, "namespace,service",
     "1 while all endpoints have equal weights."},
    {"ballast_service_tripped", Metric::Type::kGauge, "namespace,service",
     "1 while the guard keeps weights equal because they did harm."},
    {"ballast_forecast_error", Metric::Type::kGauge, "namespace,service",
     "Mean square of the forecast - came over the last minutes, of the log of the pods' speeds."},
    {"ballast_forecast_error_as_now", Metric::Type::kGauge, "namespace,service",
     "The same of \"as it is now\"."},
    {"ballast_forecast_in_use", Metric::Type::kGauge, "namespace,service",
     "1 while forecasts came true often enough to be acted on."},
    {"ballast_forecast_pairs_total", Metric::Type::kCounter, "namespace,service",
     "Pairs of what was seen and what came, which are learned from."},
    {"ballast_forecast_period_seconds", Metric::Type::kGauge, "namespace,service",
     "Of the habit that the service's pods share best; 0: none."},
    {"ballast_twin_recorded_seconds", Metric::Type::kGauge, "namespace,service",
     "Recording that the service's twin was last built from."},
    {"ballast_twin_foreseen_p99_seconds", Metric::Type::kGauge, "namespace,service",
     "What the twin foresaw of the part that nothing was learned from."},
    {"ballast_twin_came_p99_seconds", Metric::Type::kGauge, "namespace,service", "What came in that part."},
    {"ballast_twin_gains_ratio", Metric::Type::kGauge, "namespace,service",
     "p99 of the learned gains over that of the rule's own, in the twin of that part."},
    {"ballast_twin_gains_in_force", Metric::Type::kGauge, "namespace,service",
     "1 while learned gains act; else the rule's own."},
    {"ballast_decision_outcome", Metric::Type::kGauge, "namespace,service,outcome",
     "1: what became of the decided weights."},
    {"process_cpu_seconds_total", Metric::Type::kCounter, "", "CPU time of the agent itself.",
     "process.cpu.time"},
    {"process_resident_memory_bytes", Metric::Type::kGauge, "", "Memory of the agent itself.",
     "process.memory.usage"},
    {"ballast_metrics_pods_left_out", Metric::Type::kGauge, "",
     "Pods without metrics of their own: more than 4096 were known in the last five minutes."},
    {"ballast_samples_total", Metric::Type::kCounter, "", "Ticks measured."},
    {"ballast_reconcile_failures_total", Metric::Type::kCounter, "",
     "Times that netlink refused its socket table."},
    {"ballast_tick_duration_seconds", Metric::Type::kHistogram, "", "Work of one tick."},
    {"ballast_policy_epoch", Metric::Type::kGauge, "", "Epoch of the parameters in force."},
    {"ballast_policy_version", Metric::Type::kGauge, "", "Version of the parameters in force."},
    {"ballast_xds_subscribers", Metric::Type::kGauge, "", "Proxies that take weights from us."},
    {"ballast_acknowledgement_delay_seconds", Metric::Type::kGauge, "",
     "From a publication to a proxy's acknowledgement, median of late."},
    {"ballast_trouble", Metric::Type::kGauge, "of",
     "1: it cannot do its work now; of policy: parameters of another version are refused, and the strong "
     "rule "
     "acts."},
    {"ballast_samples_disbelieved_total", Metric::Type::kCounter, "why",
     "Samples of a cgroup that cannot be (cpu: more than the machine has; answers: to requests that never "
     "came; "
     "in_flight: below zero) and were not believed."},
    {"ballast_users", Metric::Type::kGauge, "namespace,service",
     "Different users of sampled requests in the last five to ten minutes, within 4 %."},
    {"ballast_spans_exported_total", Metric::Type::kCounter, "", "Spans that a collector took."},
    {"ballast_spans_dropped_total", Metric::Type::kCounter, "", "Spans that found no room or were refused."},
    {"ballast_spans_lost_total", Metric::Type::kCounter, "", "Spans overwritten in the kernel."},
    {"ballast_spans_failures_total", Metric::Type::kCounter, "", "Export requests that failed."},
    {"ballast_loss_events_total", Metric::Type::kCounter, "reason",
     "Messages or events not measured, by reason."},
    {"ballast_loss_bytes_total", Metric::Type::kCounter, "reason", "Bytes not parsed, by reason."},
    {"ballast_map_entries", Metric::Type::kGauge, "map", "Entries of a BPF map."},
    {"ballast_map_max_entries", Metric::Type::kGauge, "map", "Entries that a BPF map can hold."},
});

/// The metric of that name; a name that is not in the table does not compile.
struct Named {
  template <std::size_t N>
  consteval Named(const char (&name)[N]) : metric(find(std::string_view(name, N - 1))) {}  // NOLINT
  static consteval const Metric* find(std::string_view name) {
    for (const Metric& one : kMetrics) {
      if (one.name == name) {
        return &one;
      }
    }
    throw "there is no such metric";
  }
  const Metric* metric;
};

/// The series of one metric, which come to `to` when it goes.
class Collected {
 public:
  Collected(std::vector<Family>& to, Named named) : to_(to) { family_.metric = named.metric; }
  Collected(const Collected&) = delete;
  Collected& operator=(const Collected&) = delete;
  ~Collected() {
    // A family without series would be a name without a meaning in the text.
    if (!family_.series.empty()) {
      to_.push_back(std::move(family_));
    }
  }

  /// `labels` are the values, in the order of the definition's names.
  void add(std::initializer_list<std::string> labels, double value) { labelled(labels).value = value; }
  void add(std::initializer_list<std::string> labels, std::span<const double> bounds,
           std::span<const std::uint64_t> counts, double sum,
           std::span<const std::optional<Exemplar>> exemplars = {}) {
    Series& series = labelled(labels);
    series.bounds = bounds;
    series.counts.assign(counts.begin(), counts.end());
    series.exemplars.assign(exemplars.begin(), exemplars.end());
    series.sum = sum;
  }

 private:
  Series& labelled(std::initializer_list<std::string> values) {
    Series& series = family_.series.emplace_back();
    std::string_view names = family_.metric->labels;
    for (const std::string& value : values) {
      const auto comma = std::min(names.find(','), names.size());
      if (!value.empty()) {
        series.labels.emplace_back(names.substr(0, comma), value);
      }
      names.remove_prefix(std::min(comma + 1, names.size()));
    }
    return series;
  }

  std::vector<Family>& to_;
  Family family_;
};

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
  left_out_ = 0;
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
    const PodKey key{pod.ns, pod.service, pod.pod};
    if (pods_.size() >= kMostPods && !pods_.contains(key)) {
      ++left_out_;
      continue;
    }
    PodTotals& totals = pods_[key];
    totals.seen = sample.taken;
    ContainerTotals& container = totals.containers[pod.container];
    const auto found = by_id.find(pod.cgroup_id);
    if (found == by_id.end()) {
      continue;
    }
    const sample::CgroupSample& cgroup = *found->second;
    totals.duration.add(cgroup.last_byte, cgroup.answers);
    totals.grpc.add(cgroup.grpc_last_byte);
    totals.failed += cgroup.errors;
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

void Metrics::set_users(std::map<spec::ServiceId, double> users) {
  const std::lock_guard lock(mutex_);
  users_ = std::move(users);
}

void Metrics::learn(std::span<const ExportSpan> spans, bool exported) {
  const std::lock_guard lock(mutex_);
  for (const ExportSpan& one : spans) {
    const sample::Span& span = one.span;
    const auto pod = pods_.find({one.pod.ns, one.pod.service, one.pod.pod});
    if (pod == pods_.end() || span.role != BALLAST_ROLE_SERVER || span.status == 0) {
      continue;
    }
    const std::uint64_t took = span.end - std::min(span.start, span.end);
    std::optional<Exemplar> exemplar;
    if (exported) {
      exemplar =
          Exemplar{sample::hex(span.trace), sample::hex(span.id), seconds(took), one.unix_start_ns + took};
    }
    pod->second.duration.learn(
        request_attributes(span.head.method, span.status,
                           one.route.empty() ? sample::path_template(span.head.target) : one.route),
        seconds(took), std::move(exemplar));
  }
}

void Metrics::set_decision(const turn::Decision& decision) {
  const auto& endpoints = decision.weights.endpoints();
  ServiceWeights service{decision.weights.neutral(), false,
                         decision.answer.outcome,    {},
                         decision.proposal.forecast, decision.proposal.twin};
  service.endpoints.reserve(endpoints.size());
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    service.tripped = service.tripped || (endpoints[i].reasons & guard::kTripped) != 0;
    if (!spec::is_named(endpoints[i].id)) {
      continue;
    }
    service.endpoints.push_back({endpoints[i].id.pod, endpoints[i].weight,
                                 i < decision.in_force.size() ? decision.in_force[i] : 0,
                                 endpoints[i].guarded_share});
  }
  const std::lock_guard lock(mutex_);
  weights_[decision.weights.service()] = std::move(service);
}

void Metrics::withdraw(const spec::ServiceId& service) {
  const std::lock_guard lock(mutex_);
  weights_.erase(service);
}

std::span<const metrics::Metric> Metrics::definitions() {
  return kMetrics;
}

std::vector<metrics::Family> Metrics::collect() const {
  const std::lock_guard lock(mutex_);
  std::vector<Family> families;
  collect_pods(families);
  collect_users(families);
  collect_weights(families);
  collect_agent(families);
  std::ranges::sort(families, {}, [](const Family& one) { return one.metric->name; });
  return families;
}

void Metrics::collect_pods(std::vector<Family>& families) const {
  Collected duration(families, "http_server_request_duration_seconds");
  Collected grpc(families, "rpc_server_call_duration_seconds");
  Collected active(families, "http_server_active_requests");
  Collected failed(families, "ballast_requests_failed_total");
  Collected open(families, "ballast_open_connections");
  Collected drift(families, "ballast_connections_drift");
  Collected cpu(families, "container_cpu_time_seconds_total");
  Collected wait(families, "ballast_run_queue_wait_seconds_total");
  Collected memory(families, "container_memory_usage_bytes");
  // In the order of sample::kResources.
  std::array<Collected, sample::kResources.size()> waiting = {
      Collected(families, "container_pressure_cpu_waiting_seconds_total"),
      Collected(families, "container_pressure_memory_waiting_seconds_total"),
      Collected(families, "container_pressure_io_waiting_seconds_total")};
  std::array<Collected, sample::kResources.size()> stalled = {
      Collected(families, "container_pressure_cpu_stalled_seconds_total"),
      Collected(families, "container_pressure_memory_stalled_seconds_total"),
      Collected(families, "container_pressure_io_stalled_seconds_total")};
  for (const auto& [key, totals] : pods_) {
    for (const auto& [of, part] : totals.duration.parts()) {
      duration.add({key.ns, key.service, key.pod, of.method, of.status == 0 ? "" : std::to_string(of.status),
                    of.error, of.route},
                   kDurationBounds, part.duration.counts, part.duration.sum_s, part.exemplars);
    }
    if (totals.grpc.sum_s > 0) {
      grpc.add({key.ns, key.service, key.pod}, kDurationBounds, totals.grpc.counts, totals.grpc.sum_s);
    }
    failed.add({key.ns, key.service, key.pod}, static_cast<double>(totals.failed));
    active.add({key.ns, key.service, key.pod}, static_cast<double>(totals.in_flight));
    open.add({key.ns, key.service, key.pod}, static_cast<double>(totals.connections));
    if (totals.connection_drift) {
      drift.add({key.ns, key.service, key.pod}, static_cast<double>(*totals.connection_drift));
    }
    for (const auto& [name, container] : totals.containers) {
      cpu.add({key.ns, key.service, key.pod, name}, seconds(container.on_cpu_ns));
      wait.add({key.ns, key.service, key.pod, name}, seconds(container.wait_ns));
      for (std::size_t i = 0; i < waiting.size(); ++i) {
        if (const auto& pressure = container.pressures[i]) {
          waiting[i].add({key.ns, key.service, key.pod, name},
                         static_cast<double>(pressure->some.total_us) * 1e-6);
          stalled[i].add({key.ns, key.service, key.pod, name},
                         static_cast<double>(pressure->full.total_us) * 1e-6);
        }
      }
      memory.add({key.ns, key.service, key.pod, name}, static_cast<double>(container.memory_bytes));
    }
  }
}

void Metrics::collect_users(std::vector<Family>& families) const {
  Collected users(families, "ballast_users");
  for (const auto& [service, count] : users_) {
    if (count > 0) {
      users.add({service.ns, service.name}, count);
    }
  }
}

void Metrics::collect_weights(std::vector<Family>& families) const {
  Collected weight(families, "ballast_weight");
  Collected decided(families, "ballast_decided_weight");
  Collected shadow(families, "ballast_shadow_share");
  Collected neutral(families, "ballast_service_neutral");
  Collected tripped(families, "ballast_service_tripped");
  Collected outcome(families, "ballast_decision_outcome");
  Collected error(families, "ballast_forecast_error");
  Collected as_now(families, "ballast_forecast_error_as_now");
  Collected in_use(families, "ballast_forecast_in_use");
  Collected pairs(families, "ballast_forecast_pairs_total");
  Collected period(families, "ballast_forecast_period_seconds");
  Collected recorded(families, "ballast_twin_recorded_seconds");
  Collected foreseen(families, "ballast_twin_foreseen_p99_seconds");
  Collected came(families, "ballast_twin_came_p99_seconds");
  Collected ratio(families, "ballast_twin_gains_ratio");
  Collected gains(families, "ballast_twin_gains_in_force");
  for (const auto& [service, weights] : weights_) {
    neutral.add({service.ns, service.name}, weights.neutral ? 1 : 0);
    tripped.add({service.ns, service.name}, weights.tripped ? 1 : 0);
    outcome.add({service.ns, service.name, guard::to_string(weights.outcome)}, 1);
    if (const auto& forecast = weights.forecast) {
      error.add({service.ns, service.name}, forecast->error);
      as_now.add({service.ns, service.name}, forecast->as_now);
      in_use.add({service.ns, service.name}, forecast->in_use ? 1 : 0);
      pairs.add({service.ns, service.name}, static_cast<double>(forecast->pairs));
      period.add({service.ns, service.name}, forecast->period_s);
    }
    if (const auto& twin = weights.twin) {
      recorded.add({service.ns, service.name}, twin->recorded_s);
      foreseen.add({service.ns, service.name}, 1e-3 * twin->foreseen_p99_ms);
      came.add({service.ns, service.name}, 1e-3 * twin->came_p99_ms);
      ratio.add({service.ns, service.name}, twin->ratio);
      gains.add({service.ns, service.name}, twin->in_force ? 1 : 0);
    }
    for (const EndpointWeight& endpoint : weights.endpoints) {
      decided.add({service.ns, service.name, endpoint.pod}, endpoint.decided);
      shadow.add({service.ns, service.name, endpoint.pod}, endpoint.shadow_share);
      if (endpoint.in_force != 0) {
        weight.add({service.ns, service.name, endpoint.pod}, endpoint.in_force);
      }
    }
  }
}

void Metrics::collect_agent(std::vector<Family>& families) const {
  const auto one = [&](Named name, auto value) {
    Collected(families, name).add({}, static_cast<double>(value));
  };
  rusage own{};
  ::getrusage(RUSAGE_SELF, &own);
  const auto time_s = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  one("process_cpu_seconds_total", time_s(own.ru_utime) + time_s(own.ru_stime));
  if (long pages = 0; std::FILE* statm = std::fopen("/proc/self/statm", "re")) {
    if (std::fscanf(statm, "%*d %ld", &pages) == 1) {
      one("process_resident_memory_bytes", pages * ::sysconf(_SC_PAGESIZE));
    }
    std::fclose(statm);
  }
  one("ballast_metrics_pods_left_out", left_out_);
  one("ballast_samples_total", samples_);
  one("ballast_reconcile_failures_total", reconcile_failures_);
  Collected(families, "ballast_tick_duration_seconds").add({}, kTickBounds, tick_counts_, tick_sum_s_);
  one("ballast_policy_epoch", loop_.policy_epoch);
  one("ballast_policy_version", loop_.policy_version);
  one("ballast_xds_subscribers", loop_.subscribers);
  one("ballast_acknowledgement_delay_seconds", loop_.acknowledgement_delay_s);
  Collected troubles(families, "ballast_trouble");
  for (const auto& [of, fails] : loop_.troubles) {
    troubles.add({of}, fails ? 1 : 0);
  }
  Collected disbelieved(families, "ballast_samples_disbelieved_total");
  for (const auto& [why, samples] : loop_.disbelieved) {
    disbelieved.add({why}, static_cast<double>(samples));
  }
  if (spans_) {
    one("ballast_spans_exported_total", spans_->exported);
    one("ballast_spans_dropped_total", spans_->dropped);
    one("ballast_spans_lost_total", spans_lost_);
    one("ballast_spans_failures_total", spans_->failures);
  }
  Collected events(families, "ballast_loss_events_total");
  Collected bytes(families, "ballast_loss_bytes_total");
  for (std::size_t reason = 0; reason < loss_total_.size(); ++reason) {
    const char* const name = sample::loss_reason_name(static_cast<ballast_loss_reason>(reason));
    events.add({name}, static_cast<double>(loss_total_[reason].events));
    bytes.add({name}, static_cast<double>(loss_total_[reason].bytes));
  }
  Collected entries(families, "ballast_map_entries");
  Collected most(families, "ballast_map_max_entries");
  for (const sample::MapFill& map : maps_) {
    entries.add({map.name}, static_cast<double>(map.entries));
    most.add({map.name}, static_cast<double>(map.max_entries));
  }
}

}  // namespace ballast::telemetry
