// SPDX-License-Identifier: Apache-2.0
#include "agent/export/prometheus_exporter.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <prometheus/exposer.h>
#include <sys/socket.h>

#include <chrono>
#include <exception>
#include <thread>
#include <tuple>

#include "agent/export/metrics.h"
#include "agent/export/otlp_metrics.h"
#include "core/base/listen_address.h"
#include "core/base/log.h"
#include "core/base/unique_fd.h"

namespace ballast::telemetry {

namespace {

void knock(const ListenAddress& address) {
  UniqueFd fd(::socket(address.ipv6 ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (address.ipv6) {
    sockaddr_in6 name{};
    name.sin6_family = AF_INET6;
    name.sin6_port = htons(address.port);
    ::inet_pton(AF_INET6, address.host.c_str(), &name.sin6_addr);
    std::ignore = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name);
  } else {
    sockaddr_in name{};
    name.sin_family = AF_INET;
    name.sin_port = htons(address.port);
    ::inet_pton(AF_INET, address.host.c_str(), &name.sin_addr);
    std::ignore = ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&name), sizeof name);
  }
}

}  // namespace

struct PrometheusExporter::State {
  State() = default;
  Status serve(const ExporterOptions& options);
  State(const State&) = delete;
  State& operator=(const State&) = delete;
  ~State() {
    push.reset();
    if (!exposer) {
      return;
    }
    // civetweb looks at its stop flag when a connection comes, or every two seconds: long enough to
    // be in the way of a restart.
    const std::jthread waker([this](const std::stop_token& stopped) {
      while (!stopped.stop_requested()) {
        knock(bound);
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
      }
    });
    exposer.reset();
  }

  ListenAddress bound;
  std::string address;
  std::shared_ptr<Metrics> metrics = std::make_shared<Metrics>();
  std::unique_ptr<prometheus::Exposer> exposer;
  std::unique_ptr<OtlpMetricsPush> push;
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
  // civetweb says only that it could not start.
  if (Status free = check_listen_address(*parsed); !free) {
    return free.error().in("metrics");
  }
  try {
    // Two threads: a scraper that hangs does not keep the next one out.
    exposer = std::make_unique<prometheus::Exposer>(parsed->text(), 2);
    parsed->port = static_cast<std::uint16_t>(exposer->GetListeningPorts().at(0));
  } catch (const std::exception& refused) {
    return Error::failed("metrics: cannot listen on " + parsed->text() + ": " + refused.what());
  }
  exposer->RegisterCollectable(metrics);
  bound = *parsed;
  address = parsed->text();
  spdlog::info("serving metrics address={} path=/metrics", address);
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
    auto push = OtlpMetricsPush::start(options.otlp, options.otlp_every,
                                       [metrics = state->metrics, node = options.node, wall, start = wall()] {
                                         return otlp_metrics_json(metrics->Collect(), Metrics::definitions(),
                                                                  node, start, wall());
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
