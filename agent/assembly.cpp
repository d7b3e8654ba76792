// SPDX-License-Identifier: Apache-2.0
#include "assembly.h"

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <optional>
#include <random>
#include <utility>

#include "agent/actuate/istio/istio_sink.h"
#include "agent/actuate/make_sink.h"
#include "agent/fleet/remote.h"
#include "agent/identity/cgroup_path_source.h"
#include "agent/identity/kubernetes_source.h"
#include "agent/identity/static_file.h"
#include "agent/identity/static_source.h"
#include "core/base/file.h"
#include "model/sync/client/fleet_client.h"

namespace ballast::assembly {
namespace {

namespace fs = std::filesystem;

decide::LearnedOptions learned_options(const config::Config& c) {
  decide::LearnedOptions options;
  options.prior.gate = {c.gate.leave_ratio,
                        c.gate.return_ratio,
                        c.gate.leave_spread,
                        c.gate.return_spread,
                        c.gate.leave_ticks,
                        c.gate.return_ticks,
                        c.gate.single_subscriber_leaves,
                        c.gate.level_spread};
  options.prior.filter = {c.prior.time_constant_s, c.prior.confirm_step, c.prior.immediate_step};
  options.prior.square_root = c.prior.square_root;
  options.margin = c.learner.margin;
  // Exploring costs requests: only where somebody learns from it.
  options.epsilon = c.learner.socket.empty() ? 0 : c.learner.exploration;
  options.temperature = c.learner.temperature;
  options.seed = std::random_device{}();
  return options;
}

guard::Mode mode_of(config::Mode mode) {
  switch (mode) {
    case config::Mode::kShadow:
      return guard::Mode::kShadow;
    case config::Mode::kActive:
      return guard::Mode::kActive;
    case config::Mode::kOff:
      break;
  }
  return guard::Mode::kOff;
}

Result<kube::ClientOptions> api_options(const config::Config& c) {
  if (c.kubernetes.server.empty()) {
    return kube::in_cluster();
  }
  kube::ClientOptions options;
  options.server = c.kubernetes.server;
  options.ca_file = c.kubernetes.ca_file;
  options.token_file = c.kubernetes.token_file;
  return options;
}

std::string node_of(const config::Config& c) {
  const char* named = std::getenv("NODE_NAME");
  return !c.kubernetes.node.empty() ? c.kubernetes.node : named != nullptr ? named : "";
}

std::string fleet_node(const config::Config& c) {
  if (!c.fleet.node.empty()) {
    return c.fleet.node;
  }
  const std::string node = node_of(c);
  char host[256] = {};
  return !node.empty() ? node : ::gethostname(host, sizeof host - 1) == 0 ? host : "";
}

sync::TlsFiles fleet_tls(const config::Config& c) {
  return {c.fleet.tls_cert, c.fleet.tls_key, c.fleet.tls_ca};
}

}  // namespace

loop::LoopOptions loop_options(const config::Config& c) {
  loop::LoopOptions options;
  options.tick = std::chrono::milliseconds(c.tick_ms);
  options.mode = mode_of(c.mode);
  options.observer.window_s = c.window_s;
  options.guard = {
      options.mode,          c.guard.floor,           c.guard.cap,   c.guard.max_step,   c.guard.deadband,
      c.guard.stale_after_s, c.guard.neutral_after_s, c.guard.blend, c.guard.trip_ratio, c.guard.trip_windows,
      c.guard.window_s};
  options.reward = {static_cast<float>(c.reward.p50), static_cast<float>(c.reward.p99),
                    static_cast<float>(c.reward.errors), static_cast<float>(c.reward.imbalance),
                    static_cast<float>(c.reward.churn)};
  options.rollout_steps = static_cast<std::size_t>(c.learner.rollout_steps);
  return options;
}

std::string sink_text(const config::Sink& sink) {
  switch (sink.kind) {
    case config::SinkKind::kFile:
      return "file:" + sink.target;
    case config::SinkKind::kXds:
      return "xds:" + sink.target;
    case config::SinkKind::kIstio:
      return "istio";
    case config::SinkKind::kDryRun:
      break;
  }
  return "dry-run";
}

Result<std::unique_ptr<actuate::WeightSink>> make_sink(const config::Config& c) {
  if (c.sink.kind != config::SinkKind::kIstio) {
    return actuate::make_sink(sink_text(c.sink), {});
  }
  auto api = api_options(c);
  if (!api) {
    return api.error();
  }
  actuate::IstioOptions options;
  options.api = std::move(*api);
  // Told apart from our predecessor on this node, which may have died with the Lease in hand.
  options.lease = {c.kubernetes.ns, c.kubernetes.lease,
                   fmt::format("{}_{:08x}", node_of(c), std::random_device{}()),
                   c.kubernetes.lease_duration_s};
  options.active = c.mode == config::Mode::kActive;
  options.cluster_domain = c.kubernetes.cluster_domain;
  options.weights_per_s = c.kubernetes.weights_per_s;
  auto sink = actuate::IstioSink::create(std::move(options));
  return sink ? Result<std::unique_ptr<actuate::WeightSink>>(std::move(*sink))
              : Result<std::unique_ptr<actuate::WeightSink>>(sink.error());
}

std::unique_ptr<fleet::Fleet> make_fleet(const config::Config& c) {
  if (c.fleet.remote.empty()) {
    return nullptr;
  }
  sync::FleetClientOptions options;
  options.address = c.fleet.remote;
  options.node_id = fleet_node(c);
  options.tls = fleet_tls(c);
  options.server_name = c.fleet.server_name;
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::duration<double>(c.fleet.max_age_s));
  return std::make_unique<fleet::RemoteFleet>(
      fleet::RemoteOptions{.interval = std::chrono::milliseconds(c.fleet.interval_ms),
                           .longest_age = ms,
                           .adopt_members = c.identity.kind == config::IdentityKind::kKubernetes},
      sync::FleetClient::start(options));
}

Result<loop::ActingPolicy> make_policy(const config::Config& c) {
  std::optional<std::string> parameters;
  if (!c.policy.parameters.empty()) {
    auto bytes = read_file(c.policy.parameters);
    if (!bytes) {
      return Error::usage("policy.parameters: " + bytes.error().message);
    }
    parameters = std::move(*bytes);
  }
  const auto kind = c.policy.kind == config::PolicyKind::kNeutral   ? loop::PolicyKind::kNeutral
                    : c.policy.kind == config::PolicyKind::kLearned ? loop::PolicyKind::kLearned
                                                                    : loop::PolicyKind::kPrior;
  auto policy = loop::ActingPolicy::create(kind, learned_options(c), parameters);
  return policy ? std::move(policy)
                : Result<loop::ActingPolicy>(
                      policy.error().in("policy.parameters: " + c.policy.parameters.string()));
}

Result<std::unique_ptr<identity::IdentitySource>> make_identity(const config::Config& c,
                                                                const fs::path& cgroup_root,
                                                                const Clock& clock) {
  if (c.identity.kind == config::IdentityKind::kNone) {
    return std::unique_ptr<identity::IdentitySource>(std::make_unique<identity::CgroupPathSource>(
        identity::CgroupPathOptions{.cgroup_root = cgroup_root}, clock));
  }
  if (c.identity.kind == config::IdentityKind::kKubernetes) {
    auto api = api_options(c);
    if (!api) {
      return api.error();
    }
    auto kubernetes = identity::KubernetesSource::create(
        {.api = std::move(*api), .node = node_of(c), .cgroup_root = cgroup_root}, clock);
    return kubernetes ? Result<std::unique_ptr<identity::IdentitySource>>(std::move(*kubernetes))
                      : Result<std::unique_ptr<identity::IdentitySource>>(kubernetes.error());
  }
  auto source = identity::StaticSource::open(c.identity.file, cgroup_root);
  if (!source) {
    return source.error();
  }
  return std::unique_ptr<identity::IdentitySource>(std::move(*source));
}

Result<std::unique_ptr<loop::SpanExport>> make_span_export(const config::Config& c) {
  if (c.spans.every == 0 || c.spans.otlp.empty()) {
    return std::unique_ptr<loop::SpanExport>();
  }
  auto opened = sample::PinnedMaps::open(c.bpffs);
  if (!opened) {
    return opened.error();
  }
  auto exporter = telemetry::OtlpExporter::start({.endpoint = c.spans.otlp});
  if (!exporter) {
    return exporter.error().in("spans.otlp");
  }
  const auto maps = std::make_shared<const sample::PinnedMaps>(std::move(*opened));
  return std::make_unique<loop::SpanExport>(sample::SpanReader([maps] { return maps->spans(); }),
                                            std::move(*exporter));
}

Status check_files(const config::Config& c) {
  if (const auto policy = make_policy(c); !policy) {
    return policy.error();
  }
  if (auto tls = sync::check_tls_files(fleet_tls(c)); !tls) {
    return tls.error().in("fleet");
  }
  if (c.identity.kind == config::IdentityKind::kNone) {
    return ok();
  }
  if (c.identity.kind == config::IdentityKind::kKubernetes) {
    const auto api = api_options(c);
    return api ? ok() : Status(api.error().in("identity"));
  }
  const auto text = read_file(c.identity.file);
  if (!text) {
    return Error::usage("identity: " + text.error().message);
  }
  const auto pods = identity::parse_static_pods(*text, c.identity.file.string());
  return pods ? ok() : Status(pods.error().in("identity"));
}

}  // namespace ballast::assembly
