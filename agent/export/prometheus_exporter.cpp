// SPDX-License-Identifier: Apache-2.0
#include "agent/export/prometheus_exporter.h"

#include <chrono>
#include <utility>

#include "agent/export/metrics.h"
#include "agent/export/otlp_metrics.h"
#include "core/base/log.h"

namespace ballast::telemetry {

struct PrometheusExporter::State {
  Status serve(const ExporterOptions& options);

  std::string address;
  std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>();
  std::unique_ptr<MetricsServer> server;
  std::unique_ptr<OtlpSender> push;
};

Status PrometheusExporter::State::serve(const ExporterOptions& options) {
  Result<ListenAddress> parsed = parse_listen_address(options.address, options.allow_remote);
  if (!parsed) {
    return parsed.error().in("metrics");
  }
  if (!parsed->unix_path.empty()) {
    return Error::usage("metrics: address '" + options.address +
                        "': Prometheus needs IP:PORT, not a unix socket");
  }
  // The server says only that it could not start.
  if (Status free = check_listen_address(*parsed); !free) {
    return free.error().in("metrics");
  }
  auto started = MetricsServer::start(*parsed, options.tls, [metrics = metrics](bool open_metrics) {
    return exposition(metrics->collect(), open_metrics);
  });
  if (!started) {
    return started.error().in("metrics");
  }
  server = std::move(*started);
  parsed->port = static_cast<std::uint16_t>(server->port());
  address = parsed->text();
  spdlog::info("serving metrics address={} path=/metrics tls={}", address, !options.tls.certificate.empty());
  return ok();
}

Result<std::unique_ptr<PrometheusExporter>> PrometheusExporter::listen(const ExporterOptions& options) {
  auto state = std::make_unique<State>();
  if (Status served = options.address.empty() && !options.otlp.empty() ? ok() : state->serve(options);
      !served) {
    return served.error();
  }
  if (!options.otlp.empty()) {
    const auto wall = [] {
      return static_cast<std::uint64_t>(
          std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count());
    };
    auto push = push_metrics(options.otlp, options.otlp_every,
                             [metrics = state->metrics, node = options.node, wall, start = wall()] {
                               return otlp_metrics_json(metrics->collect(), "ballastd", node, start, wall());
                             });
    if (!push) {
      return push.error().in("metrics_otlp");
    }
    state->push = std::move(*push);
  }
  return std::unique_ptr<PrometheusExporter>(new PrometheusExporter(std::move(state)));
}

std::string PrometheusExporter::definitions() {
  return metric_rows(Metrics::definitions());
}

PrometheusExporter::PrometheusExporter(std::unique_ptr<State> state) : state_(std::move(state)) {}
PrometheusExporter::~PrometheusExporter() = default;

const std::string& PrometheusExporter::address() const {
  return state_->address;
}

void PrometheusExporter::observe(const sample::Sample& sample, const std::vector<identity::Pod>& pods,
                                 const LoopMetrics& loop) {
  state_->metrics->observe(sample, pods, loop);
}

void PrometheusExporter::learn(std::span<const ExportSpan> spans, bool exported) {
  state_->metrics->learn(spans, exported);
}

void PrometheusExporter::set_spans(const OtlpCounts& counts, std::uint64_t lost) {
  state_->metrics->set_spans(counts, lost);
}

void PrometheusExporter::set_routes(std::map<spec::ServiceId, RouteStats::Service> routes) {
  state_->metrics->set_routes(std::move(routes));
}

void PrometheusExporter::set_decision(const turn::Decision& decision) {
  state_->metrics->set_decision(decision);
}

void PrometheusExporter::withdraw(const spec::ServiceId& service) {
  state_->metrics->withdraw(service);
}

}  // namespace ballast::telemetry
