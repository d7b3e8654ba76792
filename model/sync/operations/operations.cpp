// SPDX-License-Identifier: Apache-2.0
#include "model/sync/operations/operations.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "core/base/listen_address.h"
#include "core/metrics/otlp_metrics.h"
#include "core/spec/gains.h"

namespace ballast::sync {

namespace {

using metrics::Metric;

constexpr auto kTauLimits = [] {
  std::array<double, kTauBounds.size()> out{};
  std::ranges::copy(kTauBounds, out.begin());
  return out;
}();
constexpr std::chrono::milliseconds kPushEvery{15'000};
constexpr std::size_t kNamedServices = 20;

/// Labels and help are literals.
class Families {
 public:
  Families() = default;
  Families(Families&&) = default;  // what the families point at stays where it is
  Families& operator=(Families&&) = default;
  ~Families() = default;
  void gauge(std::string name, std::string_view help, double value) {
    add(std::move(name), {{}, Metric::Type::kGauge, "", help}).push_back({.value = value});
  }
  void counter(std::string name, std::string_view help, std::uint64_t value) {
    add(std::move(name), {{}, Metric::Type::kCounter, "", help})
        .push_back({.value = static_cast<double>(value)});
  }
  template <typename Counts, typename Name>
  void counters(std::string name, std::string_view help, const Counts& counts, std::size_t from,
                Name name_of) {
    auto& series = add(std::move(name), {{}, Metric::Type::kCounter, "reason", help});
    for (std::size_t i = from; i < counts.size(); ++i) {
      series.push_back({.labels = {{"reason", name_of(i)}}, .value = static_cast<double>(counts[i])});
    }
  }
  void tau(const GlobalStats& stats) {
    add("ballast_global_staleness_versions",
        {{}, Metric::Type::kHistogram, "", "Versions that accepted gradients lagged behind"})
        .push_back({.bounds = kTauLimits,
                    .counts = {stats.tau.begin(), stats.tau.end()},
                    .sum = static_cast<double>(stats.tau_sum)});
  }
  void promotion(const std::string& prefix, const PromotionStats& p) {
    gauge(prefix + "released_version", "Version that all may act with",
          static_cast<double>(p.released.version));
    gauge(prefix + "canaries", "Workers that try newer parameters", static_cast<double>(p.canaries));
    counter(prefix + "promotions_total", "Trials after which parameters were released", p.promoted);
    gauge(prefix + "canary_objective", "Mean reward of the workers that try newer parameters",
          p.canary_objective);
    gauge(prefix + "rest_objective", "Mean reward of the others meanwhile", p.rest_objective);
    counter(prefix + "returns_total", "Trials after which parameters were given up", p.returned);
  }
  const std::vector<metrics::Family>& families() const { return families_; }
  std::string definitions() const {
    return metrics::metric_rows(std::vector<Metric>(metrics_.begin(), metrics_.end()));
  }

 private:
  std::vector<metrics::Series>& add(std::string name, Metric metric) {
    metric.name = names_.emplace_back(std::move(name));
    families_.push_back({.metric = &metrics_.emplace_back(metric), .series = {}});
    return families_.back().series;
  }
  std::deque<std::string> names_;
  std::deque<Metric> metrics_;
  std::vector<metrics::Family> families_;
};

/// Over the nodes that told something: their mean squares, each node the same.
std::pair<double, double> forecast_errors(const GlobalStatus& s) {
  double error = 0, as_now = 0, nodes = 0;
  for (const WorkerRecord& worker : s.forecast_workers) {
    if (worker.learned_from.samples > 0) {
      error += static_cast<double>(worker.learned_from.error);
      as_now += static_cast<double>(worker.learned_from.as_now);
      ++nodes;
    }
  }
  return {error / std::max(nodes, 1.0), as_now / std::max(nodes, 1.0)};
}

/// Over all services.
GlobalStats gains_counts(const GlobalStatus& s) {
  GlobalStats sum;
  for (const auto& one : s.gains) {
    for (std::size_t i = 0; i < kVerdicts; ++i) {
      sum.verdicts[i] += one.stats.verdicts[i];
    }
    sum.quarantined += one.stats.quarantined;
  }
  return sum;
}

nlohmann::ordered_json rejected_json(const GlobalStats& stats) {
  nlohmann::ordered_json rejected;
  for (std::size_t i = 1; i < kVerdicts; ++i) {
    rejected[to_string(static_cast<Verdict>(i))] = stats.verdicts[i];
  }
  return rejected;
}

/// The gains of the services that most workers learn; the counts are over all.
nlohmann::ordered_json gains_json(const GlobalStatus& s) {
  std::vector<const GainsNetworks::One*> order;
  for (const auto& one : s.gains) {
    order.push_back(&one);
  }
  std::ranges::stable_sort(order, std::greater(), [](const auto* one) { return one->stats.workers; });
  order.resize(std::min<std::size_t>(order.size(), kNamedServices));
  nlohmann::ordered_json services = nlohmann::ordered_json::array();
  for (const auto* one : order) {
    nlohmann::ordered_json gains;
    for (std::size_t i = 0; i < one->gains.size() && i < spec::kGains; ++i) {
      gains[std::string(spec::kGainNames[i])] = one->gains[i];
    }
    services.push_back({{"service", one->service},
                        {"epoch", one->stats.version.epoch},
                        {"version", one->stats.version.version},
                        {"workers_pushing", one->stats.workers},
                        {"gains", gains}});
  }
  const GlobalStats counts = gains_counts(s);
  return {{"services", s.gains.size()},
          {"accepted", counts.verdicts[0]},
          {"rejected", rejected_json(counts)},
          {"workers_quarantined", counts.quarantined},
          {"of", services}};
}

nlohmann::ordered_json worker_json(const WorkerRecord& w) {
  return {{"worker", w.id},         {"version", w.acted},           {"accepted", w.accepted},
          {"rejected", w.rejected}, {"quarantines", w.quarantines}, {"quarantined_s", w.quarantined_s},
          {"idle_s", w.idle_s},     {"last_bad", w.last_bad}};
}

nlohmann::ordered_json promotion_json(const PromotionStats& p) {
  return {{"on", p.on},
          {"released", p.released.version},
          {"trial", p.trial},
          {"canaries", p.canaries},
          {"canary_nodes", p.canary_nodes},
          {"promoted", p.promoted},
          {"returned", p.returned},
          {"canary_objective", p.canary_objective},
          {"rest_objective", p.rest_objective},
          {"canary_reports", p.canary_reports},
          {"rest_reports", p.rest_reports}};
}

Families families(const GlobalStatus& s) {
  Families out;
  out.gauge("ballast_global_leader", "1 while this replica leads", s.leader ? 1 : 0);
  out.gauge("ballast_global_ready", "1 while it leads and serves", s.ready ? 1 : 0);
  out.gauge("ballast_global_epoch", "Epoch of the parameters", static_cast<double>(s.network.version.epoch));
  out.gauge("ballast_global_version", "Version of the parameters",
            static_cast<double>(s.network.version.version));
  out.gauge("ballast_global_version_age_seconds", "Since the last version was made", s.network.version_age_s);
  out.counter("ballast_global_gradients_accepted_total", "Gradients taken in", s.network.verdicts[0]);
  out.counters("ballast_global_gradients_rejected_total", "Gradients refused, by reason", s.network.verdicts,
               1, [](std::size_t i) { return to_string(static_cast<Verdict>(i)); });
  out.counter("ballast_global_gradients_clipped_total", "Gradients shortened", s.network.clipped);
  out.tau(s.network);
  out.gauge("ballast_global_gradient_norm_median", "Of the last accepted gradients", s.network.norm_median);
  out.gauge("ballast_global_batch_size", "K of the batch that fills", static_cast<double>(s.network.batch));
  out.gauge("ballast_global_batch_buffered", "Gradients that wait in it",
            static_cast<double>(s.network.buffered));
  out.gauge("ballast_global_batch_age_seconds", "Of the oldest gradient that waits", s.network.batch_age_s);
  out.gauge("ballast_global_workers", "Workers that pushed lately", static_cast<double>(s.network.workers));
  out.gauge("ballast_global_workers_quarantined", "Workers shut out now",
            static_cast<double>(s.network.quarantined));
  out.counter("ballast_global_quarantines_total", "How often a worker was shut out", s.network.quarantines);
  out.gauge("ballast_global_streams", "Open streams", static_cast<double>(s.server.workers));
  out.counter("ballast_global_streams_total", "Streams opened", s.server.streams);
  out.counters("ballast_global_streams_ended_total", "Streams that the server ended, by reason",
               s.server.ended, 0, [](std::size_t i) { return to_string(static_cast<Ended>(i)); });
  out.counter("ballast_global_messages_total", "Messages answered", s.server.messages);
  out.counter("ballast_global_messages_unchanged_total", "Of them without parameters: the worker held them",
              s.server.unchanged);
  out.counter("ballast_global_received_bytes_total", "Bytes of messages read", s.server.bytes_in);
  out.counter("ballast_global_sent_bytes_total", "Bytes of messages written", s.server.bytes_out);
  out.promotion("ballast_global_", s.server.promotion);
  out.gauge("ballast_global_forecast_version", "Version of the forecast's parameters",
            static_cast<double>(s.forecast.version.version));
  out.promotion("ballast_global_forecast_", s.server.forecast_promotion);
  out.counter("ballast_global_forecast_gradients_accepted_total", "Gradients of the forecast taken in",
              s.forecast.verdicts[0]);
  out.counters("ballast_global_forecast_gradients_rejected_total",
               "Gradients of the forecast refused, by reason", s.forecast.verdicts, 1,
               [](std::size_t i) { return to_string(static_cast<Verdict>(i)); });
  out.gauge("ballast_global_forecast_workers", "Workers that pushed gradients of the forecast lately",
            static_cast<double>(s.forecast.workers));
  const auto [error, as_now] = forecast_errors(s);
  out.gauge("ballast_global_forecast_error",
            "Mean square of the forecast - came, of what was not learned from yet, over the nodes", error);
  out.gauge("ballast_global_forecast_error_as_now", "The same of \"as it is now\"", as_now);
  out.gauge("ballast_global_gains_services", "Services whose gains are learned together",
            static_cast<double>(s.gains.size()));
  const GlobalStats gains = gains_counts(s);
  out.counter("ballast_global_gains_gradients_accepted_total", "Gradients of gains taken in",
              gains.verdicts[0]);
  out.counters("ballast_global_gains_gradients_rejected_total", "Gradients of gains refused, by reason",
               gains.verdicts, 1, [](std::size_t i) { return to_string(static_cast<Verdict>(i)); });
  const fleet::FleetRegistryStats& f = s.server.fleet;
  out.counter("ballast_fleet_reports_accepted_total", "Nodes' reports taken in", f.verdicts[0]);
  out.counters("ballast_fleet_reports_refused_total", "Nodes' reports refused, by reason", f.verdicts, 1,
               [](std::size_t i) { return fleet::to_string(static_cast<fleet::ReportVerdict>(i)); });
  out.counter("ballast_fleet_endpoints_not_finite_total", "Endpoints left out of a report: not finite",
              f.not_finite);
  out.counter("ballast_fleet_endpoints_claimed_total",
              "Endpoints left out of a report: another node that lives has them", f.claimed);
  out.counter("ballast_fleet_endpoints_foreign_total",
              "Endpoints left out of a report: they are not on the node that reported them",
              s.server.foreign);
  out.gauge("ballast_fleet_nodes", "Nodes that report now", static_cast<double>(f.nodes));
  out.gauge("ballast_fleet_endpoints", "Endpoints that they report", static_cast<double>(f.endpoints));
  out.gauge("ballast_fleet_services", "Services of these", static_cast<double>(f.services));
  out.gauge("ballast_fleet_oldest_report_seconds", "Age of the node's report that is oldest", f.oldest_s);
  out.gauge("ballast_global_checkpoint_age_seconds", "Since the last checkpoint", s.checkpoint_age_s);
  out.counter("ballast_global_checkpoint_failures_total", "Checkpoints that could not be written",
              s.checkpoint_failures);
  return out;
}

}  // namespace

http::Response metrics_answer(const GlobalStatus& s, const std::string& accept) {
  return metrics::scraped(families(s).families(), accept);
}

std::string metric_definitions() {
  return families({}).definitions();
}

std::string status_json(const GlobalStatus& s) {
  using nlohmann::ordered_json;
  ordered_json ended;
  for (std::size_t i = 0; i < kEnded; ++i) {
    ended[to_string(static_cast<Ended>(i))] = s.server.ended[i];
  }
  ordered_json refused;
  for (std::size_t i = 1; i < fleet::kReportVerdicts; ++i) {
    refused[fleet::to_string(static_cast<fleet::ReportVerdict>(i))] = s.server.fleet.verdicts[i];
  }
  ordered_json workers = ordered_json::array();
  for (const auto& w : s.workers) {
    workers.push_back(worker_json(w));
  }
  ordered_json nodes = ordered_json::array();
  for (const auto& w : s.forecast_workers) {
    ordered_json node = worker_json(w);
    node["samples"] = w.learned_from.samples;
    node["span_s"] = w.learned_from.span_s;
    node["error"] = w.learned_from.error;
    node["error_as_now"] = w.learned_from.as_now;
    node["twin_s"] = w.learned_from.twin_s;
    node["twin_foreseen_p99_ms"] = w.learned_from.foreseen_p99_ms;
    node["twin_came_p99_ms"] = w.learned_from.came_p99_ms;
    node["twin_gains"] = w.learned_from.gains;
    nodes.push_back(std::move(node));
  }
  const auto [error, as_now] = forecast_errors(s);
  const ordered_json out = {
      {"leader", s.leader},
      {"ready", s.ready},
      {"address", s.address},
      {"epoch", s.network.version.epoch},
      {"version", s.network.version.version},
      {"version_age_s", s.network.version_age_s},
      {"accepted", s.network.verdicts[0]},
      {"rejected", rejected_json(s.network)},
      {"clipped", s.network.clipped},
      {"staleness_median", s.network.tau_median},
      {"norm_median", s.network.norm_median},
      {"batch",
       {{"size", s.network.batch}, {"buffered", s.network.buffered}, {"age_s", s.network.batch_age_s}}},
      {"workers_pushing", s.network.workers},
      {"workers_quarantined", s.network.quarantined},
      {"streams", s.server.workers},
      {"messages", s.server.messages},
      {"unchanged", s.server.unchanged},
      {"ended", ended},
      {"promotion", promotion_json(s.server.promotion)},
      {"fleet",
       {{"nodes", s.server.fleet.nodes},
        {"endpoints", s.server.fleet.endpoints},
        {"services", s.server.fleet.services},
        {"accepted", s.server.fleet.verdicts[0]},
        {"refused", refused},
        {"not_finite", s.server.fleet.not_finite},
        {"claimed", s.server.fleet.claimed},
        {"foreign", s.server.foreign},
        {"oldest_s", s.server.fleet.oldest_s}}},
      {"checkpoint_age_s", s.checkpoint_age_s},
      {"checkpoint_failures", s.checkpoint_failures},
      {"workers", workers},
      {"gains", gains_json(s)},
      {"forecast",
       {{"epoch", s.forecast.version.epoch},
        {"version", s.forecast.version.version},
        {"version_age_s", s.forecast.version_age_s},
        {"released", s.server.forecast_promotion.released.version},
        {"promotion", promotion_json(s.server.forecast_promotion)},
        {"accepted", s.forecast.verdicts[0]},
        {"rejected", rejected_json(s.forecast)},
        {"staleness_median", s.forecast.tau_median},
        {"workers_pushing", s.forecast.workers},
        {"workers_quarantined", s.forecast.quarantined},
        {"error", error},
        {"error_as_now", as_now},
        {"nodes", nodes}}}};
  return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

Result<std::unique_ptr<http::Server>> serve_operations(const std::string& address, bool beyond_loopback,
                                                       std::function<GlobalStatus()> status) {
  const auto parsed = parse_listen_address(address, beyond_loopback);
  if (!parsed) {
    return parsed.error();
  }
  return http::Server::start(
      *parsed, {}, [status = std::move(status)](const http::Request& request) -> http::Response {
        if (request.path == "/healthz") {
          return {.body = "alive\n"};
        }
        const GlobalStatus now = status();
        if (request.path == "/metrics") {
          return metrics_answer(now, request.accept);
        }
        if (request.path == "/status") {
          return {.type = "application/json", .body = status_json(now)};
        }
        if (request.path == "/readyz") {
          return now.ready ? http::Response{.body = "ready\n"}
                           : http::Response{.status = 503,
                                            .body = now.leader ? "not ready: not listening\n"
                                                               : "not ready: a follower\n"};
        }
        return {.status = 404, .body = "there are /metrics, /status, /healthz and /readyz\n"};
      });
}

Result<std::unique_ptr<metrics::OtlpSender>> push_operations(const std::string& endpoint,
                                                             std::function<GlobalStatus()> status) {
  // The families point into what they came with.
  auto held = std::make_shared<Families>();
  return metrics::push_metrics(endpoint, kPushEvery, "ballast-global", "",
                               [held, status = std::move(status)] {
                                 *held = families(status());
                                 return held->families();
                               });
}

}  // namespace ballast::sync
