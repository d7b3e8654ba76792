// SPDX-License-Identifier: Apache-2.0
#include "agent/export/prometheus_exporter.h"

#include <utility>

#include "agent/export/metrics.h"
#include "core/base/log.h"
#include "core/http/http_server.h"
#include "core/metrics/otlp_metrics.h"

namespace ballast::telemetry {

struct PrometheusExporter::State {
  Status serve(const ExporterOptions& options);

  std::string address;
  std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>();
  std::unique_ptr<http::Server> server;
  std::unique_ptr<metrics::OtlpSender> push;
};

Status PrometheusExporter::State::serve(const ExporterOptions& options) {
  Result<ListenAddress> parsed = parse_listen_address(options.address, options.allow_remote);
  if (!parsed) {
    return parsed.error().in("metrics");
  }
  auto started = http::Server::start(
      *parsed, {options.tls_certificate, options.tls_key}, [metrics = metrics](const http::Request& request) {
        return request.path == "/metrics" ? metrics::scraped(metrics->collect(), request.accept)
                                          : http::Response{.status = 404, .body = "there is /metrics\n"};
      });
  if (!started) {
    return started.error().in("metrics");
  }
  server = std::move(*started);
  address = server->address().text();
  spdlog::info("serving metrics address={} path=/metrics tls={}", address, !options.tls_certificate.empty());
  return ok();
}

Result<std::unique_ptr<PrometheusExporter>> PrometheusExporter::listen(const ExporterOptions& options) {
  auto state = std::make_unique<State>();
  if (Status served = options.address.empty() && !options.otlp.empty() ? ok() : state->serve(options);
      !served) {
    return served.error();
  }
  if (!options.otlp.empty()) {
    auto push = metrics::push_metrics(options.otlp, options.otlp_every, "ballastd", options.node,
                                      [metrics = state->metrics] { return metrics->collect(); });
    if (!push) {
      return push.error().in("metrics_otlp");
    }
    state->push = std::move(*push);
  }
  return std::unique_ptr<PrometheusExporter>(new PrometheusExporter(std::move(state)));
}

std::string PrometheusExporter::definitions() {
  return metrics::metric_rows(Metrics::definitions());
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

void PrometheusExporter::set_users(std::map<spec::ServiceId, double> users) {
  state_->metrics->set_users(std::move(users));
}

void PrometheusExporter::set_decision(const turn::Decision& decision) {
  state_->metrics->set_decision(decision);
}

void PrometheusExporter::withdraw(const spec::ServiceId& service) {
  state_->metrics->withdraw(service);
}

}  // namespace ballast::telemetry
